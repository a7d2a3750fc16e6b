//! A second command in a running container, with all its walls, as `docker exec` starts one.
//!
//! ```sh
//! cargo run --quiet --package stage5-net --example exec -- PID [COMMAND]...
//! ```
//!
//! PID is the container's process, which the stage shows above the prompt. `nsenter` would only enter the
//! namespaces: its command keeps all capabilities, and no filter refuses system calls. This does what stage 5
//! does before its command, in the same order.
//!
//! Between looking at a pid and using it, the process can end, and the kernel can give its number to another
//! one. So the pid is used once, for pidfd_open(2), and setns(2) takes the pidfd.
#![forbid(unsafe_code)]

use common::beyond::join::{self, Entrance};
use common::namespaces::{NEWCGROUP, NEWIPC, NEWNET, NEWNS, NEWPID, NEWUSER, NEWUTS};
use common::process::{self, Exit};
use common::{Command, Result, cli, confine, idmap, terminal};
use nix::sched::CloneFlags;
use nix::unistd::Pid;
use std::process::ExitCode;

/// A second command in a running container
#[derive(clap::Parser)]
#[command(name = "exec", version)]
struct Args {
    /// The container's process, as the host numbers it
    pid: i32,
    #[command(flatten)]
    idmap: idmap::Options,
    #[command(flatten)]
    confine: confine::Options,
    #[command(flatten)]
    command: Command,
}

fn host(args: &Args) -> Result<Exit> {
    let terminal = terminal::open_for(args.confine.is_bare())?;
    let container = Entrance::of(Pid::from_raw(args.pid))?;
    // The user namespace first: it gives the rights for the others. A PID namespace needs a new process.
    container.enter(NEWUSER | NEWPID)?;
    let child = process::clone(CloneFlags::empty(), || {
        container.enter(NEWUTS | NEWNS | NEWNET | NEWIPC | NEWCGROUP)?;
        join::become_root(&args.idmap)?; // --map auto
        terminal.enter()?;
        args.confine.drop_privileges()?;
        args.command.exec()
    })?;
    args.confine.supervisor(&args.idmap)?;
    child.run_with(terminal)
}

fn main() -> ExitCode {
    cli::main(host)
}

//! # Stage 3: processes
//!
//! - Slide: *PID Namespace*
//! - By hand: `unshare -uUrpf --mount-proc /bin/sh`, then `ps -fu`; `scripts/by-hand/3-pid.sh`
//! - Manual: pid_namespaces(7), mount_namespaces(7), proc(5)
//! - New: the command is PID 1. A mount namespace, for a /proc that shows only the container's processes
#![forbid(unsafe_code)]

use common::namespaces::{NEWNS, NEWPID, NEWUSER, NEWUTS};
use common::process::{self, Exit};
use common::{Command, Result, cli, confine, idmap, mount, uts};
use std::{convert::Infallible, process::ExitCode};

/// A container with its own hostname, users and processes
#[derive(clap::Parser)]
#[command(version, before_help = "By hand: unshare -uUrpf --mount-proc /bin/sh")]
pub struct Args {
    #[command(flatten)]
    uts: uts::Options,
    #[command(flatten)]
    idmap: idmap::Options,
    #[command(flatten)]
    mount: mount::Options,
    #[command(flatten)]
    command: Command,
}

/// Outside: creates the container's process, and waits for its end.
fn host(args: &Args) -> Result<Exit> {
    let child = process::clone(NEWUTS | NEWUSER | NEWPID | NEWNS, || container(args))?;
    idmap::map_root_user(child.pid(), &args.idmap)?;
    confine::warn_if_privileged(&args.idmap);
    child.run()
}

/// Inside: what happens in the new namespaces, up to the command.
fn container(args: &Args) -> Result<Infallible> {
    process::become_root(&args.idmap)?; // --map auto
    uts::sethostname(&args.uts)?;
    mount::propagation(&args.mount)?;
    mount::proc("/proc")?;
    args.command.exec()
}

fn main() -> ExitCode {
    cli::main(host)
}

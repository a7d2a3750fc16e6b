//! # Stage 3: processes of its own
//!
//! - Slide: *PID Namespace*
//! - By hand: `unshare -uUrpf --mount-proc /bin/sh`, then `ps -fu`; `scripts/by-hand/3-pid.sh`
//! - Manual: pid_namespaces(7), mount_namespaces(7), proc(5)
//! - New: the command is PID 1; a mount namespace, for a /proc that shows only what is inside
#![forbid(unsafe_code)]

use common::process::{self, Command, Exit};
use common::{CloneFlags, Result, cli, confine, idmap, mount, uts};
use std::{convert::Infallible, path::Path, process::ExitCode};

/// A container with its own hostname, users and processes
#[derive(clap::Parser)]
#[command(version, before_help = "By hand: unshare -uUrpf --mount-proc /bin/sh")]
pub struct Args {
    /// The hostname inside
    #[arg(long, value_name = "NAME", default_value = "leopard", value_parser = uts::hostname)]
    hostname: String,
    /// Who the caller is inside: root or none
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    map: idmap::Map,
    /// Of mounts: private, slave, shared or unchanged
    #[arg(long, value_enum, default_value_t, hide_possible_values = true, value_name = "KIND")]
    propagation: mount::Propagation,
    #[command(flatten)]
    command: Command,
}

/// The namespaces to unshare: the talk's `Cloneflags`.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWUTS
    .union(CloneFlags::CLONE_NEWUSER)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWNS);

/// Outside: makes the container's process, and waits for its end.
fn host(args: &Args) -> Result<Exit> {
    let child = process::clone(NAMESPACES, || container(args))?;
    idmap::map_root_user(&child, args.map)?;
    confine::say_if_open();
    child.run()
}

/// Inside: what happens in the new namespaces, up to the command.
fn container(args: &Args) -> Result<Infallible> {
    uts::sethostname(&args.hostname)?;
    mount::propagation("/", args.propagation)?;
    mount::proc(Path::new("/proc"))?;
    args.command.exec()
}

fn main() -> ExitCode {
    cli::main(host)
}

//! # Stage 1: a hostname of its own
//!
//! - Slide: *UTS Namespace*
//! - By hand: `unshare -u /bin/sh`, then `hostname leopard`; `scripts/by-hand/1-uts.sh`
//! - Manual: uts_namespaces(7), clone(2), sethostname(2)
//! - New: a child process in a namespace of its own, and a parent that waits for it
#![forbid(unsafe_code)]

use common::process::{self, Command, Exit};
use common::{CloneFlags, Result, cli, uts};
use std::{convert::Infallible, process::ExitCode};

/// A container with its own hostname
#[derive(clap::Parser)]
#[command(version, before_help = "By hand: unshare -u /bin/sh")]
pub struct Args {
    /// The hostname inside
    #[arg(long, value_name = "NAME", default_value = "leopard", value_parser = uts::hostname)]
    hostname: String,
    #[command(flatten)]
    command: Command,
}

/// The namespaces to unshare: the talk's `Cloneflags`.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWUTS;

/// Outside: makes the container's process, and waits for its end.
fn host(args: &Args) -> Result<Exit> {
    let child = process::clone(NAMESPACES, || container(args))?;
    child.run()
}

/// Inside: what happens in the new namespaces, up to the command.
fn container(args: &Args) -> Result<Infallible> {
    uts::sethostname(&args.hostname)?;
    args.command.exec()
}

fn main() -> ExitCode {
    cli::main(host)
}

//! # Stage 1: the hostname
//!
//! - Slide: *UTS Namespace*
//! - By hand: `unshare -u /bin/sh`, then `hostname leopard`; `scripts/by-hand/1-uts.sh`
//! - Manual: uts_namespaces(7), clone(2), sethostname(2)
//! - New: a child process in a new namespace, and a parent that waits for it
#![forbid(unsafe_code)]

use common::namespaces::NEWUTS;
use common::process::{self, Exit};
use common::{Command, Result, cli, uts};
use std::{convert::Infallible, process::ExitCode};

/// A container with its own hostname
#[derive(clap::Parser)]
#[command(version, before_help = "By hand: unshare -u /bin/sh")]
pub struct Args {
    #[command(flatten)]
    uts: uts::Options,
    #[command(flatten)]
    command: Command,
}

/// Outside: creates the container's process, and waits for its end.
fn host(args: &Args) -> Result<Exit> {
    let child = process::clone(NEWUTS, || container(args))?;
    child.run()
}

/// Inside: what happens in the new namespaces, up to the command.
fn container(args: &Args) -> Result<Infallible> {
    uts::sethostname(&args.uts)?;
    args.command.exec()
}

fn main() -> ExitCode {
    cli::main(host)
}

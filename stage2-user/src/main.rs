//! # Stage 2: users
//!
//! - Slide: *User Namespace*
//! - By hand: `unshare -uUr /bin/sh`, or without a map `unshare -uU`; `scripts/by-hand/2-user.sh`
//! - Manual: user_namespaces(7), capabilities(7)
//! - New: the maps, which connect root inside to a user outside. With them the stage runs without root
#![forbid(unsafe_code)]

use common::namespaces::{NEWUSER, NEWUTS};
use common::process::{self, Exit};
use common::{Command, Result, cli, confine, idmap, uts};
use std::{convert::Infallible, process::ExitCode};

/// A container with its own hostname and users
#[derive(clap::Parser)]
#[command(version, before_help = "By hand: unshare -uUr /bin/sh")]
pub struct Args {
    #[command(flatten)]
    uts: uts::Options,
    #[command(flatten)]
    idmap: idmap::Options,
    #[command(flatten)]
    command: Command,
}

/// Outside: creates the container's process, and waits for its end.
fn host(args: &Args) -> Result<Exit> {
    let child = process::clone(NEWUTS | NEWUSER, || container(args))?;
    idmap::map_root_user(child.pid(), &args.idmap)?;
    confine::warn_if_privileged(&args.idmap);
    child.run()
}

/// Inside: what happens in the new namespaces, up to the command.
fn container(args: &Args) -> Result<Infallible> {
    process::become_root(&args.idmap)?; // --map auto
    uts::sethostname(&args.uts)?;
    args.command.exec()
}

fn main() -> ExitCode {
    cli::main(host)
}

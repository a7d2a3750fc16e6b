//! # Stage 2: users of its own
//!
//! - Slide: *User Namespace*
//! - By hand: `unshare -uUr /bin/sh`, or without a map `unshare -uU`; `scripts/by-hand/2-user.sh`
//! - Manual: user_namespaces(7), capabilities(7)
//! - New: the maps that say who root is outside; with them, the stage runs without root
#![forbid(unsafe_code)]

use common::process::{self, Command, Exit};
use common::{CloneFlags, Result, cli, confine, idmap, uts};
use std::{convert::Infallible, process::ExitCode};

/// A container with its own hostname and users
#[derive(clap::Parser)]
#[command(version, before_help = "By hand: unshare -uUr /bin/sh")]
pub struct Args {
    /// The hostname inside
    #[arg(long, value_name = "NAME", default_value = "leopard", value_parser = uts::hostname)]
    hostname: String,
    /// Who the caller is inside: root or none
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    map: idmap::Map,
    #[command(flatten)]
    command: Command,
}

/// The namespaces to unshare: the talk's `Cloneflags`.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWUTS.union(CloneFlags::CLONE_NEWUSER);

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
    args.command.exec()
}

fn main() -> ExitCode {
    cli::main(host)
}

//! # Stage 4: a root file system of its own
//!
//! - Slide: *Mount Namespace*
//! - By hand: `unshare -uUrpfm --mount-proc /bin/sh`, then the slide's steps; `scripts/by-hand/4-mount.sh`
//! - Manual: mount_namespaces(7), mount(8), pivot_root(2)
//! - New: the container's `/` is another directory, and the host's files are out of reach
#![forbid(unsafe_code)]

use common::process::{self, Command, Exit};
use common::{CloneFlags, Result, cli, confine, idmap, mount, rootfs, uts};
use std::{convert::Infallible, path::Path, path::PathBuf, process::ExitCode};

/// A container with its own hostname, users, processes and root file system
#[derive(clap::Parser)]
#[command(version, before_help = "By hand: unshare -uUrpfm --mount-proc /bin/sh, then pivot_root")]
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
    /// What becomes / [default: /tmp/rootfs, or else the host's programs]
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
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
    let root = rootfs::find(args.rootfs.as_deref())?;
    let child = process::clone(NAMESPACES, || container(args, &root))?;
    idmap::map_root_user(&child, args.map)?;
    confine::say_if_open();
    child.run()
}

/// Inside: what happens in the new namespaces, up to the command.
fn container(args: &Args, root: &rootfs::Root) -> Result<Infallible> {
    uts::sethostname(&args.hostname)?;
    mount::propagation("/", args.propagation)?;
    mount::propagation("/", mount::Propagation::Private)?;
    let root = rootfs::bind(root)?;
    mount::proc(&root.join("proc"))?;
    let old_root = mount::pivot_root(&root, &rootfs::old_root(&root)?)?;
    mount::chdir("/")?;
    mount::tmpfs(Path::new("/tmp"))?;
    rootfs::write(Path::new("/tmp/leopard.txt"), "leopard\n")?;
    old_root.detach()?;
    args.command.exec()
}

fn main() -> ExitCode {
    cli::main(host)
}

//! # Stage 4: the root file system
//!
//! - Slide: *Mount Namespace*
//! - By hand: `unshare -uUrpfm --mount-proc /bin/sh`, then the slide's steps; `scripts/by-hand/4-mount.sh`
//! - Manual: mount_namespaces(7), mount(8), pivot_root(2)
//! - New: the container's `/` is another directory, and the host's files are out of reach
#![forbid(unsafe_code)]

use common::namespaces::{NEWNS, NEWPID, NEWUSER, NEWUTS};
use common::process::{self, Exit};
use common::{Command, Result, cli, confine, idmap, mount, rootfs, uts};
use std::{convert::Infallible, process::ExitCode};

/// A container with its own hostname, users, processes and root file system
#[derive(clap::Parser)]
#[command(
    version,
    before_help = "By hand: unshare -uUrpfm --mount-proc /bin/sh, then pivot_root"
)]
pub struct Args {
    #[command(flatten)]
    uts: uts::Options,
    #[command(flatten)]
    idmap: idmap::Options,
    #[command(flatten)]
    mount: mount::Options,
    #[command(flatten)]
    rootfs: rootfs::Options,
    #[command(flatten)]
    command: Command,
}

/// Outside: creates the container's process, and waits for its end.
fn host(args: &Args) -> Result<Exit> {
    let root = rootfs::find(&args.rootfs, &args.idmap, false)?;
    let child = process::clone(NEWUTS | NEWUSER | NEWPID | NEWNS, || container(args, &root))?;
    idmap::map_root_user(child.pid(), &args.idmap)?;
    confine::warn_if_privileged(&args.idmap);
    child.run()
}

/// Inside: what happens in the new namespaces, up to the command.
fn container(args: &Args, root: &rootfs::Root) -> Result<Infallible> {
    process::become_root(&args.idmap)?; // --map auto
    uts::sethostname(&args.uts)?;
    mount::propagation(&args.mount)?;
    mount::make_private("/")?; //                              mount --make-rprivate /
    let new_root = rootfs::bind(root)?; //                     mount --rbind rootfs/ rootfs/
    let put_old = rootfs::make_old_root(&new_root)?; //        mkdir -p rootfs/.old_root
    mount::proc(new_root.join("proc"))?; //                    mount -t proc proc rootfs/proc
    let old_root = mount::pivot_root(&new_root, &put_old)?; // pivot_root rootfs/ rootfs/.old_root
    mount::chdir("/")?; //                                     cd /
    mount::tmpfs("/tmp")?; //                                  mount -t tmpfs tmpfs /tmp
    rootfs::write("/tmp/leopard.txt", "leopard\n")?; //        echo leopard > /tmp/leopard.txt
    old_root.detach()?; //                                     umount -l /.old_root
    args.command.exec()
}

fn main() -> ExitCode {
    cli::main(host)
}

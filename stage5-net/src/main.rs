//! # Stage 5: a network of its own, the full container
//!
//! - Slide: *Network Namespace*
//! - By hand: `unshare -uUrpfmn --mount-proc /bin/sh`, and a second terminal; `scripts/by-hand/5-net.sh`
//! - Manual: network_namespaces(7), veth(4), bridge(8), rtnetlink(7)
//! - New: a bridge on the host, and a pair of links that leads from it into the container
#![forbid(unsafe_code)]

use common::process::{self, Command, Exit};
use common::{CloneFlags, Result, cli, confine, idmap, mount, network, rootfs, uts};
use std::{convert::Infallible, path::Path, path::PathBuf, process::ExitCode};

/// A container with its own hostname, users, processes, root file system and network
#[derive(clap::Parser)]
#[command(
    version,
    before_help = "By hand: unshare -uUrpfmn --mount-proc /bin/sh, then pivot_root, brctl, ip"
)]
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
    network: network::Options,
    #[command(flatten)]
    confine: confine::Options,
    #[command(flatten)]
    command: Command,
}

/// The namespaces to unshare: the talk's `Cloneflags`.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWUTS
    .union(CloneFlags::CLONE_NEWUSER)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWNET);

/// Outside: makes the container's process, and waits for its end.
fn host(args: &Args) -> Result<Exit> {
    let root = rootfs::find(args.rootfs.as_deref())?;
    let network = network::enter(&args.network)?;
    let child = process::clone(NAMESPACES | args.confine.namespaces(), || container(args, &root, &network))?;
    idmap::map_root_user(&child, args.map)?;
    let _connection = network.connect(&child)?;
    args.confine.supervisor()?;
    child.run()
}

/// Inside: what happens in the new namespaces, up to the command.
fn container(args: &Args, root: &rootfs::Root, network: &network::Network) -> Result<Infallible> {
    uts::sethostname(&args.hostname)?;
    mount::propagation("/", args.propagation)?;
    mount::propagation("/", mount::Propagation::Private)?;
    let root = rootfs::bind(root)?;
    args.confine.own_devices(&root)?;
    mount::proc(&root.join("proc"))?;
    args.confine.mask_proc(&root.join("proc"))?;
    let old_root = mount::pivot_root(&root, &rootfs::old_root(&root)?)?;
    mount::chdir("/")?;
    mount::tmpfs(Path::new("/tmp"))?;
    rootfs::write(Path::new("/tmp/leopard.txt"), "leopard\n")?;
    old_root.detach()?;
    network.up()?;
    args.confine.drop_privileges()?;
    args.command.exec()
}

fn main() -> ExitCode {
    cli::main(host)
}

//! # Stage 5: the network, and with it the full container
//!
//! - Slide: *Network Namespace*
//! - By hand: `unshare -uUrpfmn --mount-proc /bin/sh`, and a second terminal; `scripts/by-hand/5-net.sh`
//! - Manual: network_namespaces(7), veth(4), bridge(8), rtnetlink(7)
//! - New: a bridge on the host, and a pair of links that leads from it into the container
#![forbid(unsafe_code)]

use common::namespaces::{NEWNET, NEWNS, NEWPID, NEWUSER, NEWUTS};
use common::process::{self, Exit};
use common::{Command, Result, beyond, cli, confine, idmap, mount, network, rootfs, terminal, uts};
use std::{convert::Infallible, process::ExitCode};

/// A container with its own hostname, users, processes, root and network
#[derive(clap::Parser)]
#[command(
    version,
    before_help = "By hand: unshare -uUrpfmn --mount-proc /bin/sh, then pivot_root, brctl, ip"
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
    network: network::Options,
    #[command(flatten)]
    confine: confine::Options,
    #[command(flatten)]
    command: Command,
    #[command(flatten)]
    beyond: beyond::Options,
}

/// Outside: creates the container's process and its network, and waits for its end.
fn host(args: &Args) -> Result<Exit> {
    let root = rootfs::find(&args.rootfs, &args.idmap, args.beyond.is_overlay())?;
    let limits = args.beyond.limits.open()?; // --memory, --pids, --cpus
    let mut outside = args.beyond.outside.open(&args.network)?; // ports and pasta are of the real host
    let net = network::open(&args.network, &args.idmap)?; // the host's network, or one that simulates the host
    let terminal = terminal::open_for(args.confine.is_bare())?;
    let namespaces = NEWUTS | NEWUSER | NEWPID | NEWNS | NEWNET | args.confine.namespaces();
    let child = process::clone(namespaces, || container(args, &root, &net, &terminal))?;
    idmap::map_root_user(child.pid(), &args.idmap)?;
    limits.add(child.pid())?; // mkdir leopard-PID; echo 64M > memory.max; echo $UPID > cgroup.procs

    let br0 = net.add_bridge()?; //                  brctl addbr br0
    net.add_address(&br0, net.bridge_addr)?; //      ip addr add 172.20.1.2/24 dev br0
    net.set_up(&br0)?; //                            ip link set br0 up
    let veth0 = net.add_veth(child.pid())?; //       ip link add veth0 type veth peer name veth1 netns $UPID
    net.set_master(&veth0, &br0)?; //                ip link set veth0 master br0 (the slide's pings need it)
    net.add_address(&veth0, net.host_addr)?; //      ip addr add 172.20.1.3/24 dev veth0
    net.set_up(&veth0)?; //                          ip link set veth0 up
    outside.forward(&net, &br0, &veth0)?; //         sysctl net.ipv4.conf.br0.forwarding=1 (--nat)
    outside.masquerade(&net, &br0)?; //              nft add rule ... masquerade (--nat)
    net.unlock(); // the next container may use the bridge
    outside.publish(&net)?; //                       socat TCP-LISTEN:8080,fork ... (--publish)
    net.picture(&args.command, &args.idmap, &child)?; // for a shell at a terminal
    args.confine.supervisor(&args.idmap)?;
    child.run_with(terminal) // at the end the janitor removes bridge and pair
}

/// Inside: what happens in the new namespaces, up to the command.
fn container(
    args: &Args,
    root: &rootfs::Root,
    net: &network::Network,
    terminal: &terminal::Terminal,
) -> Result<Infallible> {
    process::become_root(&args.idmap)?; // --map auto
    uts::sethostname(&args.uts)?;
    mount::propagation(&args.mount)?;
    mount::make_private("/")?; //                              mount --make-rprivate /
    let host_files = args.beyond.enter(net)?; // unshare -C (--memory, ...); opens what --bind shows
    let new_root = rootfs::bind(root)?; //                     mount --rbind rootfs/ rootfs/
    let new_root = args.beyond.overlay(new_root)?; //          mount -t overlay overlay rootfs/
    let put_old = rootfs::make_old_root(&new_root)?; //        mkdir -p rootfs/.old_root
    mount::proc(new_root.join("proc"))?; //                    mount -t proc proc rootfs/proc
    args.confine.mounts(root, &new_root)?; // before pivot_root: the devices are on the host
    let old_root = mount::pivot_root(&new_root, &put_old)?; // pivot_root rootfs/ rootfs/.old_root
    mount::chdir("/")?; //                                     cd /
    mount::tmpfs("/tmp")?; //                                  mount -t tmpfs tmpfs /tmp
    rootfs::write("/tmp/leopard.txt", "leopard\n")?; //        echo leopard > /tmp/leopard.txt
    args.beyond.mounts(&args.confine, net, &host_files)?; // /sys, /etc/hosts
    old_root.detach()?; //                                     umount -l /.old_root
    host_files.attach()?; //                                   mount --rbind DIR /DIR (--bind)

    let inside = net.inside()?;
    inside.set_up(&inside.link("lo")?)?; //                ip link set dev lo up
    let veth1 = inside.link("veth1")?;
    inside.add_address(&veth1, net.container_addr)?; //    ip addr add 172.20.1.4/24 dev veth1
    inside.no_ipv6(&veth1)?; //                            ip link set veth1 addrgenmode none
    inside.set_up(&veth1)?; //                             ip link set veth1 up
    args.beyond.outside.default_route(&inside, net)?; //  ip route add default via 172.20.1.2 (--nat)
    net.wait_for_carrier(&inside)?; // so that the first ping is answered

    terminal.enter()?; // needs the new /dev
    args.confine.drop_privileges()?; // last: what is above needs them
    args.beyond.start()?; // --env, --chdir, --init
    args.command.exec()
}

fn main() -> ExitCode {
    cli::main(host)
}

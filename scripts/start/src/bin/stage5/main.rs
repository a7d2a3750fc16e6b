//! Stage 5: the network. By hand: `unshare -uUrpfmn --mount-proc /bin/sh`
#![allow(
    unreachable_code,
    unused,
    reason = "until the last todo!() is replaced"
)]

use my_stages::{Result, rootfs, run, shell};
use nix::{sched::CloneFlags, unistd::Pid};
use std::process::ExitCode;

fn main() -> ExitCode {
    // unshare -uUrpfmn --mount-proc /bin/sh
    let namespaces: CloneFlags = todo!("the same, and CLONE_NEWNET");
    let status = run(namespaces, host, container);
    // ip link del br0
    todo!();
    status
}

/// Outside, before the container goes on. `child` is its process id.
fn host(child: Pid) -> Result {
    // unshare -r: root inside is you outside
    todo!(
        "write(2): \"deny\" to /proc/CHILD/setgroups, then \"0 YOUR_ID 1\" to uid_map and gid_map"
    );
    // brctl addbr br0
    todo!("shell(\"...\") runs a line");
    // ip addr add 172.20.1.2/24 dev br0
    todo!();
    // ip link set br0 up
    todo!();
    // ip link add veth0 type veth peer name veth1
    todo!();
    // ip link set veth1 netns $UPID
    todo!();
    // ip addr add 172.20.1.3/24 dev veth0
    todo!();
    // ip link set veth0 master br0 (not on the slide, but the pings need it)
    todo!();
    // ip link set veth0 up
    todo!();
    Ok(())
}

/// Inside, before the command.
fn container() -> Result {
    // hostname leopard
    todo!("sethostname(2)");
    // ip link set dev lo up
    todo!();
    // ip addr add 172.20.1.4/24 dev veth1
    todo!();
    // ip link set veth1 up
    todo!();
    // mount --make-rprivate /
    todo!("mount(2) with MS_REC | MS_PRIVATE");
    // mount --rbind rootfs/ rootfs/
    todo!("mount(2) with MS_BIND | MS_REC");
    // mount -t proc proc rootfs/proc
    todo!("mount(2)");
    // pivot_root rootfs/ rootfs/.old_root
    todo!("pivot_root(2); the directory .old_root may be missing");
    // cd /
    todo!("chdir(2)");
    // mount -t tmpfs tmpfs /tmp
    todo!("mount(2)");
    // echo leopard > /tmp/leopard.txt
    todo!("write(2)");
    // mount --make-rprivate /.old_root
    todo!("mount(2) with MS_REC | MS_PRIVATE");
    // umount -l /.old_root
    todo!("umount2(2) with MNT_DETACH");
    Ok(())
}

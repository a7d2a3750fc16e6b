//! Stage 4: the root file system. By hand: `unshare -uUrpfm --mount-proc /bin/sh`
#![allow(
    unreachable_code,
    unused,
    reason = "until the last todo!() is replaced"
)]

use my_stages::{Result, rootfs, run};
use nix::{sched::CloneFlags, unistd::Pid};
use std::process::ExitCode;

fn main() -> ExitCode {
    // unshare -uUrpfm --mount-proc /bin/sh
    let namespaces: CloneFlags = todo!("the same");
    run(namespaces, host, container)
}

/// Outside, before the container goes on. `child` is its process id.
fn host(child: Pid) -> Result {
    // unshare -r: root inside is you outside
    todo!(
        "write(2): \"deny\" to /proc/CHILD/setgroups, then \"0 YOUR_ID 1\" to uid_map and gid_map"
    );
    Ok(())
}

/// Inside, before the command.
fn container() -> Result {
    // hostname leopard
    todo!("sethostname(2)");
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

//! Stage 3: processes. By hand: `unshare -uUrpf --mount-proc /bin/sh`
#![allow(
    unreachable_code,
    unused,
    reason = "until the last todo!() is replaced"
)]

use my_stages::{Result, run};
use nix::{sched::CloneFlags, unistd::Pid};
use std::process::ExitCode;

fn main() -> ExitCode {
    // unshare -uUrpf --mount-proc /bin/sh
    let namespaces: CloneFlags = todo!("the same, and CLONE_NEWPID | CLONE_NEWNS");
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
    // unshare: no new mount passes in or out
    todo!("mount(2) with MS_REC | MS_PRIVATE");
    // --mount-proc
    todo!("mount(2), nosuid, nodev, noexec");
    Ok(())
}

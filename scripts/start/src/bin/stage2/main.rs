//! Stage 2: users. By hand: `unshare -uUr /bin/sh`
#![allow(
    unreachable_code,
    unused,
    reason = "until the last todo!() is replaced"
)]

use my_stages::{Result, run};
use nix::{sched::CloneFlags, unistd::Pid};
use std::process::ExitCode;

fn main() -> ExitCode {
    // unshare -uUr /bin/sh
    let namespaces: CloneFlags = todo!("CLONE_NEWUTS | CLONE_NEWUSER");
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
    Ok(())
}

//! Stage 1: the hostname. By hand: `unshare -u /bin/sh`
#![allow(
    unreachable_code,
    unused,
    reason = "until the last todo!() is replaced"
)]

use my_stages::{Result, run};
use nix::{sched::CloneFlags, unistd::Pid};
use std::process::ExitCode;

fn main() -> ExitCode {
    // unshare -u /bin/sh
    let namespaces: CloneFlags = todo!("CLONE_NEWUTS");
    run(namespaces, host, container)
}

/// Outside, before the container goes on. `child` is its process id.
fn host(child: Pid) -> Result {
    Ok(())
}

/// Inside, before the command.
fn container() -> Result {
    // hostname leopard
    todo!("sethostname(2)");
    Ok(())
}

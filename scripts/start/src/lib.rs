//! What is not a line of the slides: the child process, and the command that it becomes.

use nix::{sched::CloneFlags, unistd::Pid};
use std::process::{Command, ExitCode, exit};

/// The result of a step. `?` takes the errors of nix and of the standard library.
pub type Result = std::result::Result<(), Box<dyn std::error::Error>>;

#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    command: common::Command,
}

/// Runs the command of the command line in new namespaces, as Go does with `Cloneflags`. First `host` runs
/// outside, with the process id of the child; then `container` runs in the child.
pub fn run(
    namespaces: CloneFlags,
    host: impl FnOnce(Pid) -> Result,
    container: impl FnOnce() -> Result,
) -> ExitCode {
    common::cli::main(|args: &Args| {
        let child = common::process::clone(namespaces, || {
            or_exit(container());
            args.command.exec()
        })?;
        or_exit(host(child.pid()));
        child.run()
    })
}

fn or_exit(result: Result) {
    if let Err(error) = result {
        eprintln!("{error}");
        exit(1);
    }
}

/// Runs a line of the shell, such as `ip link set lo up`.
pub fn shell(line: &str) -> Result {
    let status = Command::new("sh").args(["-c", line]).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{line}: {status}").into())
    }
}

/// The new root of stages 4 and 5.
pub fn rootfs() -> String {
    std::env::var("ROOTFS").unwrap_or("/tmp/rootfs".into())
}

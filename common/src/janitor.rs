//! The janitor: a process beside the stage that removes what the kernel does not.
//!
//! The kernel removes the veth pair with the container's network namespace, but has no reason to remove
//! a bridge. The stage forks the janitor first, and writes to a pipe what it is about to create. When
//! the pipe ends, because the stage returns, fails or is killed, the janitor removes it. It never
//! creates anything, and gives no answer.

use crate::capabilities::{self, Capabilities};
use crate::error::failed;
use crate::explain::{self, Fact, call};
use crate::forked::{Forked, fork};
use crate::{Result, sys};
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{Pid, chdir, pipe2, setsid, write};
use std::os::fd::OwnedFd;
use std::{fs::File, io::Read};

/// The stage's end. Dropped, the janitor removes everything, and is waited for.
pub(crate) struct Janitor {
    // Dropped in this order.
    pipe: OwnedFd,
    process: Forked,
}

impl Janitor {
    /// Forks it. At the end it calls `remove` with each name that the stage has written, in this order. It keeps only
    /// these capabilities.
    pub(crate) fn start(kept: Capabilities, remove: fn(&str) -> Result<()>) -> Result<Self> {
        let (names, pipe) = call("pipe2(O_CLOEXEC)", || pipe2(OFlag::O_CLOEXEC))?;
        sys::close_in_child(&pipe);
        let process = fork(|| {
            let _ = settle(&names, kept); // what fails there must not keep it from its work
            clean_up(names, remove)
        })?;
        if explain::is_on() {
            explain::changed(&[], &[Fact::process(&process.0.to_string())]);
        }
        Ok(Self { pipe, process })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.0
    }

    /// Writes, before the thing is created, what to remove. `EPIPE` if the janitor was killed.
    pub(crate) fn remove_at_end(&self, name: &str) -> Result<()> {
        let line = format!("{name}\n");
        call("write(pipe)", || write(&self.pipe, line.as_bytes())).map(drop)
    }
}

/// Out of reach of the terminal and of signals to the process group. Of the stage's descriptors it keeps
/// the pipe, and those of the caller.
fn settle(names: &OwnedFd, kept: Capabilities) -> Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)
        .map_err(failed("sigprocmask"))?;
    call("setsid()", setsid)?;
    call("chdir(\"/\")", || chdir("/"))?;
    sys::close_all_but(names);
    capabilities::reduce_to(kept)
}

/// Reads until the stage has ended, and removes what it has named. No other process would, so what fails for
/// a passing reason, such as too little memory, is tried again.
fn clean_up(names: OwnedFd, remove: fn(&str) -> Result<()>) -> Result<()> {
    let (mut pipe, mut bytes, mut failures) = (File::from(names), Vec::new(), 0);
    while let Err(error) = pipe.read_to_end(&mut bytes) {
        failures += 1;
        if failures == 3 {
            return Err(failed("read(pipe)")(error));
        }
    }
    let names = String::from_utf8_lossy(&bytes);
    for name in names.lines() {
        let remove = || remove(name);
        remove().or_else(|_| remove()).or_else(|_| remove())?;
    }
    Ok(())
}

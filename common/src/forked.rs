//! A process beside the stage: forked, and waited for at the stage's end.

use crate::explain::{self, call};
use crate::{Result, sys};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};

/// Dropped, it is waited for: what lets it end is dropped before.
pub(crate) struct Forked(pub(crate) Pid);

impl Drop for Forked {
    fn drop(&mut self) {
        while waitpid(self.0, None) == Err(Errno::EINTR) {}
    }
}

/// fork(2): a process that carries out `run`, and ends. It reports an error itself.
pub(crate) fn fork<T>(run: impl FnOnce() -> Result<T>) -> Result<Forked> {
    let fork = || sys::clone(CloneFlags::empty());
    if let ForkResult::Parent { child } = call("fork()", fork)? {
        return Ok(Forked(child));
    }
    explain::beside();
    sys::exit(run().map_or_else(|error| explain::report_failure(&error), |_| 0))
}

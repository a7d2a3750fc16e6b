//! A second command in a running container, as with `docker exec`: `examples/exec.rs` of stage 5. See [setns(2)].
//!
//! [setns(2)]: https://man7.org/linux/man-pages/man2/setns.2.html

use crate::error::failed;
use crate::namespaces::{names, pidfd};
use crate::process::take_root_ids;
use crate::{Error, Result, idmap};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_dumpable;
use nix::unistd::{Pid, geteuid};
use std::os::fd::OwnedFd;

/// A way into the namespaces of a running process: setns(2), since Linux 5.8 with a pidfd.
///
/// A pid can be another process by the time it is used. A pidfd stands for the process that had the number when
/// it was opened: afterwards setns(2) enters that one's namespaces, or fails with `ESRCH`.
pub struct Entrance(OwnedFd);

impl Entrance {
    /// pidfd_open(2). From here to execve(2) processes inside cannot look into the calling process, which has
    /// descriptors and variables of the host (CVE-2016-9962).
    pub fn of(pid: Pid) -> Result<Self> {
        set_dumpable(false).map_err(failed("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)"))?;
        pidfd(pid).map(Self)
    }

    /// setns(2): a new PID namespace is that of the children from now on.
    pub fn enter(&self, flags: CloneFlags) -> Result<()> {
        let text = format!("setns(pidfd, {})", names(flags.iter_names()));
        let hint = "only root and the user who started the container may enter it; with --init enter its \
                    command, not PID 1: pgrep -P PID";
        let entered = setns(&self.0, flags).map_err(failed(text));
        entered.map_err(|error| error.hint_on(Errno::EPERM, hint))
    }
}

/// As [`crate::process::become_root`], for a process that the processes of the container see.
///
/// # Errors
/// If the caller is not root inside. The command would keep an id of the host that means something there; and a
/// user has all capabilities over the processes of a container of this user's.
pub fn become_root(options: &idmap::Options) -> Result<()> {
    if options.is_range() {
        take_root_ids()?;
    }
    if geteuid().is_root() {
        return Ok(());
    }
    let hint = "the user who started the container enters it, with --map auto if it was started so";
    Err(Error::input("the caller is not root inside").hint(hint))
}

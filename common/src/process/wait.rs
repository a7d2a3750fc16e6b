//! Waits for the command's end, passes signals on meanwhile, and ends the stage in the same way. See
//! [waitpid(2)], [pid_namespaces(7)].
//!
//! | signal to the stage | the command handles it, or is not PID 1 | PID 1 without a handler: the kernel drops it |
//! |---|---|---|
//! | TERM, INT, HUP, QUIT | passed on, unless a key has sent it to both | the stage kills it, and ends as by the signal |
//! | TSTP, TTIN, TTOU | a key stops both; in another session it is passed on, and the stage stops | SIGSTOP for it, and the stage stops |
//! | CHLD | the stage ends as the command has ended, or stops as its job at a terminal | the same |
//!
//! [pid_namespaces(7)]: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
//! [waitpid(2)]: https://man7.org/linux/man-pages/man2/waitpid.2.html

use super::disposition::reacts;
use super::{Child, retry};
use crate::error::failed;
use crate::namespaces::{NEWPID, number_in_proc};
use crate::terminal::Relay;
use crate::{Result, sys};
use nix::sys::prctl::set_dumpable;
use nix::sys::signal::Signal::{self, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT};
use nix::sys::signal::Signal::{SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU};
use nix::sys::signal::{SigSet, SigmaskHow, kill, sigprocmask};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{getpgid, getpgrp, getpid, tcgetpgrp};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

/// The signals that the stage passes on to its command.
pub(super) const FORWARDED: [Signal; 4] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT];
/// The signals of job control.
pub(super) const STOPS: [Signal; 3] = [SIGTSTP, SIGTTIN, SIGTTOU];

/// How a container's command ended: what the stage's own end must show.
#[derive(Clone, Copy, Debug)]
pub struct Exit(ExitStatus);

impl Child {
    pub(super) fn wait_for_end(
        &self,
        awaited: &SigSet,
        mut relay: Option<&mut Relay>,
    ) -> Result<Exit> {
        let (mut emulated, mut stopping) = (None, None);
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        let text = format!("waitpid({}, WNOHANG|WUNTRACED)", self.pid);
        loop {
            let changed = sys::waitpid(self.pid, flags).map_err(failed(&*text))?;
            if let Some((_, status)) = changed {
                match status.stopped_signal() {
                    None if status.signal().is_some() => {
                        return Ok(Exit(emulated.unwrap_or(status)));
                    }
                    None => return Ok(Exit(status)),
                    Some(signal)
                        if relay.is_none() && (stopping.is_some() || stops_the_job(signal)) =>
                    {
                        self.stop(stopping.take().unwrap_or(signal), awaited);
                    }
                    Some(_) => {}
                }
            }
            let (signal, is_sent) = if let Some(relay) = relay.as_mut() {
                relay.until_signal(awaited)?
            } else {
                // A key of the terminal has already reached the whole process group. A hangup has not:
                // the kernel sends it to the session's leader.
                let arrived = retry(|| sys::wait_for_signal(awaited));
                let (signal, by_kernel) = arrived.map_err(failed("sigwaitinfo()"))?;
                let has_reached = by_kernel && signal != SIGHUP && self.is_in_our_group();
                (signal, has_reached)
            };
            if FORWARDED.contains(&signal) {
                // Asked before a handler can run, except if a key at a shared terminal has reached it already: then
                // a handler that sets the default back is taken for none.
                let is_dropped = self.drops(signal);
                if !is_sent {
                    let _ = kill(self.pid, signal); // not yet reaped, so the pid is still its own
                }
                if is_dropped {
                    emulated = Some(ExitStatus::from_raw(signal as i32));
                    let _ = kill(self.pid, SIGKILL);
                }
            } else if STOPS.contains(&signal) {
                if self.drops(signal) {
                    stopping = kill(self.pid, SIGSTOP).is_ok().then_some(signal as i32);
                } else if !self.is_in_our_group() {
                    // The key has not reached it: its session is another one.
                    let _ = kill(self.pid, signal);
                    self.stop(signal as i32, awaited);
                }
            }
        }
    }

    fn is_in_our_group(&self) -> bool {
        getpgid(Some(self.pid)) == Ok(getpgrp())
    }

    /// Whether the kernel drops `signal`: PID 1 of a namespace gets only signals that it handles or blocks
    /// (pid_namespaces(7)), so `sleep 60` as a container's command could not be interrupted. And a process group
    /// that setsid(2) has made an orphan is not stopped by a key (setpgid(2)). Then the stage does what the
    /// signal would do.
    fn drops(&self, signal: Signal) -> bool {
        let is_orphan = STOPS.contains(&signal) && !self.is_in_our_group();
        if !self.flags.contains(NEWPID) && !is_orphan {
            return false;
        }
        // If there is no such number, the signal is left to the command.
        number_in_proc(self.pid).is_ok_and(|number| !reacts(number, signal))
    }

    /// Stops the stage as the signal does. The kernel drops a stop where no shell could continue the job, but never
    /// SIGSTOP. Afterwards the command goes on, too.
    fn stop(&self, signal: i32, awaited: &SigSet) {
        sys::raise_default(signal);
        let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(awaited), None);
        let _ = kill(self.pid, SIGCONT);
    }
}

/// Whether a stop of the child by `signal` must stop the stage. At a terminal a shell waits for its job
/// to stop, and continues it with `fg`. SIGSTOP, which no key sends, counts only if the stage is such a
/// job itself, in the foreground: elsewhere no shell would continue the stage.
fn stops_the_job(signal: i32) -> bool {
    let is_foreground_job =
        |terminal| getpgrp() == getpid() && tcgetpgrp(terminal) == Ok(getpgrp());
    let terminal = fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| signal != SIGSTOP as i32 || is_foreground_job(terminal))
}

impl Exit {
    /// Ends the stage as its command ended: with its status, or by its signal.
    pub fn pass_on(self) -> ExitCode {
        if let Some(signal) = self.0.signal() {
            let _ = set_dumpable(false); // the core file, if any, is the command's
            sys::raise_default(signal);
        }
        shell_status(self.0).into()
    }
}

/// As a shell has it in `$?`: the exit status, or 128 and the number of the signal.
pub(crate) fn shell_status(status: ExitStatus) -> u8 {
    let signal = || status.signal().map(|signal| 128 + signal);
    let number = status.code().or_else(signal);
    number
        .and_then(|number| u8::try_from(number).ok())
        .unwrap_or(1)
}

//! Waits for the command's end, passes signals on meanwhile, and ends the stage in the same way. See
//! [waitpid(2)], [pid_namespaces(7)].
//!
//! | signal to the stage | the command handles it, or is not PID 1 | PID 1 without a handler: the kernel drops it |
//! |---|---|---|
//! | TERM, INT, HUP, QUIT | passed on, unless a key has sent it to both | the stage kills it, and ends as by the signal |
//! | TSTP, TTIN, TTOU | a key stops both; in another session: passed on, and the stage stops | SIGSTOP for both |
//! | CHLD | the stage ends as the command has ended, or stops as its job at a terminal | the same |
//!
//! [pid_namespaces(7)]: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
//! [waitpid(2)]: https://man7.org/linux/man-pages/man2/waitpid.2.html

use super::{Child, retry};
use crate::error::failed;
use crate::namespaces::{NEWPID, number_in_proc};
use crate::terminal::Relay;
use crate::{Result, proc, sys};
use nix::libc;
use nix::sys::prctl::set_dumpable;
use nix::sys::signal::Signal::{self, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGSEGV};
use nix::sys::signal::Signal::{SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU};
use nix::sys::signal::{SigSet, kill, raise};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{Pid, getpgid, getpgrp, getpid, tcgetpgrp};
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
        let (mut emulated, mut stopping) = (None, false);
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
                    Some(signal) if relay.is_none() && (stopping || stops_the_job(signal)) => {
                        stopping = false;
                        let _ = raise(SIGSTOP);
                        let _ = kill(self.pid, SIGCONT);
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
                let is_dropped = self.drops(signal); // asked before a handler can run
                if !is_sent {
                    let _ = kill(self.pid, signal); // not yet reaped, so the pid is still its own
                }
                if is_dropped {
                    emulated = Some(ExitStatus::from_raw(signal as i32));
                    let _ = kill(self.pid, SIGKILL);
                }
            } else if STOPS.contains(&signal) {
                if self.drops(signal) {
                    stopping = kill(self.pid, SIGSTOP).is_ok();
                } else if !self.is_in_our_group() {
                    // The key has not reached it: its session is another one.
                    let _ = kill(self.pid, signal);
                    let _ = raise(SIGSTOP);
                    let _ = kill(self.pid, SIGCONT);
                }
            }
        }
    }

    fn is_in_our_group(&self) -> bool {
        getpgid(Some(self.pid)) == Ok(getpgrp())
    }

    /// Whether the kernel drops `signal`: PID 1 of a namespace gets only signals that it handles or blocks
    /// (pid_namespaces(7)), so `sleep 60` as a container's command could not be interrupted. Then the
    /// stage does what the signal would do.
    fn drops(&self, signal: Signal) -> bool {
        if !self.flags.contains(NEWPID) {
            return false;
        }
        // If it cannot be read, the signal is left to the command.
        let number = number_in_proc(self.pid).map_or(0, Pid::as_raw);
        let read = |file| proc::read(format!("/proc/{number}/{file}"));
        let waits = format!("{} ", libc::SYS_rt_sigtimedwait);
        for _ in 0..1000 {
            // An init such as tini(1) waits in sigwaitinfo(2), and meanwhile SigBlk is without the signals. It may
            // begin or end to wait between two looks.
            let [before, syscall, after] = ["status", "syscall", "status"].map(read);
            let has = |field: &str, signal: Signal| {
                let is_in = |mask: u64| mask >> (signal as i32 - 1) & 1 == 1;
                let mut looks = [&before, &after].into_iter();
                looks.any(|status| proc::bits(status, field).is_none_or(is_in))
            };
            if syscall.starts_with(&waits) || has("SigIgn:", signal) || has("SigCgt:", signal) {
                return false;
            }
            // A shell blocks all signals for the moment in which it forks: so look again.
            if !has("SigBlk:", SIGSEGV) {
                return !has("SigBlk:", signal);
            }
        }
        false
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
            sys::end_by(signal);
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

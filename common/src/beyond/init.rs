//! `--init`: PID 1 passes signals on and reaps orphans, and the command is PID 2, as with `docker run --init`.
//! See [pid_namespaces(7)], and tini.
//!
//! [pid_namespaces(7)]: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html

use crate::error::failed;
use crate::explain::{call, step};
use crate::{Result, process::shell_status, sys};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl::set_dumpable;
use nix::sys::signal::Signal::{SIGCHLD, SIGSEGV};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{ForkResult, Pid, getpgrp, getpid, setpgid, tcgetpgrp, tcsetpgrp};

/// Forks: returns in the new process, which becomes the command. This process stays, and exits with
/// the command's status, or with 128 and the number of the signal that ended it.
pub(super) fn start() -> Result<()> {
    step("", "PID 1 reaps orphans; the command is PID 2", || {
        // Blocked signals wait, also for a PID 1 without handlers.
        let (mut all, mut before) = (SigSet::all(), SigSet::empty());
        all.remove(SIGSEGV); // the stage takes a process that blocks everything for one that forks
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before))
            .map_err(failed("sigprocmask(SIG_SETMASK)"))?;
        // Before the fork: the command may be faster than this process. execve(2) opens the command's own memory.
        call("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)", || {
            set_dumpable(false)
        })?;
        let fork = || sys::clone(CloneFlags::empty());
        if let ForkResult::Parent { child } = call("fork()", fork)? {
            // With sigwaitinfo(2), /proc would not show them as blocked, and this process does not let an ordinary
            // user's stage read what it waits for.
            let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC);
            let signals = signals.map_err(failed("signalfd()"))?;
            // It keeps the terminal, and nothing else of the host's: no socket, and no way to its program file.
            sys::close_all_but(&signals);
            sys::exit(reap(child, &signals));
        }
        own_group();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)
            .map_err(failed("sigprocmask(SIG_SETMASK)"))
    })
}

/// Moves into a new process group, which becomes the foreground process group if the old one was. A key then
/// signals the command only, and not PID 1, which would pass the signal on.
fn own_group() {
    let terminal = sys::standard(0);
    let is_foreground = tcgetpgrp(terminal) == Ok(getpgrp());
    let own = Pid::from_raw(0);
    if setpgid(own, own).is_ok() && is_foreground {
        let _ = tcsetpgrp(terminal, getpid());
    }
}

/// Until the command ends. When PID 1 exits, the kernel kills all other processes.
fn reap(command: Pid, signals: &SignalFd) -> u8 {
    loop {
        match sys::waitpid(Pid::from_raw(-1), WaitPidFlag::WNOHANG) {
            Ok(Some((pid, status))) if pid == command => return shell_status(status),
            Ok(Some(_)) => continue,
            Err(Errno::ECHILD) => return 1,
            _ => {}
        }
        let arrived = signals.read_signal().ok().flatten();
        let number = arrived.map_or(0, |arrived| arrived.ssi_signo.cast_signed());
        if number != SIGCHLD as i32 {
            sys::kill(command, number);
        }
    }
}

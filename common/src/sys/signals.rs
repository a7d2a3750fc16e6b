//! Signals, and the end of processes.

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};
use nix::sys::signal::{sigaction, signal, sigprocmask};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// waitpid(2) of a process, or of any where `pid` is -1. `None` if none has changed. nix knows no real-time signals.
pub(crate) fn waitpid(pid: Pid, flags: WaitPidFlag) -> nix::Result<Option<(Pid, ExitStatus)>> {
    let mut status = 0;
    // SAFETY: the kernel writes the status.
    let found = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, flags.bits()) };
    let found = Errno::result(found)?;
    let status = ExitStatus::from_raw(status);
    Ok((found != 0).then_some((Pid::from_raw(found), status)))
}

/// kill(2) with a signal's number.
pub(crate) fn kill(pid: Pid, number: i32) {
    // SAFETY: a system call on numbers.
    unsafe { libc::kill(pid.as_raw(), number) };
}

/// raise(3) of a signal with its default action, which may end or stop this process. It is no longer blocked.
pub(crate) fn raise_default(number: i32) {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initializes the set; SIG_DFL runs no code of this program.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), number);
        libc::signal(number, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::raise(number);
    }
}

/// sigwaitinfo(2): waits for one of these signals, which must be blocked. Returns also whether the
/// kernel itself sent it, as for a key of the terminal.
pub(crate) fn wait_for_signal(set: &SigSet) -> nix::Result<(Signal, bool)> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::uninit();
    // SAFETY: both pointers are valid; the kernel fills `info` when it returns a signal.
    let signal = Errno::result(unsafe { libc::sigwaitinfo(set.as_ref(), info.as_mut_ptr()) })?;
    // SAFETY: filled, as the call succeeded.
    let code = unsafe { info.assume_init() }.si_code;
    Ok((Signal::try_from(signal)?, code == libc::SI_KERNEL))
}

/// signal(2) with SIG_DFL or SIG_IGN; returns whether the signal was ignored before.
pub(crate) fn set_ignored(number: Signal, ignored: bool) -> nix::Result<bool> {
    let (ignore, default) = (SigHandler::SigIgn, SigHandler::SigDfl);
    // SAFETY: SIG_IGN and SIG_DFL run no code of this program.
    let old = unsafe { signal(number, if ignored { ignore } else { default }) }?;
    Ok(matches!(old, SigHandler::SigIgn))
}

/// SIGALRM at an interval, with a handler that does nothing: it interrupts a system call, signal(7).
/// Dropped, the signal is as before.
pub(crate) struct Alarm(SigAction, SigSet);

impl Alarm {
    pub(crate) fn every(interval: Duration) -> nix::Result<Self> {
        extern "C" fn nothing(_: libc::c_int) {}
        let handler = SigHandler::Handler(nothing);
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        let old = unsafe { sigaction(Signal::SIGALRM, &action) }?;
        let mut mask = SigSet::empty();
        let unblocked = SigSet::from(Signal::SIGALRM);
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&unblocked), Some(&mut mask))?;
        set_timer(interval);
        Ok(Self(old, mask))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        set_timer(Duration::ZERO);
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.1), None);
        // SAFETY: it is what was set before.
        let _ = unsafe { sigaction(Signal::SIGALRM, &self.0) };
    }
}

fn set_timer(interval: Duration) {
    let seconds = libc::time_t::try_from(interval.as_secs()).unwrap_or(1);
    let value = libc::timeval {
        tv_sec: seconds,
        tv_usec: 0,
    };
    let timer = libc::itimerval {
        it_interval: value,
        it_value: value,
    };
    // SAFETY: the kernel reads the structure.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}

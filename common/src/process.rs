//! The container's process: cloned into its namespaces, started, waited for.
//!
//! [`clone`] creates the child, which waits on a pipe while the parent prepares things from outside
//! (the id maps, the network). [`Child::run`] lets it go on and waits for its end. If the parent
//! dies at any moment, so does the child: before the start because the pipe closes, afterwards
//! because of `PR_SET_PDEATHSIG`. See [clone(2)], [waitpid(2)], [pid_namespaces(7)].
//!
//! In all stages; with a PID namespace from [stage 3](../../stage3_pid/index.html).
//!
//! [clone(2)]: https://man7.org/linux/man-pages/man2/clone.2.html
//! [waitpid(2)]: https://man7.org/linux/man-pages/man2/waitpid.2.html
//! [pid_namespaces(7)]: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html

use crate::error::failed;
use crate::explain::{self, Fact, call, heading, step};
use crate::namespaces::{NEWPID, Nsenter, letters, names, number_in_proc};
use crate::terminal::{Relay, Terminal};
use crate::{Error, Result, hints, report, sys};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::prctl::{set_dumpable, set_pdeathsig};
use nix::sys::signal::Signal::{self, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT};
use nix::sys::signal::Signal::{SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH};
use nix::sys::signal::{SigSet, SigmaskHow, kill, raise, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpgid, getpgrp, getpid, pipe2, read, tcgetpgrp, write};
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::{fs, process::ExitCode};

/// The signals that the stage passes on to its command.
const FORWARDED: [Signal; 4] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT];
/// The signals of job control.
const STOPS: [Signal; 3] = [SIGTSTP, SIGTTIN, SIGTTOU];

/// The process that becomes the container's command. Dropped before it has run, it is killed.
pub struct Child {
    pid: Pid,
    flags: CloneFlags,
    /// A byte lets the child go on. When the last copy is closed, the child ends.
    start: Option<OwnedFd>,
}

/// How a container's command ended: what the stage's own end must show.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
    /// It exited with this status.
    Status(u8),
    /// A signal ended it.
    Signal(Signal),
}

/// clone(2): a child in the new namespaces that `flags` names (the talk's `Cloneflags`). It carries
/// out `container` once the parent calls [`Child::run`].
///
/// Go executes its own binary again, with the argument `CLONE`, because its runtime cannot fork. A
/// Rust program with one thread just goes on in the child.
pub fn clone(flags: CloneFlags, container: impl FnOnce() -> Result<Infallible>) -> Result<Child> {
    heading("namespaces");
    let shell = format_args!("unshare -{}", letters(flags));
    let (ignored, started, start, cloned) = step(shell, "a child in new namespaces", || {
        // If the caller ignores SIGCHLD, the kernel reaps the child, and its exit status is lost.
        let ignored = set_ignored(SIGCHLD, false)?;
        let (started, start) = call("pipe2(O_CLOEXEC)", || pipe2(OFlag::O_CLOEXEC))?;
        let text = format_args!("clone({}|SIGCHLD)", names(flags.iter_names()));
        let cloned = call(text, || sys::clone(flags));
        let cloned = cloned.map_err(|error| hints::new_namespaces(error, flags))?;
        Ok((ignored, started, start, cloned))
    })?;
    if let ForkResult::Parent { child: pid } = cloned {
        if explain::is_on() {
            let number = number_in_proc(pid)?.to_string();
            let namespaces = |process| Fact::namespaces(process, flags);
            explain::changed(&namespaces("self"), &namespaces(&number));
        }
        let start = Some(start);
        return Ok(Child { pid, flags, start });
    }
    drop(start);
    explain::inside(flags);
    let ready = set_ignored(SIGCHLD, ignored).and_then(|_| wait_for_start(&started));
    let Err(error) = ready.and_then(|()| container());
    sys::exit(explain::failed(&error))
}

fn set_ignored(signal: Signal, ignored: bool) -> Result<bool> {
    let action = if ignored { "SIG_IGN" } else { "SIG_DFL" };
    sys::set_ignored(signal, ignored).map_err(failed(format!("signal({signal}, {action})")))
}

/// In the child: waits for the parent's byte. If the parent dies, at whatever moment, the child ends.
fn wait_for_start(started: &OwnedFd) -> Result<()> {
    let mut pace = [0];
    let mut read_byte = || retry(|| read(started, &mut pace));
    if call("read(pipe)", &mut read_byte)? == 0 {
        return Err(Error::already_reported(0)); // the parent has gone
    }
    explain::set_pace(pace[0]);
    let die_with_parent = || set_pdeathsig(SIGKILL);
    call("prctl(PR_SET_PDEATHSIG, SIGKILL)", die_with_parent)?;
    // If the parent has died just before, its end of the pipe is closed.
    let mut waited = [PollFd::new(started.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waited, PollTimeout::ZERO) {
        Ok(0) | Err(_) => Ok(()),
        Ok(_) => Err(Error::already_reported(1)),
    }
}

impl Child {
    /// Its process id, in the parent's PID namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The nsenter(1) command that enters its namespaces, for display.
    ///
    /// # Errors
    /// If /proc does not show the child.
    pub fn nsenter(&self) -> Result<Nsenter> {
        Ok(Nsenter(number_in_proc(self.pid)?, self.flags))
    }

    /// Lets the child go on, and waits for its end. Meanwhile signals are passed on to it, and when it
    /// is stopped at a terminal, so is the stage, as a shell expects of its job.
    pub fn run(self) -> Result<Exit> {
        self.run_with(Terminal::Shared)
    }

    /// The same, and relays the container's terminal, if it has one.
    pub fn run_with(mut self, terminal: Terminal) -> Result<Exit> {
        // Until here a signal ends the stage, and that ends the child. From here on signals wait.
        let mut awaited = SigSet::from_iter(FORWARDED);
        awaited.add(SIGCHLD);
        match terminal {
            // The relay itself uses the terminal, and is stopped by it.
            Terminal::Own(..) => awaited.extend([SIGWINCH, SIGCONT]),
            _ => awaited.extend(STOPS),
        }
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&awaited), None)
            .map_err(failed("sigprocmask(SIG_BLOCK)"))?;
        let start = self.start.take(); // stays open until the end: so the child sees the stage live
        if let Some(start) = &start {
            let start_child = || match write(start, &[explain::pace()]) {
                Err(Errno::EPIPE) => Ok(0), // the child has died, as waitpid(2) will show
                written => written,
            };
            call("write(pipe)", start_child)?;
        }
        let mut relay = terminal.relay(self.pid)?;
        let exit = self.wait(&awaited, relay.as_mut());
        if let Some(mut relay) = relay {
            relay.drain();
        }
        exit
    }

    fn wait(&self, awaited: &SigSet, mut relay: Option<&mut Relay>) -> Result<Exit> {
        let (mut emulated, mut stopping) = (None, false);
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        let text = format!("waitpid({}, WNOHANG|WUNTRACED)", self.pid);
        loop {
            match waitpid(self.pid, Some(flags)).map_err(failed(&*text))? {
                WaitStatus::Exited(_, status) => {
                    return Ok(Exit::Status(u8::try_from(status).unwrap_or(1)));
                }
                WaitStatus::Signaled(_, signal, _) => {
                    return Ok(Exit::Signal(emulated.unwrap_or(signal)));
                }
                WaitStatus::Stopped(_, signal)
                    if relay.is_none() && (stopping || stops_the_job(signal)) =>
                {
                    stopping = false;
                    let _ = raise(SIGSTOP);
                    let _ = kill(self.pid, SIGCONT);
                }
                _ => {}
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
                if !is_sent {
                    let _ = kill(self.pid, signal); // not yet reaped, so the pid is still its own
                }
                if self.drops(signal) {
                    emulated = Some(signal);
                    let _ = kill(self.pid, SIGKILL);
                }
            } else if STOPS.contains(&signal) && self.drops(signal) {
                stopping = kill(self.pid, SIGSTOP).is_ok();
            }
        }
    }

    fn is_in_our_group(&self) -> bool {
        getpgid(Some(self.pid)) == Ok(getpgrp())
    }

    /// Whether the kernel drops `signal`: PID 1 of a namespace gets only signals that it handles
    /// (pid_namespaces(7)), so `sleep 60` as a container's command could not be interrupted. Then the
    /// stage does what the signal would do.
    fn drops(&self, signal: Signal) -> bool {
        if !self.flags.contains(NEWPID) {
            return false;
        }
        // If it cannot be read, the signal is left to the command.
        let number = number_in_proc(self.pid).map_or(0, Pid::as_raw);
        let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        let has = |field: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix(field));
            let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            mask.is_none_or(|mask| mask >> (signal as i32 - 1) & 1 == 1)
        };
        !has("SigIgn:") && !has("SigCgt:")
    }
}

/// Whether a stop of the child by `signal` must stop the stage. At a terminal a shell waits for its job
/// to stop, and continues it with `fg`. SIGSTOP, which no key sends, counts only if the stage is such a
/// job itself, in the foreground: elsewhere nobody would continue the stage.
fn stops_the_job(signal: Signal) -> bool {
    let is_foreground_job =
        |terminal| getpgrp() == getpid() && tcgetpgrp(terminal) == Ok(getpgrp());
    let terminal = fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| signal != SIGSTOP || is_foreground_job(terminal))
}

impl Drop for Child {
    fn drop(&mut self) {
        // If it has not been started, it ends as its pipe is closed. If it had ended before, that is
        // the cause of the failure.
        if self.start.take().is_some() {
            let _ = kill(self.pid, SIGCONT); // it may be stopped
            match retry(|| waitpid(self.pid, None)) {
                Ok(WaitStatus::Exited(_, 1..)) => report::already_reported(),
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    report::warning(&format!("the child was killed by {signal}"));
                    report::already_reported();
                }
                _ => {}
            }
        }
        // After `run` there is no such child any more, and both calls fail without effect.
        if waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            let _ = kill(self.pid, SIGKILL);
            let _ = retry(|| waitpid(self.pid, None));
        }
    }
}

impl Exit {
    /// Ends the stage as its command ended: with its status, or by its signal.
    pub fn pass_on(self) -> ExitCode {
        match self {
            Self::Status(status) => status.into(),
            Self::Signal(signal) => {
                let _ = set_dumpable(false); // the core file, if any, is the command's
                let _ = sys::set_ignored(signal, false);
                let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from(signal)), None);
                let _ = raise(signal);
                (128 + signal as u8).into() // for a signal that does not end a process
            }
        }
    }
}

/// Repeats a call that a signal has interrupted.
fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

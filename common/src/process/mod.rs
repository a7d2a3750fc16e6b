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

mod disposition;
mod wait;

pub use wait::Exit;
pub(crate) use wait::shell_status;
use wait::{FORWARDED, STOPS};

use crate::error::failed;
use crate::explain::{self, Fact, call, heading, step};
use crate::namespaces::{letters, names, nsenter, number_in_proc};
use crate::terminal::Terminal;
use crate::{Error, Result, hints, idmap, report, sys};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::prctl::{set_dumpable, set_pdeathsig};
use nix::sys::signal::Signal::SIGWINCH;
use nix::sys::signal::Signal::{SIGCHLD, SIGCONT, SIGKILL};
use nix::sys::signal::{SigSet, SigmaskHow, kill, sigprocmask};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{ForkResult, Gid, Pid, Uid, pipe2, read, setgroups};
use nix::unistd::{setresgid, setresuid, write};
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::sync::OnceLock;

/// In the child: its end of the pipe whose other end the parent holds open.
static PARENT: OnceLock<OwnedFd> = OnceLock::new();

/// The process that becomes the container's command. Dropped before it has run, it is killed.
pub struct Child {
    pid: Pid,
    flags: CloneFlags,
    /// What the explanation has shown of it.
    shown: Vec<Fact>,
    /// A byte lets the child go on. When the last copy is closed, the child ends.
    start: Option<OwnedFd>,
}

/// clone(2): a child in the new namespaces that `flags` names (the talk's `Cloneflags`). It carries
/// out `container` once the parent calls [`Child::run`].
///
/// Go executes its own binary again, with the argument `CLONE`, because its runtime cannot fork. A
/// Rust program with one thread just goes on in the child.
pub fn clone(flags: CloneFlags, container: impl FnOnce() -> Result<Infallible>) -> Result<Child> {
    heading("namespaces");
    let (shell, does) = match flags.is_empty() {
        true => (String::new(), "a process in the container"), // of the exec example
        false => (
            format!("unshare -{}", letters(flags)),
            "a child in new namespaces",
        ),
    };
    let (started, start, cloned) = step(shell, does, || {
        let (started, start) = call("pipe2(O_CLOEXEC)", || pipe2(OFlag::O_CLOEXEC))?;
        let text = format_args!("clone({}|SIGCHLD)", names(flags.iter_names()));
        let cloned = call(text, || sys::clone(flags));
        let cloned = cloned.map_err(|error| hints::new_namespaces(error, flags))?;
        Ok((started, start, cloned))
    })?;
    if let ForkResult::Parent { child: pid } = cloned {
        // A later process, such as the proxy of --publish, must not keep it open when the stage is killed.
        sys::close_in_child(&start);
        let mut shown = vec![];
        if explain::is_on() {
            let number = number_in_proc(pid)?.to_string();
            shown.push(Fact::process(&number));
            explain::changed(&[], &shown);
            let namespaces = |process| Fact::namespaces(process, flags);
            explain::changed(&namespaces("self"), &namespaces(&number));
        }
        let start = Some(start);
        return Ok(Child {
            pid,
            flags,
            shown,
            start,
        });
    }
    drop(start);
    explain::inside(flags);
    let started = PARENT.get_or_init(|| started);
    let Err(error) = wait_for_start(started).and_then(|()| container());
    sys::exit(explain::report_failure(&error))
}

/// In the child: waits for the parent's byte. If the parent dies, at whatever moment, the child ends.
fn wait_for_start(started: &OwnedFd) -> Result<()> {
    let mut pace = [0];
    let mut read_byte = || retry(|| read(started, &mut pace));
    if call("read(pipe)", &mut read_byte)? == 0 {
        return Err(Error::already_reported(0)); // the parent has gone
    }
    explain::set_pace(pace[0]);
    die_with_parent()
}

fn die_with_parent() -> Result<()> {
    let die_with_parent = || set_pdeathsig(SIGKILL);
    call("prctl(PR_SET_PDEATHSIG, SIGKILL)", die_with_parent)?;
    // If the parent has died just before, its end of the pipe is closed.
    let Some(pipe) = PARENT.get() else {
        return Ok(());
    };
    let mut waited = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waited, PollTimeout::ZERO) {
        Ok(0) | Err(_) => Ok(()),
        Ok(_) => Err(Error::already_reported(1)),
    }
}

/// With `--map auto`, in the child: its ids become those of root inside, and it leaves the groups of
/// the host. With the other maps it has these ids already, and may not leave a group.
pub fn become_root(options: &idmap::Options) -> Result<()> {
    if !options.is_range() {
        return Ok(());
    }
    take_root_ids()?;
    // Other ids make a process not dumpable, so that it cannot read its own /proc files: prctl(2).
    let dumpable = || set_dumpable(true);
    call("prctl(PR_SET_DUMPABLE, SUID_DUMP_USER)", dumpable)
}

/// setgroups(2), setresgid(2), setresuid(2).
pub(crate) fn take_root_ids() -> Result<()> {
    heading("user namespace");
    let shell = "setpriv --reuid 0 --regid 0 --clear-groups";
    step(shell, "root inside, and in no group of the host", || {
        call("setgroups(0, [])", || setgroups(&[]))?;
        let (gid, uid) = (Gid::from_raw(0), Uid::from_raw(0));
        call("setresgid(0, 0, 0)", || setresgid(gid, gid, gid))?;
        call("setresuid(0, 0, 0)", || setresuid(uid, uid, uid))?;
        die_with_parent() // other ids let a process outlive its parent: prctl(2)
    })
}

impl Child {
    /// Its process id, in the parent's PID namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its number in /proc, and the nsenter(1) command that enters its namespaces, for display.
    ///
    /// # Errors
    /// If /proc does not show the child.
    pub(crate) fn nsenter(&self, idmap: &idmap::Options) -> Result<(Pid, String)> {
        let number = number_in_proc(self.pid)?;
        Ok((number, nsenter(number, self.flags, !idmap.is_range())))
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
        let exit = self.wait_for_end(&awaited, relay.as_mut());
        if let Some(mut relay) = relay {
            relay.drain();
        }
        exit.inspect(|_| explain::changed(&self.shown, &[]))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // If it has not been started, it ends as its pipe is closed. If it had ended before, that is
        // the cause of the failure.
        if self.start.take().is_some() {
            let _ = kill(self.pid, SIGCONT); // it may be stopped
            let ended = retry(|| sys::waitpid(self.pid, WaitPidFlag::empty()));
            if let Ok(Some((_, status))) = ended {
                if status.signal().is_some() {
                    report::warning(&format!("the child ended: {status}"));
                }
                if !status.success() {
                    report::already_reported();
                }
            }
            explain::changed(&self.shown, &[]);
        }
        // After `run` there is no such child any more, and both calls fail without effect.
        if let Ok(None) = sys::waitpid(self.pid, WaitPidFlag::WNOHANG) {
            let _ = kill(self.pid, SIGKILL);
            let _ = retry(|| sys::waitpid(self.pid, WaitPidFlag::empty()));
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

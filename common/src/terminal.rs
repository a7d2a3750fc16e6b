//! The container's session and terminal: a pseudo-terminal of its own, as `docker run -it`. See
//! [pty(7)], [credentials(7)], [ioctl_tty(2)].
//!
//! A container that shares the caller's session can send signals to the caller's process group, change
//! its terminal, and type into it. In a session of its own it cannot. Where stdin and stdout are
//! terminals, the container also gets a pseudo-terminal from its own devpts, and the stage copies the
//! bytes between the two.
//!
//! [pty(7)]: https://man7.org/linux/man-pages/man7/pty.7.html
//! [credentials(7)]: https://man7.org/linux/man-pages/man7/credentials.7.html
//! [ioctl_tty(2)]: https://man7.org/linux/man-pages/man2/ioctl_tty.2.html

use crate::error::failed;
use crate::explain::{Returned, call, heading, step};
use crate::files::{self, kind};
use crate::mount::Tree;
use crate::{Result, sys};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices as Key, Termios};
use nix::sys::termios::{cfmakeraw, tcgetattr, tcgetsid, tcsetattr};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getsid, isatty, read, setsid};
use nix::unistd::{tcgetpgrp, write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Which session and terminal the container has.
pub enum Terminal {
    /// Those of the caller, as with `unshare`.
    Shared,
    /// A session of its own.
    Session,
    /// A session and a pseudo-terminal of its own, whose master travels from the child to the stage:
    /// the stage's end of a socket, and the child's, which execve(2) closes.
    Own(OwnedFd, OwnedFd),
}

/// Decides, before the clone: with `--bare` everything is shared.
pub fn open_for(bare: bool) -> Result<Terminal> {
    if bare {
        return Ok(Terminal::Shared);
    }
    // A terminal of another session, as after `setsid -f`, is in use there.
    let is_ours = |fd| tcgetsid(sys::standard(fd)) == getsid(None);
    if !(0..2).all(is_ours) {
        return Ok(Terminal::Session);
    }
    let text = "socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC)";
    let (kind, flags) = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
    let (ours, theirs) = call(text, || socketpair(AddressFamily::Unix, kind, None, flags))?;
    sys::close_in_child(&ours);
    Ok(Terminal::Own(ours, theirs))
}

impl Returned for PtyMaster {
    fn show(&self) -> Option<String> {
        Some(self.as_raw_fd().to_string())
    }
}

impl Terminal {
    /// In the child: leaves the caller's session, and opens the container's terminal.
    pub fn enter(&self) -> Result<()> {
        if let Self::Shared = self {
            return Ok(());
        }
        heading("what namespaces leave open");
        let does = "its signals stay in a session of its own";
        let new_session = || call("setsid()", setsid);
        step("setsid", does, new_session)?;
        let Self::Own(_, socket) = self else {
            return Ok(());
        };
        let does = "a terminal of its own; the stage copies its bytes";
        step("script -q /dev/null", does, || open_own(socket))
    }

    /// In the stage: what it needs to copy between the two terminals. `None` if the container has none.
    pub(crate) fn relay(self, child: Pid) -> Result<Option<Relay>> {
        let Self::Own(socket, _) = self else {
            return Ok(None);
        };
        Ok(Some(Relay {
            child,
            socket: Some(socket),
            master: None,
            settings: tcgetattr(sys::standard(0)).map_err(failed("tcgetattr(0)"))?,
            raw: false,
            hung_up: false,
            pending: vec![],
        }))
    }
}

/// Opens a pseudo-terminal, sends its master through `socket`, and takes its other end as stdin, stdout
/// and, where that is a terminal, stderr.
fn open_own(socket: &OwnedFd) -> Result<()> {
    let text = "openat(AT_FDCWD, \"/dev/ptmx\", O_RDWR|O_NOCTTY|O_CLOEXEC)";
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let master = call(text, || posix_openpt(flags | OFlag::O_NOCTTY))?;
    unlockpt(&master).map_err(failed("unlockpt()"))?;
    let path = ptsname_r(&master).map_err(failed("ptsname_r()"))?;
    // Without O_NOCTTY it becomes the controlling terminal of the new session.
    let text = format_args!("openat(AT_FDCWD, {path:?}, O_RDWR|O_CLOEXEC)");
    let slave = call(text, || open(path.as_str(), flags, Mode::empty()))?;
    // The same keys and settings as outside.
    if let Ok(settings) = tcgetattr(sys::standard(0)) {
        let _ = tcsetattr(&slave, SetArg::TCSANOW, &settings);
    }
    sys::copy_window_size(sys::standard(0), &master);
    let send = || sys::send_descriptor(socket, &master);
    call("sendmsg(terminal)", send)?;
    // A process that joins a container finds the first one's, or whatever root inside has put there.
    let console = Path::new("/dev/console");
    if kind(console)?.is_none() {
        files::create(console, "")?;
        Tree::open(Path::new(&path))?.attach(console)?;
    }
    dup2_stdin(&slave).map_err(failed("dup2(terminal, 0)"))?;
    dup2_stdout(&slave).map_err(failed("dup2(terminal, 1)"))?;
    if isatty(sys::standard(2)) == Ok(true) {
        dup2_stderr(&slave).map_err(failed("dup2(terminal, 2)"))?;
    }
    Ok(())
}

/// Copies between the caller's terminal and the container's, from execve(2) of the command on.
pub(crate) struct Relay {
    child: Pid,
    /// The child's end is closed by execve(2), or by its death.
    socket: Option<OwnedFd>,
    master: Option<OwnedFd>,
    /// The settings of the caller's terminal, which is raw meanwhile.
    settings: Termios,
    raw: bool,
    hung_up: bool,
    /// What was typed, and does not fit into the container's terminal yet.
    pending: Vec<u8>,
}

impl Relay {
    /// Copies until a signal arrives: the signal, and whether a key has already sent it to the container.
    pub(crate) fn until_signal(&mut self, awaited: &SigSet) -> Result<(Signal, bool)> {
        let signals = SignalFd::with_flags(awaited, SfdFlags::SFD_CLOEXEC);
        let signals = signals.map_err(failed("signalfd()"))?;
        loop {
            // What is typed is read once everything before it has been passed on. Until execve(2) the
            // reader of --step types, so only what is printed is copied.
            let is_full = !self.pending.is_empty();
            let mut waited = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if let Some(master) = &self.master {
                let mut events = PollFlags::POLLIN;
                events.set(PollFlags::POLLOUT, is_full);
                waited.push(PollFd::new(master.as_fd(), events));
            }
            let at = waited.len();
            if let Some(socket) = &self.socket {
                waited.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            } else if self.master.is_some() && !is_full && !self.hung_up {
                waited.push(PollFd::new(sys::standard(0), PollFlags::POLLIN));
            }
            match poll(&mut waited, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                done => done.map_err(failed("poll()"))?,
            };
            let ready = |at: usize| waited.get(at).is_some_and(|fd| fd.any() == Some(true));
            let (signal, printed, other) = (ready(0), at > 1 && ready(1), ready(at));
            if signal {
                let info = signals.read_signal().map_err(failed("read(signalfd)"))?;
                let number = info.map_or(0, |info| info.ssi_signo.cast_signed());
                match Signal::try_from(number).map_err(failed("read(signalfd)"))? {
                    Signal::SIGWINCH | Signal::SIGCONT => self.resume(),
                    signal => return Ok((signal, false)),
                }
                continue;
            }
            let is_typed = other && self.socket.is_none();
            // Before the command's first output, after which the reader types.
            if other && !is_typed {
                self.receive()?;
            }
            if printed {
                self.push();
                self.show();
            }
            if is_typed && let Some(signal) = self.type_in() {
                return Ok((signal, true));
            }
        }
    }

    /// The terminal from the child, and then the end of its set-up.
    fn receive(&mut self) -> Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let received = sys::receive_descriptor(socket).map_err(failed("recvmsg(terminal)"))?;
        if let Some(master) = received {
            let _ = fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
            self.master = Some(master);
        } else {
            self.socket = None;
        }
        self.resume();
        Ok(())
    }

    /// Makes the caller's terminal raw, so that the container's own interprets the keys; after a stop
    /// again, since the shell outside has used it meanwhile. Until execve(2) it only stops interpreting
    /// what is printed.
    fn resume(&mut self) {
        let Some(master) = &self.master else { return };
        let mut raw = self.settings.clone();
        match self.socket {
            Some(_) => raw.output_flags.remove(OutputFlags::OPOST),
            None => cfmakeraw(&mut raw),
        }
        let _ = tcsetattr(sys::standard(0), SetArg::TCSADRAIN, &raw);
        self.raw = true;
        sys::copy_window_size(sys::standard(0), master);
    }

    /// Reads what is typed. Returns a signal that a key sends to PID 1, which the kernel may drop.
    fn type_in(&mut self) -> Option<Signal> {
        let mut bytes = [0; 4096];
        let Ok(length @ 1..) = read(sys::standard(0), &mut bytes) else {
            self.hung_up = true; // the kernel sends SIGHUP
            return None;
        };
        self.pending.extend_from_slice(&bytes[..length]);
        let key = self.signal_key(&bytes[..length]);
        self.push();
        key
    }

    fn signal_key(&self, bytes: &[u8]) -> Option<Signal> {
        let master = self.master.as_ref()?;
        let settings = tcgetattr(master).ok()?;
        let is_on = settings.local_flags.contains(LocalFlags::ISIG);
        if !is_on || tcgetpgrp(master) != Ok(self.child) {
            return None;
        }
        let keys = [(Key::VINTR, Signal::SIGINT), (Key::VQUIT, Signal::SIGQUIT)];
        let is_pressed = |key: Key| bytes.contains(&settings.control_chars[key as usize]);
        let pressed = keys.into_iter().find(|(key, _)| is_pressed(*key));
        pressed.map(|(_, signal)| signal)
    }

    fn push(&mut self) {
        if let Some(master) = &self.master
            && let Ok(length) = write(master, &self.pending)
        {
            self.pending.drain(..length);
        }
    }

    /// Shows what the container prints. Returns whether there was anything.
    fn show(&mut self) -> bool {
        let Some(master) = &self.master else {
            return false;
        };
        let mut bytes = [0; 4096];
        let read = read(master, &mut bytes);
        if let Ok(0) | Err(Errno::EIO) = read {
            self.master = None; // no process has the container's terminal open
        }
        let mut rest = &bytes[..read.unwrap_or(0)];
        while let Ok(length @ 1..) = write(sys::standard(1), rest) {
            rest = &rest[length..];
        }
        matches!(read, Ok(1..))
    }

    /// After the container's end: shows what is left. A command may have ended before its terminal has
    /// been received.
    pub(crate) fn drain(&mut self) {
        while self.socket.is_some() && self.receive().is_ok() {}
        while self.show() {}
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.raw {
            let _ = tcsetattr(sys::standard(0), SetArg::TCSADRAIN, &self.settings);
        }
    }
}

//! The relay: the stage copies between the caller's terminal and the container's.

use crate::error::failed;
use crate::{Result, sys};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices as Key, Termios};
use nix::sys::termios::{cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Pid, read, tcgetpgrp, write};
use std::os::fd::{AsFd, OwnedFd};

/// The container's terminal.
struct Inside {
    master: OwnedFd,
    /// Its other end. While that is open, the terminal stays, also if no process inside has it open.
    _slave: OwnedFd,
}

/// Copies between the caller's terminal and the container's, from execve(2) of the command on.
pub(crate) struct Relay {
    child: Pid,
    /// The child's end is closed by execve(2), or by its death.
    socket: Option<OwnedFd>,
    inside: Option<Inside>,
    /// The settings of the caller's terminal, which is raw meanwhile.
    settings: Termios,
    raw: bool,
    /// What was typed, and does not fit into the container's terminal yet.
    pending: Vec<u8>,
}

impl Relay {
    pub(super) fn new(child: Pid, socket: OwnedFd) -> Result<Self> {
        Ok(Self {
            child,
            socket: Some(socket),
            inside: None,
            settings: tcgetattr(sys::standard(0)).map_err(failed("tcgetattr(0)"))?,
            raw: false,
            pending: vec![],
        })
    }

    /// Copies until a signal arrives: the signal, and whether a key has already sent it to the container.
    pub(crate) fn until_signal(&mut self, awaited: &SigSet) -> Result<(Signal, bool)> {
        let signals = SignalFd::with_flags(awaited, SfdFlags::SFD_CLOEXEC);
        let signals = signals.map_err(failed("signalfd()"))?;
        loop {
            // What is typed is read once everything before it has been passed on. Until execve(2) the
            // reader of --step types, so only what is printed is copied.
            let is_full = !self.pending.is_empty();
            let mut waited = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if let Some(Inside { master, .. }) = &self.inside {
                let mut events = PollFlags::POLLIN;
                events.set(PollFlags::POLLOUT, is_full);
                waited.push(PollFd::new(master.as_fd(), events));
            }
            let at = waited.len();
            if let Some(socket) = &self.socket {
                waited.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            } else if self.inside.is_some() && self.raw && !is_full {
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
                if self.socket.is_none() {
                    self.resume();
                    self.take_typed_lines();
                }
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
        let Some(master) = received else {
            self.socket = None;
            return Ok(());
        };
        let _ = fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        let slave = sys::open_peer(&master).map_err(failed("ioctl(TIOCGPTPEER)"))?;
        self.inside = Some(Inside {
            master,
            _slave: slave,
        });
        self.resume();
        Ok(())
    }

    /// What was typed in lines, before the terminal was made raw. There the end of input (Ctrl-D) is a zero byte.
    fn take_typed_lines(&mut self) {
        let end = self.settings.control_chars[Key::VEOF as usize];
        let is_in_lines = self.settings.local_flags.contains(LocalFlags::ICANON);
        if is_in_lines && self.events(PollFlags::POLLIN) == PollFlags::POLLIN {
            let mut bytes = [0; 4096]; // as much as a terminal keeps
            let length = read(sys::standard(0), &mut bytes).unwrap_or(0);
            let typed = bytes[..length].iter();
            self.pending
                .extend(typed.map(|byte| if *byte == 0 { end } else { *byte }));
        }
    }

    /// What poll(2) says of the caller's terminal now. A hangup is always among it.
    fn events(&self, wanted: PollFlags) -> PollFlags {
        let mut waited = [PollFd::new(sys::standard(0), wanted)];
        let _ = poll(&mut waited, PollTimeout::ZERO);
        waited[0].revents().unwrap_or(PollFlags::empty())
    }

    /// Makes the caller's terminal raw, so that the container's own interprets the keys; after a stop
    /// again, since the shell outside has used it meanwhile. Until execve(2) it only stops interpreting
    /// what is printed.
    fn resume(&mut self) {
        let Some(Inside { master, .. }) = &self.inside else {
            return;
        };
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
        let length = match read(sys::standard(0), &mut bytes) {
            Err(Errno::EAGAIN | Errno::EINTR) => return None,
            Err(_) | Ok(0) => {
                // If the terminal has gone, the container's goes, too, and the kernel sends SIGHUP there. Otherwise
                // the stage is in the background, and may not read until it is continued.
                if self.events(PollFlags::empty()).contains(PollFlags::POLLHUP) {
                    self.inside = None;
                }
                self.raw = false;
                return None;
            }
            Ok(length) => length,
        };
        self.pending.extend_from_slice(&bytes[..length]);
        let key = self.signal_key(&bytes[..length]);
        if key.is_none() {
            self.push();
        }
        key // which is passed on by the next call, after the stage has looked at PID 1
    }

    fn signal_key(&self, bytes: &[u8]) -> Option<Signal> {
        let Inside { master, .. } = self.inside.as_ref()?;
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
        if let Some(Inside { master, .. }) = &self.inside
            && let Ok(length) = write(master, &self.pending)
        {
            self.pending.drain(..length);
        }
    }

    /// Shows what the container prints. Returns whether there was anything.
    fn show(&mut self) -> bool {
        let Some(Inside { master, .. }) = &self.inside else {
            return false;
        };
        let mut bytes = [0; 4096];
        let read = read(master, &mut bytes);
        if let Ok(0) | Err(Errno::EIO) = read {
            self.inside = None; // it has been hung up
        }
        let mut rest = &bytes[..read.unwrap_or(0)];
        while !rest.is_empty() {
            match write(sys::standard(1), rest) {
                Ok(length) => rest = &rest[length..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let mut full = [PollFd::new(sys::standard(1), PollFlags::POLLOUT)];
                    let _ = poll(&mut full, PollTimeout::NONE);
                }
                Err(_) => break, // the terminal has gone
            }
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

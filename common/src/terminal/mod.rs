//! The container's own session and terminal, as with `docker run -it`. See
//! [pty(7)], [credentials(7)], [ioctl_tty(2)].
//!
//! A container that shares the caller's session can send signals to the caller's process group, change
//! its terminal, and type into it. So the stage creates a new session. Where stdin and stdout are
//! terminals, the container also gets a pseudo-terminal from its devpts, and the stage copies the
//! bytes between the two.
//!
//! [pty(7)]: https://man7.org/linux/man-pages/man7/pty.7.html
//! [credentials(7)]: https://man7.org/linux/man-pages/man7/credentials.7.html
//! [ioctl_tty(2)]: https://man7.org/linux/man-pages/man2/ioctl_tty.2.html

mod relay;

pub(crate) use relay::Relay;

use crate::error::failed;
use crate::explain::{Returned, call, heading, step};
use crate::files::{self, kind};
use crate::mount::Tree;
use crate::{Result, sys};
use nix::fcntl::{OFlag, open};
use nix::pty::{PtyMaster, posix_openpt, ptsname_r, unlockpt};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, tcgetattr, tcgetsid, tcsetattr};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getsid, isatty, setsid};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Which session and terminal the container has.
pub enum Terminal {
    /// Those of the caller, as with `unshare`.
    Shared,
    /// A new session.
    Session,
    /// A new session and a new pseudo-terminal. The child sends its master to the stage. Here are
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
        match self {
            Self::Own(socket, _) => Relay::new(child, socket).map(Some),
            _ => Ok(None),
        }
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

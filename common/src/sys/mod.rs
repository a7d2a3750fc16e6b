//! Thin system calls, for which nix has no safe function. All `unsafe` of the project is here.

mod capabilities;
mod mount;
mod signals;

pub(crate) use capabilities::{drop_from_bounding_set, permitted_capabilities};
pub(crate) use capabilities::{raise_ambient, set_capabilities};
pub(crate) use mount::{mount_setattr, move_mount, open_tree};
pub(crate) use signals::{Alarm, kill, raise_default, set_ignored, wait_for_signal, waitpid};

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::{ForkResult, Pid, close};
use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

fn checked(returned: impl Into<libc::c_long>) -> nix::Result<()> {
    Errno::result(returned.into()).map(drop)
}

/// The descriptors that only the host side keeps.
static HOST_ONLY: Mutex<Vec<RawFd>> = Mutex::new(vec![]);

/// [`clone`] closes this descriptor in the new process. It would keep a lock locked and a
/// pipe open after the stage has been killed. The stage itself keeps it open: another one must not get its number.
pub(crate) fn close_in_child(fd: impl AsFd) {
    if let Ok(mut all) = HOST_ONLY.lock() {
        all.push(fd.as_fd().as_raw_fd());
    }
}

fn close_host_only() {
    // The new process never uses the owners of these descriptors, and ends without dropping them: it
    // executes a program or calls _exit(2).
    let all = HOST_ONLY.lock().map(|mut all| std::mem::take(&mut *all));
    for fd in all.unwrap_or_default() {
        let _ = close(fd);
    }
}

/// clone(2) without a stack: fork(2), with namespaces if `flags` names some.
pub(crate) fn clone(flags: CloneFlags) -> nix::Result<ForkResult> {
    let flags = libc::c_long::from(flags.bits() | libc::SIGCHLD);
    // The order of the first two arguments depends on the architecture: clone(2).
    let is_reversed = cfg!(target_arch = "s390x");
    let [first, second] = if is_reversed { [0, flags] } else { [flags, 0] };
    // SAFETY: the program has one thread, and CLONE_VM is not set, so the child gets a consistent
    // copy of everything.
    let returned = unsafe { libc::syscall(libc::SYS_clone, first, second, 0, 0, 0) };
    let pid = i32::try_from(Errno::result(returned)?).map_err(|_| Errno::EOVERFLOW)?;
    if pid == 0 {
        close_host_only();
        return Ok(ForkResult::Child);
    }
    let child = Pid::from_raw(pid);
    Ok(ForkResult::Parent { child })
}

/// _exit(2): ends a child without what the parent does at its end, such as flushing buffers.
pub(crate) fn exit(status: u8) -> ! {
    // SAFETY: it does not return, and touches no memory.
    unsafe { libc::_exit(status.into()) }
}

/// pidfd_open(2).
pub(crate) fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: a system call on numbers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just opened it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether these signals were ignored, and which of the descriptors 0 to 2 were closed (a bit each), before
/// the start-up of Rust's library.
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);
static SIGCHLD_IGNORED: AtomicBool = AtomicBool::new(false);
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// The linker puts this into the list of functions that run before `main`, and before Rust's own
/// start-up: it ignores SIGPIPE, and opens /dev/null where a standard descriptor is closed.
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER: extern "C" fn() = {
    extern "C" fn remember() {
        // Ignoring it is what Rust's start-up does next.
        let ignored = set_ignored(Signal::SIGPIPE, true).unwrap_or(false);
        SIGPIPE_IGNORED.store(ignored, Relaxed);
        // Where it is ignored, the kernel reaps children, and their exit status is lost.
        let ignored = set_ignored(Signal::SIGCHLD, false).unwrap_or(false);
        SIGCHLD_IGNORED.store(ignored, Relaxed);
        // SAFETY: a query about a number, whether it is open or not.
        let query = |fd: &i32| Errno::result(unsafe { libc::fcntl(*fd, libc::F_GETFD) });
        let is_closed = |fd: &i32| query(fd) == Err(Errno::EBADF);
        let bits = (0..3).filter(is_closed).fold(0, |bits, fd| bits | 1 << fd);
        CLOSED.store(bits, Relaxed);
    }
    remember
};

/// Gives the command what the caller has handed on: the two signals as they were, and closed descriptors.
pub(crate) fn restore_inherited() -> nix::Result<()> {
    set_ignored(Signal::SIGPIPE, SIGPIPE_IGNORED.load(Relaxed))?;
    set_ignored(Signal::SIGCHLD, SIGCHLD_IGNORED.load(Relaxed))?;
    for fd in (0..3).filter(|fd| CLOSED.load(Relaxed) >> fd & 1 == 1) {
        let _ = close(fd); // where execve(2) fails, a write to stderr may fail
    }
    Ok(())
}

/// One of the descriptors 0, 1 and 2.
pub(crate) fn standard(fd: RawFd) -> BorrowedFd<'static> {
    assert!((0..3).contains(&fd));
    // SAFETY: if they were closed, Rust's start-up has opened them, and nothing closes them.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// close_range(2): execve(2) will close all descriptors but 0, 1 and 2.
///
/// The flag is new in Linux 5.11. Without it each descriptor gets FD_CLOEXEC by itself.
pub(crate) fn close_on_exec() -> nix::Result<()> {
    let (number, flag) = (libc::SYS_close_range, libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: nothing is closed before execve(2).
    if unsafe { libc::syscall(number, 3, u32::MAX, flag) } == 0 {
        return Ok(());
    }
    let open = std::fs::read_dir("/proc/self/fd");
    for fd in open.map_err(|error| crate::error::errno(&error))?.flatten() {
        if let Some(fd @ 3..) = fd.file_name().to_str().and_then(|name| name.parse().ok()) {
            // SAFETY: it sets a flag; the number may have been closed meanwhile.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// close_range(2): closes all descriptors but 0, 1, 2 and this one, in a process that uses no other.
pub(crate) fn close_all_but(kept: impl AsFd) {
    let kept = kept.as_fd().as_raw_fd().cast_unsigned();
    let ranges = [(3, kept - 1), (kept + 1, u32::MAX)];
    for (first, last) in ranges.into_iter().filter(|(first, last)| first <= last) {
        // SAFETY: the process never uses the owners of these descriptors.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// Sets a variable in this process's environment, or removes it.
pub(crate) fn set_var(name: &OsStr, value: Option<&OsStr>) {
    // SAFETY: the program has one thread.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
}

/// seccomp(2): sets a filter for this process and its children. `EINVAL` for a program that the
/// kernel does not accept.
pub(crate) fn seccomp(program: &[libc::sock_filter]) -> nix::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let filter = program.as_ptr().cast_mut();
    let program = libc::sock_fprog { len, filter };
    let (number, operation) = (libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: the kernel reads `len` instructions, and copies them.
    checked(unsafe { libc::syscall(number, operation, 0, &raw const program) })
}

/// setsockopt(NETLINK_EXT_ACK): the kernel's own words beside the errno of a refused request. Before
/// Linux 4.12 there are none, which does no harm.
pub(crate) fn ask_for_words(socket: &OwnedFd) {
    let (fd, level, option) = (socket.as_raw_fd(), libc::SOL_NETLINK, libc::NETLINK_EXT_ACK);
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads the 4 bytes of `on`.
    unsafe { libc::setsockopt(fd, level, option, (&raw const on).cast(), 4) };
}

/// The other end of a pseudo-terminal, not as a controlling terminal: TIOCGPTPEER of ioctl_tty(2).
pub(crate) fn open_peer(master: impl AsFd) -> nix::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the call takes a number, and returns a descriptor.
    let fd = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    // SAFETY: the kernel has just opened it.
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives one terminal the window size of another: TIOCGWINSZ and TIOCSWINSZ.
pub(crate) fn copy_window_size(from: BorrowedFd<'_>, to: impl AsFd) {
    let mut size = [0_u16; 4]; // struct winsize
    let (from, to) = (from.as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: the kernel writes the structure, and reads it again.
    unsafe {
        if libc::ioctl(from, libc::TIOCGWINSZ, &raw mut size) == 0 {
            libc::ioctl(to, libc::TIOCSWINSZ, &raw const size);
        }
    }
}

/// Sends a descriptor over a Unix socket: unix(7), SCM_RIGHTS.
pub(crate) fn send_descriptor(socket: &OwnedFd, fd: impl AsFd) -> nix::Result<()> {
    let (fds, byte) = ([fd.as_fd().as_raw_fd()], [IoSlice::new(b"t")]);
    let (message, flags) = ([ControlMessage::ScmRights(&fds)], MsgFlags::empty());
    sendmsg::<()>(socket.as_raw_fd(), &byte, &message, flags, None).map(drop)
}

/// Receives a descriptor; `None` once the other side has closed its end.
pub(crate) fn receive_descriptor(socket: &OwnedFd) -> nix::Result<Option<OwnedFd>> {
    let (mut byte, mut space) = ([0], nix::cmsg_space!(RawFd));
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let Some(ControlMessageOwned::ScmRights(fds)) = received.cmsgs()?.next() else {
        return Ok(None);
    };
    // SAFETY: the kernel has just opened it for this process.
    Ok(fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }))
}

//! The newer system calls about mounts: open_tree(2), mount_setattr(2), move_mount(2).

use super::checked;
use nix::errno::Errno;
use nix::libc;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// mount_setattr(2), for the mount at `path`, or of the descriptor `tree`, and all below.
pub(crate) fn mount_setattr(
    tree: Option<&OwnedFd>,
    path: &CStr,
    attributes: &libc::mount_attr,
) -> nix::Result<()> {
    let from = tree.map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd);
    let (number, path) = (libc::SYS_mount_setattr, path.as_ptr());
    let flags = libc::AT_RECURSIVE | tree.map_or(0, |_| libc::AT_EMPTY_PATH);
    let size = size_of_val(attributes);
    let attributes = std::ptr::from_ref(attributes);
    // SAFETY: `path` ends with NUL, and the kernel reads `size` bytes of `attributes`.
    checked(unsafe { libc::syscall(number, from, path, flags, attributes, size) })
}

/// open_tree(2): a copy of the mounts at `path` and below, which are not attached anywhere.
pub(crate) fn open_tree(path: &CStr) -> nix::Result<OwnedFd> {
    let (number, path) = (libc::SYS_open_tree, path.as_ptr());
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let flags = flags | libc::AT_RECURSIVE.cast_unsigned();
    // SAFETY: `path` ends with NUL.
    let fd = unsafe { libc::syscall(number, libc::AT_FDCWD, path, flags) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just opened it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// move_mount(2): attaches the mounts of `tree` at `path`. It does not follow a link there.
pub(crate) fn move_mount(tree: &OwnedFd, path: &CStr) -> nix::Result<()> {
    let (number, flags) = (libc::SYS_move_mount, libc::MOVE_MOUNT_F_EMPTY_PATH);
    let (tree, path) = (tree.as_raw_fd(), path.as_ptr());
    // SAFETY: both paths end with NUL.
    checked(unsafe { libc::syscall(number, tree, c"".as_ptr(), libc::AT_FDCWD, path, flags) })
}

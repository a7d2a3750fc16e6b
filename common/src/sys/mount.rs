//! The newer system calls about mounts: mount_setattr(2).

use super::checked;
use nix::libc;
use std::ffi::CStr;

/// mount_setattr(2) of the attributes `attr_set`, for the mount at `path` and all below.
pub(crate) fn mount_setattr(path: &CStr, attr_set: u64) -> nix::Result<()> {
    let (number, from, path) = (libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr());
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    let attributes = [attr_set, 0, 0, 0];
    let (attributes, size) = (&raw const attributes, size_of_val(&attributes));
    // SAFETY: `path` ends with NUL, and the kernel reads `size` bytes of `attributes`.
    checked(unsafe { libc::syscall(number, from, path, libc::AT_RECURSIVE, attributes, size) })
}

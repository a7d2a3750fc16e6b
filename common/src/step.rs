//! A step is one system call: carried out, and named when it fails.

use crate::{Error, Result};
use nix::errno::Errno;
use std::fmt;

/// Carries out one system call. `call` is its text, in the manner of strace, and is formatted only
/// where it is needed: in the error.
pub(crate) fn step<T>(call: fmt::Arguments<'_>, run: impl FnOnce() -> nix::Result<T>) -> Result<T> {
    run().map_err(|errno| Error::new(call.to_string(), errno))
}

/// Carries out a system call of libc's that reports failure as -1 and `errno`.
pub(crate) fn checked(returned: libc::c_long) -> nix::Result<libc::c_long> {
    Errno::result(returned)
}

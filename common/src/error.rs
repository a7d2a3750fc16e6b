//! Errors: the call that failed, its errno, and, where the cause is known, what to do.

use nix::errno::Errno;
use std::fmt;

/// The result of every step.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, shown as `call(arguments): ERRNO: text`, then a line `hint: …` where there is one.
#[derive(Debug)]
pub struct Error {
    what: String,
    errno: Option<Errno>,
    hint: Option<String>,
    status: u8,
}

impl Error {
    /// The system call `call`, with its arguments, failed with `errno`.
    pub fn new(call: impl Into<String>, errno: Errno) -> Self {
        Self { what: call.into(), errno: Some(errno), hint: None, status: 1 }
    }

    /// The caller asked for something that cannot be; no system call was made.
    pub fn input(what: impl Into<String>) -> Self {
        Self { what: what.into(), errno: None, hint: None, status: 1 }
    }

    /// A failure that another process of ours has reported already, with the exit status `status`.
    pub(crate) fn reported(status: u8) -> Self {
        Self::input("").with_status(status)
    }

    pub(crate) fn is_reported(&self) -> bool {
        self.what.is_empty()
    }

    /// The reader of `--step` has stopped before `call`; 130 is a shell's status for Ctrl-C.
    pub(crate) fn stopped(call: String) -> Self {
        Self::input(format!("stopped before {call}")).with_status(130)
    }

    /// The errno of the failed call, if a call it was.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// The stage's exit status for this failure: 127 or 126 for a command that is not there or
    /// cannot be executed, as a shell has it; 1 for everything else.
    pub fn status(&self) -> u8 {
        self.status
    }

    pub(crate) fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Adds what to do about it if `errno` is the reason. `hint` returns `None` where it finds no
    /// cause that it knows.
    pub(crate) fn hint_on<H: Into<Option<String>>>(self, errno: Errno, hint: impl FnOnce() -> H) -> Self {
        match self.errno {
            Some(e) if e == errno && self.hint.is_none() => Self { hint: hint().into(), ..self },
            _ => self,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(errno) = self.errno {
            write!(f, ": {errno:?}: {}", errno.desc())?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

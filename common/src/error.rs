//! Errors: the call that failed, its errno, and, where the cause is known, what to do.

use nix::errno::Errno;
use std::{fmt, io};

/// The result of every step.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, shown as `call(arguments): ERRNO: text`, then a line `hint: …` where there is one.
#[derive(Debug)]
pub struct Error {
    what: String,
    errno: Option<Errno>,
    pub(crate) hint: Option<String>,
    status: u8,
}

impl Error {
    /// The system call `call`, with its arguments, failed with `errno`.
    pub(crate) fn new(call: impl Into<String>, errno: Errno) -> Self {
        let mut error = Self::input(call);
        error.errno = Some(errno);
        error
    }

    /// The caller asked for something impossible. No system call was made.
    pub(crate) fn input(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            errno: None,
            hint: None,
            status: 1,
        }
    }

    /// Another process of this run has already reported the cause, so this has no text.
    pub(crate) fn already_reported(status: u8) -> Self {
        Self::input("").with_status(status)
    }

    /// The errno of the failed call, if the failure was a call.
    pub(crate) fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// The stage's exit status: as a shell's 127 (not found) and 126 (not executable), otherwise 1.
    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    pub(crate) fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into());
        Self { hint, ..self }
    }

    /// Adds what to do if `errno` is the reason, unless there is a hint.
    pub(crate) fn hint_on(self, errno: Errno, hint: impl Into<String>) -> Self {
        let is_it = self.errno == Some(errno) && self.hint.is_none();
        if is_it { self.hint(hint) } else { self }
    }

    /// The call and its errno, without the hint.
    pub(crate) fn message(&self) -> String {
        match self.errno {
            Some(errno) => format!("{}: {errno:?}: {}", self.what, errno.desc()),
            None => self.what.clone(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{}\nhint: {hint}", self.message()),
            None => f.write_str(&self.message()),
        }
    }
}

impl std::error::Error for Error {}

/// The errno of an error of the standard library.
pub(crate) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// For `map_err`: names the call that failed.
pub(crate) fn failed<E: Into<io::Error>>(call: impl Into<String>) -> impl FnOnce(E) -> Error {
    |error| Error::new(call, errno(&error.into()))
}

/// With this errno the aim of the call has been reached, too.
pub(crate) fn accept(errno: Errno, result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.errno == Some(errno) => Ok(()),
        result => result,
    }
}

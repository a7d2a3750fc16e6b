//! What a stage prints on stderr: errors, notes, and the lines of `--explain`.
//!
//! Each line is one write(2), so that the lines of two processes do not mix. If stderr is closed or
//! full, the line is lost, and the stage goes on.

use crate::Error;
use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Set once the root cause has been reported, so that follow-on errors stay silent.
static ALREADY_REPORTED: AtomicBool = AtomicBool::new(false);
/// Whether every line is a JSON object (`--explain=json`).
static JSON: AtomicBool = AtomicBool::new(false);

/// From now on every line is a JSON object.
pub(crate) fn use_json() {
    JSON.store(true, Relaxed);
}

/// From now on [`error`] prints nothing.
pub(crate) fn already_reported() {
    ALREADY_REPORTED.store(true, Relaxed);
}

/// Prints `program: error`, and its hint.
pub(crate) fn error(error: &Error) {
    if error.message().is_empty() || ALREADY_REPORTED.load(Relaxed) {
        return;
    }
    if JSON.load(Relaxed) {
        let message = ("message", quoted(&*error.message()));
        let hint = ("hint", quoted(error.hint.as_deref()));
        line(&object(&[("kind", quoted("error")), message, hint]));
    } else {
        line(&format!("{}: {error}", program()));
    }
}

/// Prints `program: text`.
pub(crate) fn warning(text: &str) {
    if JSON.load(Relaxed) {
        let message = ("message", quoted(text));
        line(&object(&[("kind", quoted("note")), message]));
    } else {
        line(&format!("{}: {text}", program()));
    }
}

/// Prints `program: text`, if there is one, and a person reads it: only on a terminal.
pub(crate) fn note<T: AsRef<str>>(text: impl FnOnce() -> Option<T>) {
    if io::stderr().is_terminal()
        && let Some(text) = text()
    {
        warning(text.as_ref());
    }
}

/// Prints lines for a person, which do not belong between JSON objects.
pub(crate) fn picture(lines: &str) {
    if !JSON.load(Relaxed) {
        line(lines);
    }
}

pub(crate) fn line(text: &str) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

fn program() -> String {
    let program = env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    name.display().to_string()
}

/// A JSON object on one line, of names and JSON values: RFC 8259.
pub(crate) fn object(fields: &[(&str, String)]) -> String {
    let field = |(name, value): &(&str, String)| format!("\"{name}\":{value}");
    let fields = fields.iter().map(field).collect::<Vec<_>>();
    format!("{{{}}}", fields.join(","))
}

/// A JSON string, or null.
pub(crate) fn quoted<'a>(text: impl Into<Option<&'a str>>) -> String {
    let Some(text) = text.into() else {
        return "null".into();
    };
    let mut quoted = String::from('"');
    for character in text.chars() {
        let _ = match character {
            '"' | '\\' => write!(quoted, "\\{character}"),
            control if control < ' ' => write!(quoted, "\\u{:04x}", u32::from(control)),
            other => write!(quoted, "{other}"),
        };
    }
    quoted.push('"');
    quoted
}

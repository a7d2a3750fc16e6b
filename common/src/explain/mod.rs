//! How steps are shown: `--explain` and `--step`.
//!
//! A *step* is a line of the slide: its shell command, and in a few words what it changes. A *call* is
//! one system call or netlink request beneath it: carried out, shown, and named when it fails. What only
//! looks, or concerns the stage's own process, is not shown, and `error::failed` names it. No text
//! is formatted unless it is needed.

mod fact;
mod narrator;

pub(crate) use fact::Fact;

use crate::error::failed;
use crate::report::{self, use_json};
use crate::{Error, Result};
use narrator::{ASK, CONTINUE, Narrator};
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, getpid};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt::Display;
use std::os::fd::{AsRawFd, OwnedFd};
use std::{fs, sync::Mutex};

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Format {
    /// A line a step
    Steps,
    /// Under each step its system calls
    Calls,
    /// A JSON object a line
    Json,
}

/// The options that every stage has.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Show steps, calls or json [default: steps]
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, require_equals = true,
          default_missing_value = "steps", hide_possible_values = true)]
    explain: Option<Format>,
    /// Wait for Enter before each step
    #[arg(long)]
    step: bool,
}

impl Options {
    /// Fails if there is no terminal for `--step`.
    pub(crate) fn apply(self) -> Result<()> {
        if !self.step && self.explain.is_none() {
            return Ok(());
        }
        let format = self.explain.unwrap_or(Format::Steps);
        let mut new = Narrator::new(format);
        if self.step {
            let opened = open("/dev/tty", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
            let terminal = opened.map_err(failed("open(\"/dev/tty\", O_RDWR|O_CLOEXEC)"));
            let hint = "--step needs a terminal; --explain shows the steps without waiting";
            new.terminal = Some(terminal.map_err(|error| error.hint(hint))?);
            new.pace = ASK;
        }
        if format == Format::Json {
            use_json();
        }
        if let Ok(mut narrator) = NARRATOR.lock() {
            *narrator = Some(new);
        }
        Ok(())
    }
}

/// The state of the explanation in this process, if steps are shown. clone(2) and fork(2) copy it.
static NARRATOR: Mutex<Option<Narrator>> = Mutex::new(None);

fn narrate<T>(tell: impl FnOnce(&mut Narrator) -> T) -> Option<T> {
    NARRATOR.lock().ok()?.as_mut().map(tell)
}

/// Whether steps are shown at all.
pub(crate) fn is_on() -> bool {
    narrate(|_| ()).is_some()
}

/// The steps from here on belong together under this heading.
pub(crate) fn heading(text: &'static str) {
    narrate(|narrator| narrator.heading(text));
}

/// A step: the shell command that does the same (empty if there is none), what it changes, and the
/// calls that carry it out. With `--step` it waits for the reader first, and fails if
/// the reader quits.
pub(crate) fn step<T>(
    shell: impl Display,
    does: &str,
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    narrate(|narrator| narrator.step(&shell.to_string(), does)).unwrap_or(Ok(()))?;
    run()
}

/// A call, in the manner of strace. Its error is the call's errno, under its text.
pub(crate) fn call<T: Returned>(
    text: impl Display,
    run: impl FnOnce() -> nix::Result<T>,
) -> Result<T> {
    let returned = run();
    narrate(|narrator| {
        let result = match &returned {
            Ok(value) => value.show()?,
            Err(errno) => format!("-1 {errno:?} ({})", errno.desc()),
        };
        narrator.call(&text, Some(&result));
        Some(())
    });
    returned.map_err(|errno| Error::new(text.to_string(), errno))
}

/// The last call of a process, which does not return: shown before it is made.
pub(crate) fn last_call(
    text: impl Display,
    run: impl FnOnce() -> nix::Result<Infallible>,
) -> Result<Infallible> {
    narrate(|narrator| narrator.call(&text, None));
    call(text, run)
}

/// Shows what `run` changes in the facts that `look` finds.
pub(crate) fn change<T>(
    look: impl Fn() -> Vec<Fact>,
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if !is_on() {
        return run();
    }
    // The calls by which the explanation looks are not the stage's.
    let look = || {
        narrate(|narrator| narrator.looking = true);
        let facts = look();
        narrate(|narrator| narrator.looking = false);
        facts
    };
    let before = look();
    let value = run()?;
    changed(&before, &look());
    Ok(value)
}

/// Shows the difference between two sets of facts.
pub(crate) fn changed(before: &[Fact], after: &[Fact]) {
    narrate(|narrator| narrator.changes(&fact::changes(before, after)));
}

/// From here on this process is the container, with these namespaces.
pub(crate) fn inside(own: CloneFlags) {
    moved(own);
    narrate(|narrator| {
        narrator.inside = true;
        // The host's /proc is still mounted.
        let link = fs::read_link("/proc/self").unwrap_or_default();
        narrator.process = Pid::from_raw(link.display().to_string().parse().unwrap_or(0));
    });
}

/// From here on this process has these namespaces.
pub(crate) fn moved(own: CloneFlags) {
    narrate(|narrator| (narrator.own, narrator.introduced) = (own, false));
}

/// From here on this process is one beside the stage, which never waits for the reader.
pub(crate) fn beside() {
    set_pace(CONTINUE);
    narrate(|narrator| narrator.process = getpid());
}

/// How the reader wants to go on, as a byte for the child.
pub(crate) fn pace() -> u8 {
    narrate(|narrator| narrator.pace).unwrap_or(CONTINUE)
}

/// Goes on as the reader has told the stage.
pub(crate) fn set_pace(pace: u8) {
    narrate(|narrator| narrator.pace = pace);
}

/// Reports an error; returns the exit status for it.
pub(crate) fn report_failure(error: &Error) -> u8 {
    narrate(|narrator| narrator.failed(error));
    report::error(error);
    error.status()
}

/// What a call returns, as strace shows it; `None` in the child of clone(2) and fork(2), where the
/// parent shows it.
pub(crate) trait Returned {
    fn show(&self) -> Option<String> {
        Some("0".into())
    }
}

impl Returned for () {}
impl Returned for (OwnedFd, OwnedFd) {}
impl Returned for Infallible {}

impl Returned for OwnedFd {
    fn show(&self) -> Option<String> {
        Some(self.as_raw_fd().to_string())
    }
}

impl Returned for usize {
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Returned for Pid {
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Returned for ForkResult {
    fn show(&self) -> Option<String> {
        match self {
            Self::Parent { child } => child.show(),
            Self::Child => None,
        }
    }
}

/// A word of a shell command, quoted if necessary.
pub(crate) fn word<T: AsRef<OsStr> + ?Sized>(text: &T) -> String {
    let text = text.as_ref().display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "._-/:=,+@%".contains(c);
    match text.chars().all(plain) {
        true if !text.is_empty() => text,
        _ if text.contains(char::is_control) => format!("$'{}'", text.escape_default()),
        _ => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

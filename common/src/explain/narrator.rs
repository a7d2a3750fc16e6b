//! What is printed of steps, calls and changes, and how `--step` waits for the reader.

use super::Format;
use super::fact::{Change, texts};
use crate::namespaces::{NEWUSER, nsenter};
use crate::report::{line, object, quoted};
use crate::{Error, Result};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{Pid, getpid, read};
use std::io::{self, IsTerminal};
use std::mem::replace;
use std::os::fd::OwnedFd;
use std::time::Instant;
use std::{env, fmt::Display};

/// How wide a line of text may be.
const WIDTH: usize = 100;
/// The keys of `--step`, and the byte by which the stage passes its pace on to the child.
pub(super) const ASK: u8 = b's';
const NEXT_HEADING: u8 = b'n';
pub(super) const CONTINUE: u8 = b'c';

pub(super) struct Narrator {
    format: Format,
    colour: bool,
    start: Instant,
    pub(super) inside: bool,
    /// This process's id as the host sees it.
    pub(super) process: Pid,
    /// The namespaces in which this process differs from its caller.
    pub(super) own: CloneFlags,
    heading: &'static str,
    heading_shown: bool,
    step: usize,
    /// Whether calls are not shown, since the explanation makes them.
    pub(super) looking: bool,
    /// The reader's terminal, with `--step`.
    pub(super) terminal: Option<OwnedFd>,
    pub(super) pace: u8,
    /// Whether the reader knows how to look at this process.
    pub(super) introduced: bool,
}

impl Narrator {
    pub(super) fn new(format: Format) -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        Self {
            format,
            colour: io::stderr().is_terminal() && !plain,
            start: Instant::now(),
            inside: false,
            process: getpid(),
            own: CloneFlags::empty(),
            heading: "",
            heading_shown: true,
            step: 0,
            looking: false,
            terminal: None,
            pace: CONTINUE,
            introduced: false,
        }
    }

    pub(super) fn heading(&mut self, text: &'static str) {
        if replace(&mut self.heading, text) != text {
            self.heading_shown = false;
            if self.pace == NEXT_HEADING {
                self.pace = ASK;
            }
        }
    }

    /// Shows a step, and waits for the reader. Fails if the reader quits.
    pub(super) fn step(&mut self, shell: &str, does: &str) -> Result<()> {
        self.step += 1;
        if self.format == Format::Json {
            let fields = [("heading", self.heading), ("shell", shell), ("does", does)];
            self.json("step", &fields.map(|(name, value)| (name, quoted(value))));
        } else {
            self.show_step(shell, does);
        }
        self.wait(if shell.is_empty() { does } else { shell })
    }

    fn show_step(&mut self, shell: &str, does: &str) {
        if !replace(&mut self.heading_shown, true) {
            self.line(&format!("-- {}", self.heading));
        }
        let text = format!("{shell:46}  # {does}");
        if shell.is_empty() {
            self.line(&format!("({does})"));
        } else if text.chars().count() + 10 > WIDTH {
            self.line(shell); // one line a step, also with long paths
        } else {
            self.line(&text);
        }
    }

    pub(super) fn call(&self, text: &dyn Display, result: Option<&str>) {
        match (self.format, result) {
            _ if self.looking => {}
            (Format::Steps, _) => {}
            (Format::Calls, None) => self.line(&format!("    {text}")),
            (Format::Calls, Some(result)) => self.line(&format!("    {text} = {result}")),
            (Format::Json, _) => {
                let call = ("call", quoted(&*text.to_string()));
                self.json("call", &[call, ("result", quoted(result))]);
            }
        }
    }

    pub(super) fn changes(&self, changes: &[Change<'_>]) {
        if self.format == Format::Json {
            for change in changes {
                let fields = [
                    ("what", quoted(change.fact.what)),
                    ("name", quoted(&*change.fact.name)),
                    ("before", quoted(change.before)),
                    ("after", quoted(change.after)),
                ];
                self.json("change", &fields);
            }
            return;
        }
        let width = WIDTH - 26; // room for ", and 99 more"
        let is_said = |change: &Change<'_>| match change.fact.what {
            "hostname" | "peer" | "process" => true,
            what => what != "mount" && change.after.is_none(), // by `ip link del`
        };
        if changes.iter().any(is_said) {
            return; // in words: the step says it already
        }
        let (mut line, mut more) = (String::new(), String::new());
        for (at, text) in texts(changes).into_iter().enumerate() {
            let longer = format!("{line}, {text}");
            if line.is_empty() {
                line = text;
            } else if longer.chars().count() <= width {
                line = longer;
            } else if changes[at].fact.what == "mount" {
                more = format!(", and {} more", changes.len() - at);
                break;
            } else {
                self.line(&format!("    {line}"));
                line = text;
            }
        }
        if let Some((end, _)) = line.char_indices().nth(width) {
            line = format!("{}...", &line[..end]);
        }
        if !line.is_empty() {
            self.line(&format!("    {line}{more}"));
        }
    }

    /// Where calls are not shown, the failed one is, as the last line.
    pub(super) fn failed(&self, error: &Error) {
        if self.format == Format::Steps && error.errno().is_some() {
            self.line(&format!("    {}", error.message()));
        }
    }

    /// With `--step`: waits for a line from the reader.
    fn wait(&mut self, step: &str) -> Result<()> {
        let Some(terminal) = self.terminal.as_ref().filter(|_| self.pace == ASK) else {
            return Ok(());
        };
        if !replace(&mut self.introduced, true) {
            let process = self.process;
            let look = format!("ls -l /proc/{process}/ns; lsns -p {process}");
            self.line(&format!("    from another terminal: {look}"));
            if !self.own.is_empty() {
                let enter = nsenter(process, self.own, self.own.contains(NEWUSER));
                self.line(&format!("    and inside, until exit: {enter}"));
            }
        }
        let place = format!("step {}, {}", self.step, self.heading);
        let keys = "Enter = do it; with Enter: n = next heading, c = continue, q = quit";
        loop {
            self.line(&format!("    {place}: {keys}"));
            let mut key = [0; 80];
            match (read(terminal, &mut key), key[0]) {
                (Err(Errno::EINTR), _) => {}
                (Err(_) | Ok(0), _) | (_, b'q') => {
                    return Err(Error::input(format!("stopped before: {step}")).with_status(130));
                }
                (_, b'\n') => return Ok(()),
                (_, key @ (NEXT_HEADING | CONTINUE)) => {
                    self.pace = key;
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    fn side(&self) -> &'static str {
        if self.inside { "container" } else { "host" }
    }

    /// Prints a line of text after the label of the side.
    fn line(&self, text: &str) {
        let text = text.replace(char::is_control, "?"); // of a path, perhaps
        let (side, colour) = (self.side(), if self.inside { 36 } else { 33 });
        match self.colour {
            true => line(&format!("\x1b[{colour}m{side:<9}\x1b[0m {text}")),
            false => line(&format!("{side:<9} {text}")),
        }
    }

    fn json(&self, kind: &str, fields: &[(&str, String)]) {
        let time = self.start.elapsed();
        let time = format!("{}.{:06}", time.as_secs(), time.subsec_micros());
        let common = [
            ("kind", quoted(kind)),
            ("side", quoted(self.side())),
            ("process", self.process.to_string()),
            ("time", time),
        ];
        line(&object(&[&common, fields].concat()));
    }
}

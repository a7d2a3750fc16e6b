//! A step is one system call: carried out, told, and named when it fails.
//!
//! Each call of the stages goes through `step`, which takes its text, the shell command that does
//! the same, and what it changes, and formats none of them unless they are wanted: the text in an
//! error, all three with `--explain`. With `--step` it waits for the reader before the call.

use crate::{Error, Result, process::Nsenter};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::CloneFlags,
    sys::stat::Mode,
    unistd::{ForkResult, Pid, getpid, pipe2, read, write},
};
use std::{
    fmt::{self, Write as _},
    fs,
    io::{self, IsTerminal, Write as _},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI32, Ordering::Relaxed},
    },
};

/// In which form steps are told.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// A line a step, to be read
    Text,
    /// A JSON object a line, with the fields of the README
    Json,
}

/// The options that every stage has.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Tell each step on stderr: text or json [default: text]
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, require_equals = true,
          default_missing_value = "text", hide_possible_values = true)]
    explain: Option<Format>,
    /// And wait before each of them for Enter
    #[arg(long)]
    step: bool,
}

/// Where and how steps are told. Set once, before the first of them; the processes that are cloned
/// and forked later have it, too.
struct Narrator {
    format: Format,
    colour: bool,
    pace: Option<Pace>,
}

/// The reader's terminal, and a pipe that becomes readable once he wants to go on without stopping:
/// it is how one process tells the others.
struct Pace {
    terminal: OwnedFd,
    hurry: OwnedFd,
    hurry_up: OwnedFd,
}

static NARRATOR: OnceLock<Narrator> = OnceLock::new();
static INSIDE: AtomicBool = AtomicBool::new(false);
/// This process's id as the host has it: inside it would be 1.
static PROCESS: AtomicI32 = AtomicI32::new(0);
/// The namespaces that are its own, and not those of the terminal, as `CloneFlags`.
static OWN: AtomicI32 = AtomicI32::new(0);
/// Whether this process has said how it can be looked at.
static SHOWN: AtomicBool = AtomicBool::new(false);
/// At its end nobody waits for the reader any more.
static LIFELINE: OnceLock<OwnedFd> = OnceLock::new();

impl Options {
    /// # Errors
    /// With `--step`, if there is no terminal.
    pub(crate) fn apply(self) -> Result<()> {
        let pace = match self.step {
            true => Some(Pace::open()?),
            false if self.explain.is_none() => return Ok(()),
            false => None,
        };
        let format = self.explain.unwrap_or(Format::Text);
        let colour =
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        PROCESS.store(getpid().as_raw(), Relaxed);
        let _ = NARRATOR.set(Narrator { format, colour, pace });
        Ok(())
    }
}

impl Pace {
    fn open() -> Result<Self> {
        let path = "/dev/tty";
        let terminal = open(path, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| {
            Error::new(format!("open({path:?}, O_RDWR|O_CLOEXEC)"), errno).hint(
                "--step waits for you at a terminal, and there is none: --explain tells without waiting",
            )
        })?;
        let pipe = pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::new("pipe2(O_CLOEXEC)", errno))?;
        Ok(Self { terminal, hurry: pipe.0, hurry_up: pipe.1 })
    }
}

/// Carries out one system call. `call` is its text, in the manner of strace; `shell` the command that
/// does the same, or empty; `does` says in a few words what it changes.
///
/// # Errors
/// The call's errno, under its text.
pub(crate) fn step<T: Returned>(
    call: fmt::Arguments<'_>,
    shell: fmt::Arguments<'_>,
    does: &str,
    run: impl FnOnce() -> nix::Result<T>,
) -> Result<T> {
    if let Some(narrator) = NARRATOR.get() {
        narrator.wait(call, shell, does)?;
    }
    carry_out(call, shell, does, run)
}

/// As [`step`], for a call that waits for the other side, which may be waiting for the reader: so it
/// does not wait for him, too.
///
/// # Errors
/// As [`step`].
pub(crate) fn awaits<T: Returned>(
    call: fmt::Arguments<'_>,
    does: &str,
    run: impl FnOnce() -> nix::Result<T>,
) -> Result<T> {
    carry_out(call, format_args!(""), does, run)
}

fn carry_out<T: Returned>(
    call: fmt::Arguments<'_>,
    shell: fmt::Arguments<'_>,
    does: &str,
    run: impl FnOnce() -> nix::Result<T>,
) -> Result<T> {
    let returned = run();
    if let Some(narrator) = NARRATOR.get()
        && let Some(result) = show(&returned)
    {
        narrator.tell(call, Some(&result), shell, does);
    }
    returned.map_err(|errno| Error::new(call.to_string(), errno))
}

/// The last step of a process, execve(2), which does not return: told before.
///
/// # Errors
/// As [`step`].
pub(crate) fn last_step(
    call: fmt::Arguments<'_>,
    shell: fmt::Arguments<'_>,
    does: &str,
    run: impl FnOnce() -> nix::Result<std::convert::Infallible>,
) -> Result<std::convert::Infallible> {
    let narrator = NARRATOR.get();
    if let Some(narrator) = narrator {
        narrator.wait(call, shell, does)?;
        narrator.tell(call, None, shell, does);
    }
    let Err(errno) = run();
    if let Some(narrator) = narrator {
        narrator.tell(call, show::<()>(&Err(errno)).as_deref(), shell, does);
    }
    Err(Error::new(call.to_string(), errno))
}

/// From here on this process is inside, in these namespaces of its own.
pub(crate) fn inside(own: CloneFlags) {
    INSIDE.store(true, Relaxed);
    OWN.store(own.bits(), Relaxed);
    if NARRATOR.get().is_some() {
        // The host's /proc is still there, and says who we are for those who look at it.
        let this = fs::read_link("/proc/self").ok().and_then(|this| this.to_str()?.parse().ok());
        PROCESS.store(this.unwrap_or(0), Relaxed);
        SHOWN.store(false, Relaxed);
    }
}

/// From here on this process has these namespaces of its own.
pub(crate) fn moved(own: CloneFlags) {
    OWN.store(own.bits(), Relaxed);
    SHOWN.store(false, Relaxed);
}

/// From here on this process is one beside the stage, and waits for its reader only as long as
/// nobody has closed the other end of `lifeline`.
pub(crate) fn beside(lifeline: impl AsFd) {
    if NARRATOR.get().is_some() {
        PROCESS.store(getpid().as_raw(), Relaxed);
        SHOWN.store(false, Relaxed);
        if let Ok(lifeline) = lifeline.as_fd().try_clone_to_owned() {
            let _ = LIFELINE.set(lifeline);
        }
    }
}

/// Whether steps are told at all.
pub(crate) fn is_told() -> bool {
    NARRATOR.get().is_some()
}

/// Shows what `what` was and what it is now, such as a namespace; nothing is worked out unless it
/// is wanted.
pub(crate) fn change(what: &str, states: impl FnOnce() -> (String, String)) {
    if let Some(narrator) = NARRATOR.get() {
        let (before, after) = states();
        narrator.say_change(what, &before, &after);
    }
}

/// Shows a picture of what was made, to whoever follows the steps, or sits at a terminal.
pub(crate) fn picture(lines: impl FnOnce() -> String) {
    let text = match NARRATOR.get() {
        Some(narrator) => narrator.format == Format::Text,
        None => io::stderr().is_terminal(),
    };
    if text {
        print(&lines());
    }
}

/// What a call returns, as strace shows it; `None` in the new process of clone(2) and fork(2), whose
/// parent tells it.
pub(crate) trait Returned {
    fn show(&self) -> Option<String>;
}

impl Returned for () {
    fn show(&self) -> Option<String> {
        Some("0".into())
    }
}

/// Two ends of a pipe.
impl Returned for (OwnedFd, OwnedFd) {
    fn show(&self) -> Option<String> {
        Some("0".into())
    }
}

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

fn show<T: Returned>(returned: &nix::Result<T>) -> Option<String> {
    match returned {
        Ok(value) => value.show(),
        Err(errno) => Some(format!("-1 {errno:?} ({})", errno.desc())),
    }
}

impl Narrator {
    fn side(&self) -> &'static str {
        if INSIDE.load(Relaxed) { "container" } else { "host" }
    }

    /// The side's label, in its colour on a terminal.
    fn label(&self) -> String {
        let side = self.side();
        match (self.colour, INSIDE.load(Relaxed)) {
            (true, true) => format!("\x1b[36m{side:<9}\x1b[0m "),
            (true, false) => format!("\x1b[33m{side:<9}\x1b[0m "),
            (false, _) => format!("{side:<9} "),
        }
    }

    fn tell(&self, call: fmt::Arguments<'_>, result: Option<&str>, shell: fmt::Arguments<'_>, does: &str) {
        let shell = shell.to_string();
        print(&match self.format {
            Format::Json => object(&[
                ("kind", Some("step")),
                ("side", Some(self.side())),
                ("call", Some(&call.to_string())),
                ("result", result),
                ("shell", Some(&shell)),
                ("does", Some(does)),
            ]),
            Format::Text => {
                let result = result.map(|result| format!(" = {result}")).unwrap_or_default();
                format!("{}{call}{result}{}", self.label(), comment(&shell, does))
            }
        });
    }

    fn say_change(&self, what: &str, before: &str, after: &str) {
        print(&match self.format {
            Format::Json => object(&[
                ("kind", Some("change")),
                ("side", Some(self.side())),
                ("what", Some(what)),
                ("before", Some(before)),
                ("after", Some(after)),
            ]),
            Format::Text if before == after => format!("{}    {what}: {after}, as it was", self.label()),
            Format::Text => format!("{}    {what}: {before} -> {after}", self.label()),
        });
    }

    /// With `--step`: says what comes next, and waits for the reader's word at the terminal.
    fn wait(&self, call: fmt::Arguments<'_>, shell: fmt::Arguments<'_>, does: &str) -> Result<()> {
        let Some(pace) = &self.pace else { return Ok(()) };
        if ready(&pace.hurry) || LIFELINE.get().is_some_and(ready) {
            return Ok(());
        }
        let (label, pid) = (self.label(), PROCESS.load(Relaxed));
        if !SHOWN.swap(true, Relaxed) {
            let own = CloneFlags::from_bits_truncate(OWN.load(Relaxed));
            let enter = match own.is_empty() {
                true => String::new(), // the other terminal is there already
                false => format!(
                    "\n{label}      and from inside, until exit: {}",
                    Nsenter(Pid::from_raw(pid), own)
                ),
            };
            print(&format!(
                "{label}look at process {pid} from another terminal: ls -l /proc/{pid}/ns; lsns -p {pid}{enter}"
            ));
        }
        let next = comment(&shell.to_string(), does);
        print(&format!(
            "{label}next: {call}{next}\n{label}      Enter does it, c goes on without stopping, q stops"
        ));
        pace.word(call)
    }
}

impl Pace {
    /// Waits for a line at the terminal, or for what makes waiting pointless.
    fn word(&self, call: fmt::Arguments<'_>) -> Result<()> {
        let mut waited = vec![PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        waited.push(PollFd::new(self.hurry.as_fd(), PollFlags::POLLIN));
        waited.extend(LIFELINE.get().map(|lifeline| PollFd::new(lifeline.as_fd(), PollFlags::POLLIN)));
        while poll(&mut waited, PollTimeout::NONE) == Err(Errno::EINTR) {}
        let is_ready = |waited: &PollFd<'_>| waited.any().unwrap_or(true);
        if waited[1..].iter().any(is_ready) {
            return Ok(());
        }
        let mut line = [0; 80];
        match read(&self.terminal, &mut line) {
            Ok(length) if length == 0 || line[0] == b'q' => {
                let _ = write(&self.hurry_up, b"q"); // cleaning up asks nothing
                Err(Error::stopped(call.to_string()))
            }
            Err(_) => Err(Error::stopped(call.to_string())),
            Ok(_) if line[0] == b'c' => {
                let _ = write(&self.hurry_up, b"c");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

fn ready(descriptor: impl AsFd) -> bool {
    let mut waited = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    poll(&mut waited, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// ` # shell command: what it does`, of which either may be missing.
fn comment(shell: &str, does: &str) -> String {
    match (shell, does) {
        ("", does) => format!("    # ({does})"),
        (shell, "") => format!("    # {shell}"),
        (shell, does) => format!("    # {shell}  ({does})"),
    }
}

/// A JSON object on one line. See RFC 8259.
fn object(fields: &[(&str, Option<&str>)]) -> String {
    let value = |value: &Option<&str>| value.map_or("null".into(), quoted);
    let fields = fields.iter().map(|(name, text)| format!("{}:{}", quoted(name), value(text)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn quoted(text: &str) -> String {
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

fn print(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// `echo TEXT > PATH`: open(2), of a new file if `create`, and one write(2). Of the id maps the kernel
/// takes a whole one or none, so a short write is an error.
///
/// # Errors
/// Those of the two calls.
pub(crate) fn write_file(path: &Path, create: bool, text: &str, does: &str) -> Result<()> {
    let (flags, names) = match create {
        true => (OFlag::O_CREAT | OFlag::O_EXCL, "O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0644"),
        false => (OFlag::empty(), "O_WRONLY|O_CLOEXEC"),
    };
    let flags = flags | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let call = format_args!("openat(AT_FDCWD, {path:?}, {names})");
    let file = step(call, format_args!(""), "to write to it", || {
        open(path, flags, Mode::from_bits_truncate(0o644))
    })?;
    let (length, shown) = (text.len(), path.display());
    let written = step(
        format_args!("write({shown}, {text:?}, {length})"),
        format_args!("echo {} > {shown}", Word(text.trim_end())),
        does,
        || write(&file, text.as_bytes()),
    )?;
    match written == length {
        true => Ok(()),
        false => Err(Error::input(format!("write({shown}, {text:?}, {length}) = {written}: a short write"))),
    }
}

/// A word of a shell command, in quotes if it needs them.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:=,+".contains(&byte)) {
            true if !self.0.is_empty() => f.write_str(self.0),
            _ if self.0.contains('\n') => write!(f, "$'{}'", self.0.escape_default()),
            _ => write!(f, "'{}'", self.0.replace('\'', "'\\''")),
        }
    }
}

/// A system call of libc's that reports failure as -1 and `errno`.
pub(crate) fn checked(returned: libc::c_long) -> nix::Result<()> {
    Errno::result(returned).map(drop)
}

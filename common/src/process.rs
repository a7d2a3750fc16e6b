//! The container's process: cloned into its namespaces, started, waited for.
//!
//! [`clone`] makes the child, which waits on a pipe while the parent prepares things from outside
//! (the id maps, the network). [`Child::run`] lets it go on and waits for its end. If the parent
//! dies at any moment, so does the child: before the start because the pipe closes, afterwards
//! because of `PR_SET_PDEATHSIG`, which its command could take back. See [clone(2)], [waitpid(2)], [pid_namespaces(7)].
//!
//! In all stages; with a PID namespace from [stage 3](../../stage3_pid/index.html).
//!
//! [clone(2)]: https://man7.org/linux/man-pages/man2/clone.2.html
//! [waitpid(2)]: https://man7.org/linux/man-pages/man2/waitpid.2.html
//! [pid_namespaces(7)]: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html

use crate::{
    Error, Result, cli,
    step::{awaits, change, checked, inside, is_told, last_step, step},
};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::CloneFlags,
    sys::{
        prctl::set_pdeathsig,
        signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, raise, signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{AccessFlags, ForkResult, Pid, access, execve, fork, pipe2, read, setsid, write},
};
use std::{
    cell::Cell,
    convert::Infallible,
    env,
    ffi::{CString, OsString},
    fmt, fs,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

/// What the stage passes on to its command. The terminal sends its own signals (Ctrl-C) to both.
const FORWARDED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// The process that becomes the container's command. Dropped before it has run, it is killed.
pub struct Child {
    pid: Pid,
    flags: CloneFlags,
    /// Written to, it lets the child go on; closed by the last who has it, it ends the child.
    start: Cell<Option<OwnedFd>>,
    /// A process beside it that ends earlier, and whose end nobody else waits for.
    helper: Cell<Option<Pid>>,
}

/// How a container's command ended: what the stage's own end must show.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
    /// It exited with this status.
    Status(u8),
    /// A signal ended it.
    Signal(Signal),
}

/// clone(2): a child in the new namespaces that `flags` names (the talk's `Cloneflags`), which
/// carries out `container` once the parent says so with [`Child::run`].
///
/// Where Go re-executes its own binary with the argument `CLONE`, since its runtime cannot fork, a
/// single-threaded Rust program just goes on in the child.
///
/// # Errors
/// Those of clone(2); the usual ones carry a hint.
pub fn clone(flags: CloneFlags, container: impl FnOnce() -> Result<Infallible>) -> Result<Child> {
    // With SIGCHLD ignored (inherited from the caller) the kernel would reap the child itself, and
    // its exit status would be lost.
    default_action(Signal::SIGCHLD)?;
    let (started, start) =
        step(format_args!("pipe2(O_CLOEXEC)"), format_args!(""), "at its end the child will wait", || {
            pipe2(OFlag::O_CLOEXEC)
        })?;

    // The kernel's own clone(2), without a stack: like fork(2), which libc offers without flags.
    // All arguments but the flags are null, so their order, which differs between architectures,
    // does not matter.
    let call = || {
        // SAFETY: the program has one thread, and CLONE_VM is not set: the child gets a copy of
        // everything, and nothing in it is in an inconsistent state.
        let returned = unsafe { libc::syscall(libc::SYS_clone, flags.bits() | libc::SIGCHLD, 0, 0, 0, 0) };
        Errno::result(returned).map(|pid| match i32::try_from(pid) {
            Ok(pid) if pid > 0 => ForkResult::Parent { child: Pid::from_raw(pid) },
            _ => ForkResult::Child,
        })
    };
    let text = format_args!("clone({}|SIGCHLD)", Names(flags));
    let shell = format_args!("unshare -{}", Letters(flags));
    let cloned = step(text, shell, "a child in namespaces of its own", call);
    match cloned.map_err(|error| clone_hint(error, flags))? {
        ForkResult::Parent { child } => {
            if is_told() {
                let (before, after) = (namespaces("self", flags), namespaces(&child.to_string(), flags));
                changes(&before, &after);
            }
            Ok(Child { pid: child, flags, start: Cell::new(Some(start)), helper: Cell::new(None) })
        }
        ForkResult::Child => {
            drop(start);
            inside(flags);
            let Err(error) = wait_for_start(&started).and_then(|()| container());
            cli::report(&error);
            exit(error.status())
        }
    }
}

/// fork(2): a process beside the stage, which carries out `work` and outlives it: no signal of the
/// terminal or of its process group reaches it. `child` does not wait for it.
pub(crate) fn fork_keeper(child: &Child, work: impl FnOnce() -> Result<()>) -> Result<Pid> {
    // SAFETY: the program has one thread, so the child process may do whatever the parent may.
    let call = || unsafe { fork() };
    match step(format_args!("fork()"), format_args!(""), "who makes the network, and removes it", call)? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            drop(child.start.take());
            let blocked = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)
                .map_err(|errno| Error::new("sigprocmask(SIG_SETMASK)", errno));
            let alone = blocked.and_then(|()| setsid().map_err(|errno| Error::new("setsid()", errno)));
            exit(match alone.and_then(|_| work()) {
                Ok(()) => 0,
                Err(error) => {
                    cli::report(&error);
                    error.status()
                }
            })
        }
    }
}

/// Ends the child without what a normal exit would do twice, such as flushing the parent's buffers.
fn exit(status: u8) -> ! {
    // SAFETY: _exit(2) does not return and touches nothing of ours.
    unsafe { libc::_exit(status.into()) }
}

/// In the child: waits until the parent says start. If it dies instead, at whatever moment, so does
/// the child.
fn wait_for_start(started: &OwnedFd) -> Result<()> {
    let text = format_args!("read(pipe)");
    if awaits(text, "the host says: go on; 0 if it has gone", || retry(|| read(started, &mut [0])))? == 0 {
        return Err(Error::reported(0)); // by the parent, whose end is closed
    }
    step(
        format_args!("prctl(PR_SET_PDEATHSIG, SIGKILL)"),
        format_args!("unshare --kill-child"),
        "if the stage dies, so does this process",
        || set_pdeathsig(Signal::SIGKILL),
    )?;
    // It may have died just before: then its end of the pipe is closed.
    let mut waited = [PollFd::new(started.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waited, PollTimeout::ZERO) {
        Ok(0) | Err(_) => Ok(()),
        Ok(_) => Err(Error::reported(1)),
    }
}

impl Child {
    /// Its process id, as the parent's PID namespace has it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has ended, although nobody has waited for it yet.
    pub(crate) fn is_gone(&self) -> bool {
        fs::read_link(format!("/proc/{}/ns/net", self.pid)).is_err()
    }

    /// How to enter its namespaces.
    pub(crate) fn nsenter(&self) -> Nsenter {
        Nsenter(self.pid, self.flags)
    }

    /// Lets the child go on, and waits for its end. Meanwhile SIGTERM, SIGINT and SIGHUP are
    /// passed on to it, and when it is stopped, so is the stage, as a shell expects of its job.
    ///
    /// # Errors
    /// None that a running system shows.
    pub fn run(self) -> Result<Exit> {
        // Until here a signal ends the stage, and that the child. From here on the signals wait. (nix's
        // SigSet::thread_block takes a failure for success: pthread_sigmask(3) returns it.)
        let mut awaited = SigSet::from_iter(FORWARDED);
        awaited.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&awaited), None)
            .map_err(|errno| Error::new("sigprocmask(SIG_BLOCK)", errno))?;
        let signals = SignalFd::with_flags(&awaited, SfdFlags::SFD_CLOEXEC)
            .map_err(|errno| Error::new("signalfd(SFD_CLOEXEC)", errno))?;
        let start = self.start.take(); // stays open: it is how the child sees us live
        if let Some(start) = &start {
            step(format_args!("write(pipe)"), format_args!(""), "the child may go on", || {
                match write(start, b"s") {
                    Err(Errno::EPIPE) => Ok(0), // it has died, as waitpid(2) will tell
                    written => written,
                }
            })?;
        }
        let mut emulated = None;
        let mut moment = PollTimeout::from(1000_u16);
        loop {
            match self.reap()? {
                Some(Exit::Signal(Signal::SIGKILL)) => {
                    return Ok(Exit::Signal(emulated.unwrap_or(Signal::SIGKILL)));
                }
                Some(exit) => return Ok(exit),
                None => {}
            }
            if let Some(helper) = self.helper.get() {
                let _ = waitpid(helper, Some(WaitPidFlag::WNOHANG));
            }
            let mut waited = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if poll(&mut waited, moment) == Ok(0) {
                give_back();
                moment = PollTimeout::NONE;
            }
            let info =
                retry(|| signals.read_signal()).map_err(|errno| Error::new("read(signalfd)", errno))?;
            let Some(info) = info else { continue };
            let signal = Signal::try_from(info.ssi_signo.cast_signed());
            if let Some(signal) = signal.ok().filter(|signal| *signal != Signal::SIGCHLD) {
                // What the terminal sends (SI_KERNEL) has reached the whole process group.
                if info.ssi_code != libc::SI_KERNEL {
                    let _ = kill(self.pid, signal); // not yet reaped, so the pid is still its own
                }
                if self.flags.contains(CloneFlags::CLONE_NEWPID) && self.has_default_action(signal) {
                    emulated = Some(signal);
                    let _ = kill(self.pid, Signal::SIGKILL);
                }
            }
        }
    }

    /// Whose end [`Child::run`] takes note of, too.
    pub(crate) fn also_reap(&self, helper: Pid) {
        self.helper.set(Some(helper));
    }

    /// How the child ended, if it has. If it has stopped, the stage stops, and both continue.
    fn reap(&self) -> Result<Option<Exit>> {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        let status = retry(|| waitpid(self.pid, Some(flags)))
            .map_err(|errno| Error::new(format!("waitpid({}, WNOHANG|WUNTRACED)", self.pid), errno))?;
        match status {
            WaitStatus::Exited(_, status) => Ok(Some(Exit::Status(u8::try_from(status).unwrap_or(1)))),
            WaitStatus::Signaled(_, signal, _) => Ok(Some(Exit::Signal(signal))),
            WaitStatus::Stopped(..) => {
                let _ = raise(Signal::SIGSTOP);
                let _ = kill(self.pid, Signal::SIGCONT);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Whether `signal` would end the child, were it not PID 1 of its namespace: the kernel drops
    /// what such a process neither handles nor ignores (pid_namespaces(7)), so that `sleep 60` as a
    /// container's command could not be interrupted. Then the stage does what the signal asks.
    fn has_default_action(&self, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let has = |field: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
            // A field that cannot be read means: leave it to the command.
            mask.and_then(|mask| u64::from_str_radix(mask, 16).ok())
                .is_none_or(|mask| mask >> (signal as i32 - 1) & 1 == 1)
        };
        !has("SigIgn:") && !has("SigCgt:")
    }
}

/// Who waits for more than a moment, hours perhaps, needs few pages of what has brought him here. The kernel
/// maps those of the program again where they are wanted: madvise(2), malloc_trim(3).
pub(crate) fn give_back() {
    unsafe extern "C" {
        static __executable_start: u8; // linkers define both
        static etext: u8;
    }
    let (start, end) = (&raw const __executable_start, &raw const etext);
    // SAFETY: nobody but a debugger writes to these pages, so they are as they were when they are read again.
    unsafe {
        libc::madvise(start.cast_mut().cast(), end.addr() - start.addr(), libc::MADV_DONTNEED);
        #[cfg(target_env = "gnu")]
        libc::malloc_trim(0);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Not started yet, it ends as its pipe is closed; or has, which is the reason for what failed here.
        if self.start.take().is_some() {
            let _ = kill(self.pid, Signal::SIGCONT); // if it was stopped
            match retry(|| waitpid(self.pid, None)) {
                Ok(WaitStatus::Exited(_, 1..)) => cli::it_was_said(),
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    cli::say(&format!("the child was ended by {signal}"));
                    cli::it_was_said();
                }
                _ => {}
            }
        }
        // After `run` there is no such child any more, and both calls fail without effect.
        if waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = retry(|| waitpid(self.pid, None));
        }
    }
}

impl Exit {
    /// Ends the stage as its command ended: with its status, or by its signal.
    pub fn pass_on(self) -> std::process::ExitCode {
        match self {
            Self::Status(status) => status.into(),
            Self::Signal(signal) => {
                let _ = nix::sys::prctl::set_dumpable(false); // the core file, if any, is the command's
                let _ = default_action(signal);
                let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from(signal)), None);
                let _ = raise(signal);
                (128 + signal as u8).into() // for a signal that does not end a process
            }
        }
    }
}

/// The command of a stage, as it stands on the command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Command {
    /// What to run inside [default: /bin/sh with the prompt "-> "]
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    words: Vec<OsString>,
}

impl Command {
    /// execve(2): becomes the command, which is looked for in `PATH` as a shell does. It gets the
    /// environment as it is, and no descriptor but 0, 1 and 2.
    ///
    /// # Errors
    /// With exit status 127 if the command is not found, 126 if it cannot be executed.
    pub fn exec(&self) -> Result<Infallible> {
        let mut words = self.words.clone();
        let mut environment = env::vars_os().collect::<Vec<_>>();
        if words.is_empty() {
            words.push("/bin/sh".into());
            environment.retain(|(name, _)| name != "PS1");
            environment.push(("PS1".into(), "-> ".into()));
        }
        let program = find(Path::new(&words[0])).map_err(|error| exec_hint(error, Path::new(&words[0])))?;
        let count = environment.len();
        let c_words = words.iter().map(|word| c_string(word.as_bytes())).collect::<Result<Vec<_>>>()?;
        let c_environment = environment
            .into_iter()
            .map(|(name, value)| c_string(&[name.as_bytes(), value.as_bytes()].join(&b'=')))
            .collect::<Result<Vec<_>>>()?;

        // A descriptor of the host's directories would be a way around every wall: CVE-2024-21626.
        let range = format_args!("close_range(3, 4294967295, CLOSE_RANGE_CLOEXEC)");
        step(range, format_args!(""), "the command gets 0, 1 and 2 only", close_on_exec)?;
        // Rust's start-up ignores SIGPIPE, and execve(2) keeps what is ignored.
        default_action(Signal::SIGPIPE)?;
        let path = c_string(program.as_os_str().as_bytes())?;
        let text = format_args!("execve({program:?}, {words:?}, /* {count} vars */)");
        let shell = format_args!("exec {}", program.display());
        last_step(text, shell, "this process becomes the command", || execve(&path, &c_words, &c_environment))
            .map_err(|error| exec_hint(error, &program))
    }
}

/// Where `name` is: as it stands if it has a slash, otherwise in the first directory of `PATH` that
/// has an executable file of that name.
fn find(name: &Path) -> Result<PathBuf> {
    if name.as_os_str().as_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let mut errno = Errno::ENOENT;
    let path = env::var_os("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin".into());
    for file in env::split_paths(&path).map(|directory| directory.join(name)).filter(|file| file.is_file()) {
        match access(&file, AccessFlags::X_OK) {
            Ok(()) => return Ok(file),
            Err(refused) => errno = refused,
        }
    }
    Err(Error::new(format!("execve({name:?})"), errno))
}

fn close_on_exec() -> nix::Result<()> {
    // SAFETY: a system call on descriptors only; nothing is closed before execve(2).
    checked(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

/// Which file is missing or wrong, and the shell's exit status for it.
fn exec_hint(error: Error, program: &Path) -> Error {
    let status = if error.errno() == Some(Errno::ENOENT) { 127 } else { 126 };
    let head = head(program);
    let loader = interpreter(&head);
    error
        .with_status(status)
        .hint_on(Errno::ENOENT, || match &loader {
            Some(loader) => format!("{program:?} is there, but {loader:?}, which it asks for to load it, is not: is the root file system complete?"),
            None if program.has_root() => format!("the container's root has no {program:?}: ls shows what it has, scripts/rootfs.sh makes a complete one"),
            None if program.components().count() > 1 => format!("inside, the working directory is {}: has it {program:?}?", env::current_dir().unwrap_or_default().display()),
            None => format!("no directory of PATH has it: {}", env::var_os("PATH").unwrap_or_default().display()),
        })
        .hint_on(Errno::EACCES, || match program.is_dir() {
            true => format!("{program:?} is a directory"),
            false => format!("{program:?} is not executable (chmod +x), or its directory cannot be entered"),
        })
        .hint_on(Errno::ENOEXEC, || match (elf_machine(&head), elf_machine(&self::head(Path::new("/proc/self/exe")))) {
            (Some(theirs), Some(ours)) if theirs != ours => format!("it is for {}, this kernel runs {}: the root file system is of another architecture", machine(theirs), machine(ours)),
            _ => "it is neither a program for this kernel nor a script that starts with #! and an interpreter".to_string(),
        })
}

/// The beginning of a file, if it is one: a FIFO in its place would be waited for.
fn head(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if path.is_file()
        && let Ok(file) = fs::File::open(path)
    {
        let _ = file.take(64 << 10).read_to_end(&mut head);
    }
    head
}

/// What the kernel loads first to run this file: the `#!` interpreter of a script, `PT_INTERP` of
/// a 64-bit ELF file. See execve(2) and elf(5).
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    if let Some(line) = head.strip_prefix(b"#!") {
        let word = line.trim_ascii_start().split(|byte| byte.is_ascii_whitespace()).next()?;
        return Some(path(word));
    }
    let number = |at: usize, length: usize| {
        let bytes = head.get(at..at.checked_add(length)?)?;
        usize::try_from(bytes.iter().rev().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte))).ok()
    };
    // Elf64_Ehdr: e_phoff at 32, e_phentsize at 54, e_phnum at 56. Elf64_Phdr: p_type at 0,
    // p_offset at 8, p_filesz at 32.
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    head.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let header = (0..count).map(|i| table.saturating_add(i * size)).find(|&at| number(at, 4) == Some(3))?;
    let (offset, length) = (number(header.checked_add(8)?, 8)?, number(header.checked_add(32)?, 8)?);
    Some(path(head.get(offset..offset.checked_add(length)?)?.strip_suffix(b"\0")?))
}

/// `e_machine` of an ELF file, least significant byte first.
fn elf_machine(head: &[u8]) -> Option<u16> {
    let bytes = head.starts_with(b"\x7fELF").then(|| head.get(18..20))??;
    Some(match head[5] {
        2 => u16::from_be_bytes([bytes[0], bytes[1]]),
        _ => u16::from_le_bytes([bytes[0], bytes[1]]),
    })
}

/// The name of an `e_machine`: see `linux/elf-em.h`.
fn machine(number: u16) -> String {
    match number {
        3 => "x86 (32 bits)".into(),
        20 | 21 => "PowerPC".into(),
        22 => "s390x".into(),
        40 => "ARM (32 bits)".into(),
        62 => "x86-64".into(),
        183 => "AArch64".into(),
        243 => "RISC-V".into(),
        258 => "LoongArch".into(),
        other => format!("ELF machine {other}"),
    }
}

/// A string for the kernel.
///
/// # Errors
/// If it has a NUL byte, with which the kernel would take it for ended.
pub(crate) fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes)
        .map_err(|_| Error::input(format!("{:?}: a NUL byte inside", String::from_utf8_lossy(bytes))))
}

/// The names of flags, as strace shows them.
struct Names(CloneFlags);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("|"))
    }
}

/// The namespaces of a process, of the kinds that `flags` name: as /proc/PID/ns shows them.
pub(crate) fn namespaces(process: &str, flags: CloneFlags) -> Vec<(&'static str, String)> {
    let links = kinds(flags).map(|(name, _)| (name, fs::read_link(format!("/proc/{process}/ns/{name}"))));
    links.map(|(name, link)| (name, link.map_or("?".into(), |link| link.display().to_string()))).collect()
}

/// Shows which namespaces have become which.
pub(crate) fn changes(before: &[(&'static str, String)], after: &[(&'static str, String)]) {
    for ((name, before), (_, after)) in before.iter().zip(after) {
        change(name, || (before.clone(), after.clone()));
    }
}

/// The kinds of namespaces that `flags` name, in the order of the stages: their names in /proc/PID/ns,
/// and their letters in unshare(1) and nsenter(1).
fn kinds(flags: CloneFlags) -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = [
        (CloneFlags::CLONE_NEWUTS, "uts", "u"),
        (CloneFlags::CLONE_NEWUSER, "user", "U"),
        (CloneFlags::CLONE_NEWPID, "pid", "p"),
        (CloneFlags::CLONE_NEWNS, "mnt", "m"),
        (CloneFlags::CLONE_NEWNET, "net", "n"),
        (CloneFlags::CLONE_NEWIPC, "ipc", "i"),
        (CloneFlags::CLONE_NEWCGROUP, "cgroup", "C"),
    ];
    all.into_iter().filter(move |(flag, ..)| flags.contains(*flag)).map(|(_, name, letter)| (name, letter))
}

/// The letters that unshare(1) has for flags, in the talk's order; a new PID namespace takes a fork.
struct Letters(CloneFlags);

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        kinds(self.0).try_for_each(|(_, letter)| f.write_str(if letter == "p" { "pf" } else { letter }))
    }
}

/// nsenter(1) into those namespaces of a process that are its own: those that it shares with the host an
/// ordinary user may not enter, as `-a` would.
pub(crate) struct Nsenter(pub(crate) Pid, pub(crate) CloneFlags);

impl fmt::Display for Nsenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nsenter -t {}", self.0)?;
        kinds(self.1).try_for_each(|(_, letter)| write!(f, " -{letter}"))?;
        // Without it nsenter would give up all groups, which setgroups(2) may refuse inside.
        let user = self.1.contains(CloneFlags::CLONE_NEWUSER);
        f.write_str(if user { " --preserve-credentials" } else { "" })
    }
}

/// `signal(2)` with SIG_DFL.
fn default_action(of: Signal) -> Result<()> {
    // SAFETY: SIG_DFL is a valid disposition, and no handler of ours is replaced.
    unsafe { signal(of, SigHandler::SigDfl) }
        .map(drop)
        .map_err(|errno| Error::new(format!("signal({of}, SIG_DFL)"), errno))
}

/// Repeats a call that a signal handler interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

/// Why a namespace could not be made: clone(2) and unshare(2) have the same reasons.
pub(crate) fn clone_hint(error: Error, flags: CloneFlags) -> Error {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let zero = |path: &str| read(path).trim() == "0";
    error
        .hint_on(Errno::EPERM, || {
            if !flags.contains(CloneFlags::CLONE_NEWUSER) {
                return "a UTS namespace of its own takes root (CAP_SYS_ADMIN): sudo; or stage2-user, which makes a user namespace first, and works without".to_string();
            }
            if zero("/proc/sys/kernel/unprivileged_userns_clone") {
                return "user namespaces are switched off for ordinary users (kernel.unprivileged_userns_clone is 0): sudo sysctl kernel.unprivileged_userns_clone=1 (and =0 to undo it), or run the stage with sudo".into();
            }
            if read("/proc/self/status").lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2')) {
                return "a seccomp filter is on this process, as in a Docker container, and may be what refuses: outside of the container it works, or with docker run --security-opt seccomp=unconfined".into();
            }
            "in a chroot no user namespace can be made (clone(2)); neither where the caller's own ids are not mapped, as after unshare -U without -r".into()
        })
        .hint_on(Errno::ENOSPC, || {
            let off = ["user", "uts", "pid", "mnt", "net", "ipc", "cgroup"].into_iter().find(|kind| zero(&format!("/proc/sys/user/max_{kind}_namespaces")));
            match off {
                Some(kind) => format!("no {kind} namespace may be made here (user.max_{kind}_namespaces is 0): sudo sysctl user.max_{kind}_namespaces=1000 allows it until the next boot"),
                None => "a limit on namespaces is reached: sysctl user shows them, 32 is the deepest nesting".into(),
            }
        })
        .hint_on(Errno::EINVAL, || "this kernel was built without one of these namespaces: ls /proc/self/ns shows those it has".to_string())
        .hint_on(Errno::EUSERS, || "user namespaces are nested too deep: 32 levels are the limit".to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_nul_byte_is_an_error_not_an_end() {
        assert_eq!(c_string(b"a\0b").unwrap_err().to_string(), "\"a\\0b\": a NUL byte inside");
        assert_eq!(c_string(b"ab").unwrap().as_bytes_with_nul(), b"ab\0");
    }

    #[test]
    fn the_interpreter_of_a_script_and_of_a_program() {
        assert_eq!(interpreter(b"#! /bin/sh -e\necho"), Some("/bin/sh".into()));
        assert_eq!(interpreter(b"echo"), None);
        let shell = fs::read("/bin/sh").unwrap();
        let loader = interpreter(&shell).unwrap();
        assert!(loader.starts_with("/lib64") || loader.starts_with("/lib"));
        assert!(loader.exists(), "{loader:?}");
        // Cut anywhere, it is no program, but no reason to panic either.
        for length in 0..1024 {
            interpreter(&shell[..length]);
            elf_machine(&shell[..length]);
        }
        let mut broken = shell;
        for at in 0..64 {
            broken[at] = 0xff;
            interpreter(&broken);
        }
    }
}

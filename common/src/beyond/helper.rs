//! Processes beside the stage that serve the container while it runs: `pasta`, `nft`, a proxy.

use crate::error::failed;
use crate::explain::{call, last_call};
use crate::forked::{Forked, fork};
use crate::{Error, Result, sys};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal::{SIGKILL, SIGPIPE};
use nix::sys::signal::kill;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, execvp, getpid, getppid};
use nix::unistd::{pipe2, setsid, write};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::{convert::Infallible, env, ffi::CString, fs::File, iter};

/// The exit status of a helper that could not execute its program, as a shell's.
const NOT_EXECUTED: u8 = 127;

/// A process that the kernel kills with the stage. Dropped, it is killed and waited for.
pub(super) struct Helper(Forked);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = kill(self.0.0, SIGKILL);
    }
}

impl Helper {
    /// Forks it. It gets a new session, so that keys at the caller's terminal do not signal it.
    pub(super) fn fork(run: impl FnOnce() -> Result<Infallible>) -> Result<Self> {
        let stage = getpid();
        fork(|| settle(stage).and_then(|()| run())).map(Self)
    }
}

fn settle(stage: Pid) -> Result<()> {
    let die_with_stage = || set_pdeathsig(SIGKILL);
    call("prctl(PR_SET_PDEATHSIG, SIGKILL)", die_with_stage)?;
    if getppid() != stage {
        return Err(Error::already_reported(1)); // the stage has died just before
    }
    call("setsid()", setsid).map(drop)
}

/// A program of the host that runs beside the stage, with a pipe to it and one from it.
pub(super) struct Program {
    // Dropped in this order.
    helper: Helper,
    said: BufReader<File>,
    input: OwnedFd,
    name: &'static str,
}

impl Program {
    /// Forks the process. After `prepare`, which gets the program's standard input, it becomes the program
    /// `name`, of this package, with these words.
    pub(super) fn start(
        name: &'static str,
        package: &str,
        words: &str,
        prepare: impl FnOnce(&OwnedFd) -> Result<()>,
    ) -> Result<Self> {
        let (stdin, input) = call("pipe2(O_CLOEXEC)", || pipe2(OFlag::O_CLOEXEC))?;
        let (said, output) = call("pipe2(O_CLOEXEC)", || pipe2(OFlag::O_CLOEXEC))?;
        sys::close_in_child(&input);
        sys::close_in_child(&said);
        let helper = Helper::fork(|| {
            prepare(&stdin)?;
            let words = iter::once(name).chain(words.split(' '));
            execute(&words.collect::<Vec<_>>(), [&stdin, &output], package)
        })?;
        Ok(Self {
            helper,
            said: BufReader::new(said.into()),
            input,
            name,
        })
    }

    pub(super) fn write(&self, text: &str) -> Result<()> {
        call("write(pipe)", || write(&self.input, text.as_bytes())).map(drop)
    }

    /// Waits for a line. What it printed instead is the error.
    pub(super) fn wait_for(&mut self, is_it: impl Fn(&str) -> bool) -> Result<()> {
        let mut why = String::new();
        loop {
            let mut line = String::new();
            let read = self.said.read_line(&mut line);
            let length = read.map_err(failed("read(pipe)"))?;
            let line = line.trim();
            if is_it(line) {
                return Ok(());
            }
            // Without a system log pasta complains about that, too.
            if why.is_empty() && !line.contains("syslog") {
                why = line.into();
            }
            if length == 0 || line.contains("Error:") {
                break;
            }
        }
        if why.is_empty() {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            match waitid(Id::Pid(self.helper.0.0), flags) {
                Ok(WaitStatus::Exited(_, status)) if status == NOT_EXECUTED.into() => {
                    return Err(Error::already_reported(1));
                }
                _ => why = "has ended, without a message".into(),
            }
        }
        Err(Error::input(format!("{}: {why}", self.name)))
    }
}

/// execve(2) of a program of the host.
fn execute(words: &[&str], [input, output]: [&OwnedFd; 2], package: &str) -> Result<Infallible> {
    let c_words = words.iter().map(|word| CString::new(*word));
    let c_words = c_words.collect::<std::result::Result<Vec<_>, _>>();
    let c_words = c_words.map_err(failed("execvp(): a word with a NUL byte"))?;
    // An ordinary user's PATH may lack the directory of nft(8), which leaves a history in HOME.
    // An empty word of PATH would be the current directory, and every user's programs in /tmp, say.
    let mut path = env::var_os("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push("/usr/bin:/bin:/usr/sbin:/sbin");
    sys::set_var("PATH".as_ref(), Some(&path));
    sys::set_var("HOME".as_ref(), Some("/dev/null".as_ref()));
    // pasta exits if it is ignored, as Rust's start-up does.
    sys::set_ignored(SIGPIPE, false).map_err(failed("signal(SIGPIPE, SIG_DFL)"))?;
    dup2_stdin(input).map_err(failed("dup2(pipe, 0)"))?;
    dup2_stdout(output).map_err(failed("dup2(pipe, 1)"))?;
    let stderr = sys::standard(2).try_clone_to_owned();
    let stderr = stderr.map_err(failed("dup(2)"))?;
    let count = env::vars_os().count();
    let text = format!("execvpe({:?}, {words:?}, /* {count} vars */)", words[0]);
    let become_it = || {
        dup2_stderr(output)?;
        let refused = execvp(&c_words[0], &c_words);
        dup2_stderr(&stderr)?;
        refused
    };
    let hint = format!("--nat needs {}: apt install {package}", words[0]);
    last_call(text, become_it).map_err(|error| {
        let error = error.hint_on(Errno::ENOENT, hint);
        error.with_status(NOT_EXECUTED)
    })
}

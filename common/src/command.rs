//! The command of a stage, and execve(2).

use crate::error::failed;
use crate::explain::{call, last_call, step, word};
use crate::{error, hints, sys};
use nix::unistd::execvpe;
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::{env, path::Path};

/// The command, as it stands on the command line.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Command {
    /// Command to run inside [default: /bin/sh, prompt "-> "]
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub words: Vec<OsString>,
}

impl Command {
    /// Whether it is a shell for a person at a terminal.
    pub fn is_interactive(&self) -> bool {
        self.words.is_empty() && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// execve(2): this process becomes the command. It is searched for in `PATH`, and a script without
    /// `#!` is run by /bin/sh, as with `unshare`: execvp(3). It gets the environment of this process, and
    /// no descriptor but 0, 1 and 2.
    ///
    /// # Errors
    /// With exit status 127 if the command is not found, 126 if it cannot be executed.
    pub fn exec(&self) -> error::Result<Infallible> {
        let mut words = self.words.clone();
        let mut environment = env::vars_os().collect::<Vec<_>>();
        if words.is_empty() {
            words.push("/bin/sh".into());
            environment.retain(|(name, _)| name != "PS1");
            environment.push(("PS1".into(), "-> ".into()));
        }
        let (program, count) = (Path::new(&words[0]), environment.len());
        let c_words = words.iter().map(|word| CString::new(word.as_bytes()));
        let c_words = c_words.collect::<Result<Vec<_>, _>>();
        let c_words = c_words.map_err(failed("execvpe(): a word with a NUL byte"))?;
        let pairs = environment.iter();
        let pairs = pairs.map(|(name, value)| [name.as_bytes(), value.as_bytes()].join(&b'='));
        let c_pairs = pairs.map(CString::new).collect::<Result<Vec<_>, _>>();
        let c_pairs = c_pairs.map_err(failed("execvpe(): a variable with a NUL byte"))?;

        let shell = format_args!("exec {}", word(program));
        step(shell, "this process becomes the command", || {
            // A descriptor of the host's directories would be a way out: CVE-2024-21626.
            let range = "close_range(3, 4294967295, CLOSE_RANGE_CLOEXEC)";
            call(range, sys::close_on_exec)?;
            sys::restore_inherited().map_err(failed("signal()"))?;
            let text = format_args!("execvpe({program:?}, {words:?}, /* {count} vars */)");
            last_call(text, || execvpe(&c_words[0], &c_words, &c_pairs))
                .map_err(|error| hints::exec(error, program))
        })
    }
}

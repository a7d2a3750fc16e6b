//! From `main` to the stage and back: the command line in, the message and the exit status out.

use crate::explain::{self, Options};
use crate::{Error, Result, process::Exit};
use clap::{ArgAction, Args, FromArgMatches, Parser, arg};
use nix::sys::resource::{Resource, getrlimit};
use std::io::{self, Write};
use std::process::ExitCode;

/// The smallest stack on which every stage runs, in bytes.
const STACK: u64 = 128 << 10;

/// The `main` of every stage: parses the command line, and runs the `host` side with it. The exit
/// status is the command's. If a signal killed the command, it kills the stage. 1 is a failure of the
/// stage, with one message on stderr.
pub fn main<A: Parser>(host: impl FnOnce(&A) -> Result<Exit>) -> ExitCode {
    let done = must_have_stack().and_then(|()| run(host));
    done.unwrap_or_else(|error| explain::report_failure(&error).into())
}

fn run<A: Parser>(host: impl FnOnce(&A) -> Result<Exit>) -> Result<ExitCode> {
    let parsed = command::<A>().try_get_matches().and_then(|words| {
        let options = Options::from_arg_matches(&words)?;
        Ok((options, A::from_arg_matches(&words)?))
    });
    match parsed {
        Ok((options, args)) => {
            options.apply()?;
            host(&args).map(Exit::pass_on)
        }
        Err(error) if error.use_stderr() => Err(bad_usage(&error)),
        // --help and --version
        Err(text) => {
            let written = write!(io::stdout(), "{}", text.render());
            Ok(written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
        }
    }
}

/// A stack that is too small ends a program with SIGSEGV, without a word.
fn must_have_stack() -> Result<()> {
    match getrlimit(Resource::RLIMIT_STACK) {
        Ok((soft, _)) if soft < STACK => {
            let what = format!("the limit on the stack is {} KiB", soft >> 10);
            Err(Error::input(what).hint("ulimit -s 8192"))
        }
        _ => Ok(()),
    }
}

/// The command line of a stage: its own options, and those that all stages have.
pub fn command<A: Parser>() -> clap::Command {
    // One screen for -h and --help alike.
    let help = arg!(-h --help "Print help").action(ArgAction::HelpShort);
    let command = A::command().disable_help_flag(true);
    let command = command.next_help_heading(None::<&str>).arg(help);
    let about = command.get_about().cloned(); // augment_args would replace it
    Options::augment_args(command)
        .about(about.unwrap_or_default())
        .help_template(
            "\
{about-with-newline}
Examples:
  {name}                 start a shell in the container; exit leaves it
  {name} hostname        run one command
  {name} --explain true  show each step
  {name} --step          wait for Enter before each step

{before-help}{usage-heading} {usage}

{all-args}",
        )
}

/// clap's message on one line, and its proposal as a hint.
fn bad_usage(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let (mut what, mut hint) = (Vec::new(), String::new());
    let lines = text.lines().map(str::trim);
    for line in lines.take_while(|line| !line.starts_with("Usage:")) {
        match line.strip_prefix("tip: ") {
            Some(tip) if hint.is_empty() => hint = format!("{tip}; "),
            None if !line.is_empty() && !line.starts_with("For more") => what.push(line),
            _ => {}
        }
    }
    let what = what.join(" ");
    let what = what.trim_start_matches("error: ");
    Error::input(what).hint(format!("{hint}--help shows all options"))
}

//! From `main` to the stage and back: the command line in, the message and the exit status out.

use crate::{Error, Result, process::Exit, step::Options};
use clap::{ArgAction, Args, FromArgMatches, Parser, arg, error::ErrorKind};
use std::{
    env,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// The `main` of every stage: parses the command line, and runs the `host` side with it. The exit
/// status is the command's; its death by a signal becomes the stage's own; 1 is a failure of ours,
/// with one message on stderr.
pub fn main<A: Parser>(host: impl FnOnce(&A) -> Result<Exit>) -> ExitCode {
    let parsed = command::<A>()
        .try_get_matches()
        .and_then(|words| Ok((Options::from_arg_matches(&words)?, A::from_arg_matches(&words)?)));
    let outcome = match parsed {
        Ok((options, args)) => options.apply().and_then(|()| host(&args)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return match write!(io::stdout(), "{}", error.render()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE, // nobody reads it
            };
        }
        Err(error) => Err(bad_usage(&error)),
    };
    match outcome {
        Ok(exit) => exit.pass_on(),
        Err(error) => {
            report(&error);
            error.status().into()
        }
    }
}

/// The command line of a stage: its own, and what all have.
pub fn command<A: Parser>() -> clap::Command {
    // One screen for -h and --help alike.
    let help = arg!(-h --help "Print help").action(ArgAction::HelpShort);
    let command = A::command().disable_help_flag(true).arg(help);
    let about = command.get_about().cloned(); // which the options would replace by their own
    Options::augment_args(command).about(about.unwrap_or_default()).help_template(
        "\
{about-with-newline}
Examples:
  {name}                 a shell in the container; exit leaves it
  {name} hostname        one command
  {name} --explain true  each step told as it is taken
  {name} --step          and not before you have pressed Enter

{before-help}{usage-heading} {usage}

{all-args}",
    )
}

/// In place of libc's, where `link-static.rs` could ask ld(1) for it. Before `main` the language's start-up
/// wants to know where the stack ends, so as to tell its overflow from other faults; libc would read
/// /proc/self/maps, with scanf(3): a twentieth of a stage's time, a tenth of its memory. Without an answer
/// an overflow is a plain SIGSEGV.
#[unsafe(no_mangle)]
extern "C" fn __wrap_pthread_getattr_np(_: libc::pthread_t, _: *mut libc::pthread_attr_t) -> libc::c_int {
    libc::ENOSYS
}

/// clap's message on one line, and what it proposes as a hint.
fn bad_usage(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let (tips, what): (Vec<_>, Vec<_>) = lines
        .filter(|line| !line.is_empty() && !line.starts_with("For more"))
        .partition(|line| line.starts_with("tip: "));
    let tip = tips.first().map(|tip| format!("{}; ", &tip["tip: ".len()..])).unwrap_or_default();
    let what = what.join(" ");
    Error::input(what.trim_start_matches("error: ")).hint(format!("{tip}--help shows what there is"))
}

/// What fails because a process of ours has failed need not be told after that has told its reason.
static SAID: AtomicBool = AtomicBool::new(false);

pub(crate) fn it_was_said() {
    SAID.store(true, Relaxed);
}

/// Prints `program: error` on stderr, in one write(2), so that lines of two processes do not mix.
/// Where stderr is closed or full there is nobody to tell.
pub(crate) fn report(error: &Error) {
    if !error.is_reported() && !SAID.load(Relaxed) {
        say(&error.to_string());
    }
}

/// Prints `program: text` on stderr.
pub(crate) fn say(text: &str) {
    let program = env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default().display();
    let _ = io::stderr().write_all(format!("{name}: {text}\n").as_bytes());
}

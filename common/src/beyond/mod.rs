//! After the talk: what makes a container useful. The first reading passes over this folder.
//!
//! In [stage 5](../../stage5_net/index.html), one line a room on its side. `--bare` leaves all of it
//! out, and each option here is refused together with it.

mod helper;
pub mod outside;
mod publish;
mod resolv;

use crate::explain::{call, heading, step, word};
use crate::{Result, sys};
use nix::unistd::chdir;
use std::path::PathBuf;

/// The options of all rooms.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Beyond the talk")]
pub struct Options {
    /// `--nat` and `--publish`.
    #[command(flatten)]
    pub outside: outside::Options,
    /// Directory in which the command starts
    #[arg(long, value_name = "DIR", conflicts_with = "bare")]
    chdir: Option<PathBuf>,
    /// Set an environment variable
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable, conflicts_with = "bare")]
    env: Vec<(String, String)>,
}

fn variable(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("a variable needs a name and a value: NAME=VALUE".into()),
    }
}

impl Options {
    /// `--env` and `--chdir`: where the command starts.
    ///
    /// # Errors
    /// Those of chdir(2).
    pub fn start(&self) -> Result<()> {
        for (name, value) in &self.env {
            sys::set_var(name.as_ref(), Some(value.as_ref()));
        }
        let Some(directory) = &self.chdir else {
            return Ok(());
        };
        heading("the command");
        let shell = format_args!("cd {}", word(directory));
        step(shell, "where the command starts", || {
            call(format_args!("chdir({directory:?})"), || chdir(directory))
        })
    }
}

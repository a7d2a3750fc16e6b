//! Limits: what the container may use. Namespaces decide only what it sees. See [cgroups(7)], and the
//! kernel's [cgroup-v2.rst].
//!
//! ```text
//! /sys/fs/cgroup     the stage's own group: the root of all groups, or one that belongs to the caller
//!   stage            in the second case: the stage and its janitor, because a group that is divided must
//!                    hold no process itself
//!   leopard-7003     the container's: memory.max, pids.max, cpu.max. 7003 is the stage's process id
//! ```
//!
//! This is version 2 of control groups. Version 1 has a hierarchy of groups for each controller.
//!
//! [cgroups(7)]: https://man7.org/linux/man-pages/man7/cgroups.7.html
//! [cgroup-v2.rst]: https://docs.kernel.org/admin-guide/cgroup-v2.html

mod group;

use crate::error::accept;
use crate::explain::{Fact, call, change, heading, step, word};
use crate::files::make_directory;
use crate::proc::read;
use crate::{Result, janitor::Janitor, namespaces::NEWCGROUP, report};
use group::{divide, echo, own_group};
use nix::{errno::Errno, sched::unshare, unistd::Pid};
use std::path::PathBuf;

/// The period of `cpu.max` in microseconds: the kernel's default.
pub const PERIOD: f64 = 100_000.0;

/// What the container may use.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Limit the memory, such as 64M
    #[arg(long, value_name = "BYTES", value_parser = bytes, conflicts_with = "bare")]
    pub memory: Option<String>,
    /// Limit the number of processes
    #[arg(long, value_name = "NUMBER", conflicts_with = "bare",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Option<u32>,
    /// Limit the processors, such as 0.5
    #[arg(long, value_name = "NUMBER", value_parser = processors, conflicts_with = "bare")]
    pub cpus: Option<f64>,
}

/// The number of bytes that such a text stands for.
pub fn in_bytes(text: &str) -> Option<u64> {
    let number = text.strip_suffix(['K', 'M', 'G']).unwrap_or(text);
    let unit = match &text[number.len()..] {
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => 1,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// As the kernel reads it.
fn bytes(text: &str) -> std::result::Result<String, String> {
    match in_bytes(text) {
        Some(1..) => Ok(text.into()),
        _ => Err(
            "it is a number of bytes, or of K, M or G, such as 64M, and less than 16 EiB".into(),
        ),
    }
}

/// The kernel accepts no less than 1000 microseconds of each period.
fn processors(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(number @ 0.01..=10_000.0) => Ok(number),
        _ => Err("it is a number from 0.01 to 10000".into()),
    }
}

/// The container's group, if it has limits. Dropped at the stage's end, it lets the janitor remove the group.
pub struct Limits<'a> {
    options: &'a Options,
    group: Option<(PathBuf, Janitor)>,
}

impl Options {
    /// The files of the group, and what is written to them.
    fn settings(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut all = vec![];
        if let Some(memory) = self.memory.clone() {
            all.push(("memory.max", memory, "at most so much memory"));
            all.push(("memory.swap.max", "0".into(), "no swap beside it"));
            all.push(("memory.oom.group", "1".into(), "kill all, or none"));
        }
        if let Some(pids) = self.pids {
            all.push(("pids.max", pids.to_string(), "at most so many processes"));
        }
        if let Some(cpus) = self.cpus {
            let max = format!("{:.0} {PERIOD}", cpus * PERIOD);
            all.push(("cpu.max", max, "microseconds of each period"));
        }
        all
    }

    /// The controllers, such as `memory pids`: a file's name begins with its controller's.
    fn controllers(&self) -> String {
        let settings = self.settings().into_iter();
        let names = settings.filter_map(|(file, ..)| Some(file.split_once('.')?.0));
        let mut names = names.collect::<Vec<_>>();
        names.dedup();
        names.join(" ")
    }

    /// Prepares the stage's own group for groups below it. This happens before the clone: in a group that is divided
    /// there may be no process but the stage and its janitor.
    ///
    /// # Errors
    /// If a limit cannot be set: the container never runs without it.
    pub fn open(&self) -> Result<Limits<'_>> {
        let (options, controllers) = (self, self.controllers());
        let mut group = None;
        if !controllers.is_empty() {
            heading("limits");
            group = Some(divide(&own_group()?, &controllers)?);
        }
        Ok(Limits { options, group })
    }

    /// In the child, which is in its group by now: `unshare -C`, so that `/proc/self/cgroup` shows `/`. Its first
    /// cgroup namespace begins at the stage's group.
    pub(super) fn enter(&self) -> Result<()> {
        if self.controllers().is_empty() {
            return Ok(());
        }
        heading("limits");
        let namespaces = || Fact::namespaces("self", NEWCGROUP);
        let unshare = || call("unshare(CLONE_NEWCGROUP)", || unshare(NEWCGROUP));
        let does = "inside, its group is called /";
        step("unshare -C", does, || change(namespaces, unshare))
    }
}

impl Limits<'_> {
    /// Creates the group with its limits, and puts the child there before it goes on.
    pub fn add(&self, child: Pid) -> Result<()> {
        let Some((path, _)) = &self.group else {
            return Ok(());
        };
        heading("limits");
        let shell = format_args!("mkdir {}", word(path));
        step(shell, "a control group", || make_directory(path))?;
        for (file, value, does) in self.options.settings() {
            let written = echo(&value, &path.join(file), does);
            match file {
                "memory.swap.max" => accept(Errno::ENOENT, written)?, // a kernel without swap
                _ => written?,
            }
        }
        let does = "the child, before it goes on";
        echo(&child.to_string(), &path.join("cgroup.procs"), does)
    }
}

impl Drop for Limits<'_> {
    /// The exit status 137 does not tell this end from `kill -9`.
    fn drop(&mut self) {
        if let (Some(memory), Some((path, _))) = (&self.options.memory, &self.group) {
            let is_kill = |line: &str| line.starts_with("oom_kill ") && line != "oom_kill 0";
            if read(path.join("memory.events")).lines().any(is_kill) {
                let text = "the kernel killed the container: out of memory, with";
                report::warning(&format!("{text} --memory {memory}"));
            }
        }
    }
}

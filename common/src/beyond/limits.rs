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

use crate::capabilities::Capabilities;
use crate::error::{accept, failed};
use crate::explain::{Fact, call, change, heading, step, word};
use crate::files::{self, Open, make_directory, remove_directory};
use crate::{Error, Result, janitor::Janitor, namespaces::NEWCGROUP, report};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::unshare;
use nix::sys::signal::kill;
use nix::sys::uio::pread;
use nix::unistd::{Pid, geteuid, getpid};
use std::path::{Path, PathBuf};
use std::{fs, os::fd::AsFd};

/// How the name of a container's group begins.
const PREFIX: &str = "leopard-";
/// The group of the stage itself.
const STAGE: &str = "stage";
/// The period of `cpu.max` in microseconds: the kernel's default.
const PERIOD: f64 = 100_000.0;

/// What the container may use.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Limit the memory, such as 64M
    #[arg(long, value_name = "BYTES", value_parser = bytes, conflicts_with = "bare")]
    memory: Option<String>,
    /// Limit the number of processes
    #[arg(long, value_name = "NUMBER", conflicts_with = "bare",
          value_parser = clap::value_parser!(u32).range(1..))]
    pids: Option<u32>,
    /// Limit the processors, such as 0.5
    #[arg(long, value_name = "NUMBER", value_parser = processors, conflicts_with = "bare")]
    cpus: Option<f64>,
}

/// As the kernel reads it.
fn bytes(text: &str) -> std::result::Result<String, String> {
    match text
        .strip_suffix(['K', 'M', 'G'])
        .unwrap_or(text)
        .parse::<u32>()
    {
        Ok(1..) => Ok(text.into()),
        _ => Err("it is a number of bytes, or of K, M or G: 64M".into()),
    }
}

/// The kernel accepts no less than 1000 microseconds of each period.
fn processors(text: &str) -> std::result::Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (0.01..=10_000.0).contains(number));
    number.ok_or("it is a number from 0.01 to 10000".into())
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
            all.push((
                "memory.oom.group",
                "1".into(),
                "out of memory ends all of it",
            ));
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

    /// Prepares the stage's own group for groups below it. This happens before the clone: a janitor forked later
    /// would inherit the pipe by whose end the child notices that the stage has ended.
    ///
    /// # Errors
    /// If a limit cannot be set: the container never runs without it.
    pub fn open(&self) -> Result<Limits<'_>> {
        let (options, controllers) = (self, self.controllers());
        let mut group = None;
        if !controllers.is_empty() {
            heading("limits");
            let own = own_group(&controllers)?;
            sweep(&own);
            let divided = divide(&own, &controllers);
            group = Some(divided.map_err(|error| error.hint_on(Errno::EACCES, delegate()))?);
        }
        Ok(Limits { options, group })
    }

    /// In the child, which is in its group by now: `unshare -C`, so that `/proc/self/cgroup` shows `/`. Its first
    /// cgroup namespace begins at the stage's group.
    ///
    /// # Errors
    /// Those of unshare(2).
    pub fn enter(&self) -> Result<()> {
        if self.settings().is_empty() {
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
    ///
    /// # Errors
    /// Those of mkdir(2) and of the writes.
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
            let events = read(&path.join("memory.events"));
            let kills = events
                .lines()
                .find_map(|line| line.strip_prefix("oom_kill "));
            if kills.is_some_and(|kills| kills != "0") {
                let text = "the kernel killed the container, which needed more memory than";
                report::warning(&format!("{text} --memory {memory}"));
            }
        }
    }
}

/// A step: `echo TEXT > FILE`.
fn echo(text: &str, file: &Path, does: &str) -> Result<()> {
    let shell = format_args!("echo {} > {}", word(text), word(file));
    step(shell, does, || files::write(file, Open::Existing, text))
}

/// Nothing, if the file cannot be read.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The directory of the stage's own group, if it has these controllers.
fn own_group(controllers: &str) -> Result<PathBuf> {
    let files = ["/proc/self/cgroup", "/proc/self/mountinfo"];
    let [groups, mounts] = files.map(|file| read(Path::new(file)));
    for name in controllers.split(' ') {
        // `4:memory:/user.slice`
        let lines = groups.lines().filter_map(|line| line.split_once(':'));
        let mut lines = lines.filter(|(_, rest)| rest.split([',', ':']).any(|word| word == name));
        if let Some((number, _)) = lines.next() {
            let what = format!("{name} is held by cgroup v1 (hierarchy {number})");
            let hint = "limits need cgroup v2: boot with systemd.unified_cgroup_hierarchy=1, or \
                        cgroup_no_v1=all; /proc/self/cgroup lists the hierarchies";
            return Err(Error::input(what).hint(hint));
        }
    }
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = mount.and_then(|line| line.split(' ').nth(4));
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let (Some(mount), Some(own)) = (mount, own) else {
        let error = Error::input("no cgroup2 file system is mounted");
        return Err(error.hint("mount -t cgroup2 cgroup2 /sys/fs/cgroup"));
    };
    let own = Path::new(mount).join(own);
    let enabled = read(&own.join("cgroup.controllers"));
    let is_missing = |name: &&str| !enabled.split_whitespace().any(|other| other == *name);
    if let Some(name) = controllers.split(' ').find(is_missing) {
        let what = format!("the controller {name} is not enabled in {own:?}");
        return Err(Error::input(what).hint(delegate()));
    }
    Ok(own)
}

/// The hint where the stage's own group is not the stage's to divide.
fn delegate() -> String {
    let user = if geteuid().is_root() { "" } else { "--user " };
    let run = format!("systemd-run {user}--scope -p Delegate=yes stage5-net ...");
    format!("{run} gives the stage a group of its own")
}

/// Returns the path of the container's group, and the janitor that will remove it.
fn divide(own: &Path, controllers: &str) -> Result<(PathBuf, Janitor)> {
    let is_root = !own.join("cgroup.events").exists();
    if !is_root && read(&own.join("cgroup.procs")).trim() != getpid().to_string() {
        let what = format!("{own:?} holds other processes too, so it cannot be divided");
        return Err(Error::input(what).hint(delegate()));
    }
    let janitor = Janitor::start(Capabilities::DAC_OVERRIDE, remove)?; // the root has mode 0555
    let (path, stage) = (own.join(format!("{PREFIX}{}", getpid())), own.join(STAGE));
    janitor.remove_at_end(&path.to_string_lossy())?;
    if !is_root {
        janitor.remove_at_end(&stage.to_string_lossy())?;
        let procs = stage.join("cgroup.procs");
        let shell = format_args!("mkdir {}; echo 0 > {}", word(&stage), word(&procs));
        step(shell, "a divided group holds no process", || {
            make_directory(&stage)?;
            files::write(&procs, Open::Existing, &janitor.pid().to_string())?;
            files::write(&procs, Open::Existing, "0")
        })?;
    }
    let (file, does) = (own.join("cgroup.subtree_control"), "for the groups below");
    echo(&format!("+{}", controllers.replace(' ', " +")), &file, does)?;
    Ok((path, janitor))
}

/// Removes the groups of stages that were killed together with their janitors. The kernel refuses to remove one
/// with processes. An empty one whose stage lives is about to be filled.
fn sweep(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let stage = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let stage = stage.and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
        if stage.is_some_and(|stage| kill(stage, None) == Err(Errno::ESRCH)) {
            let (path, does) = (entry.path(), "its stage and janitor were killed");
            let shell = format_args!("rmdir {}", word(&path));
            let _ = step(shell, does, || remove_directory(&path));
        }
    }
}

/// What the janitor does at the stage's end, if the stage has created the group.
fn remove(path: &str) -> Result<()> {
    let (path, group) = (Path::new(path), word(path));
    let Some(own) = path.parent().filter(|_| path.exists()) else {
        return Ok(());
    };
    heading("clean-up");
    let write = |file: &Path, text: &str| files::write(file, Open::Existing, text);
    if path.ends_with(STAGE) {
        let (off, file) = ("-memory -pids -cpu", own.join("cgroup.subtree_control"));
        let shell = format_args!("echo {} > {}; rmdir {group}", word(off), word(&file));
        return step(shell, "the stage returns to its group", || {
            write(&file, off)?;
            for pid in read(&path.join("cgroup.procs")).lines() {
                // ESRCH: it has ended meanwhile.
                accept(Errno::ESRCH, write(&own.join("cgroup.procs"), pid))?;
            }
            remove_directory(path)
        });
    }
    let shell = format_args!("echo 1 > {group}/cgroup.kill; rmdir {group}");
    step(shell, "what is left in the group, and the group", || {
        // The file is new in Linux 5.14. Without it PR_SET_PDEATHSIG ends the container.
        accept(Errno::ENOENT, write(&path.join("cgroup.kill"), "1"))?;
        wait_until_empty(&path.join("cgroup.events"))?;
        remove_directory(path)
    })
}

fn wait_until_empty(events: &Path) -> Result<()> {
    let file = fs::File::open(events).map_err(failed(format!("open({events:?})")))?;
    let mut text = [0; 11];
    while pread(&file, &mut text, 0).is_ok() && text == *b"populated 1" {
        let mut changed = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)]; // since it was read
        poll(&mut changed, PollTimeout::NONE).map_err(failed("poll(cgroup.events)"))?;
    }
    Ok(())
}

//! The stage's own group: which it is, how it is divided, and what the janitor removes.

use crate::capabilities::Capabilities;
use crate::error::{accept, failed};
use crate::explain::{heading, step, word};
use crate::files::{self, make_directory, remove_directory};
use crate::proc::{mount_points, read};
use crate::{Error, Result, janitor::Janitor};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::{signal::kill, uio::pread};
use nix::unistd::{Pid, geteuid, getpid};
use std::path::{Path, PathBuf};
use std::{fs, os::fd::AsFd};

/// How the name of a container's group begins.
const PREFIX: &str = "leopard-";
/// The group of the stage itself.
const STAGE: &str = "stage";

/// A step: `echo TEXT > FILE`.
pub(super) fn echo(text: &str, file: &Path, does: &str) -> Result<()> {
    let shell = format_args!("echo {} > {}", word(text), word(file));
    step(shell, does, || files::write(file, text))
}

/// The directory of the stage's own group.
pub(super) fn own_group() -> Result<PathBuf> {
    let mounts = mount_points(|line, _| line.contains(" - cgroup2 "));
    let groups = read("/proc/self/cgroup");
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let error = Error::input("no file system of cgroup v2 is mounted");
    match (mounts.first(), own) {
        (Some(mount), Some(own)) => Ok(Path::new(mount).join(own)),
        _ => Err(error.hint("mount -t cgroup2 cgroup2 /sys/fs/cgroup")),
    }
}

/// Why the stage's own group cannot be divided, and what to do.
fn hint(own: &Path, controllers: &str) -> String {
    let groups = read("/proc/self/cgroup");
    let enabled = read(own.join("cgroup.controllers"));
    let user = if geteuid().is_root() { "" } else { "--user " };
    let run = format!("systemd-run {user}--scope -p Delegate=yes stage5-net ...");
    for name in controllers.split(' ') {
        // A group of version 1: `4:memory:/user.slice`.
        let mut lines = groups.lines().filter_map(|line| line.split_once(':'));
        let held = lines.find(|(_, rest)| rest.split([',', ':']).any(|word| word == name));
        if let Some((number, _)) = held {
            return format!(
                "{name} is held by cgroup v1 (hierarchy {number} in /proc/self/cgroup): boot with \
                 systemd.unified_cgroup_hierarchy=1, or with cgroup_no_v1=all"
            );
        }
        if !enabled.split_whitespace().any(|enabled| enabled == name) {
            return format!(
                "{own:?} does not have the controller {name}: {run} gives the stage a group that has"
            );
        }
    }
    format!("{run} gives the stage a group of its own")
}

/// Prepares a group for the container's below it. Returns that one's path, and the janitor that will remove it.
pub(super) fn divide(own: &Path, controllers: &str) -> Result<(PathBuf, Janitor)> {
    let is_root = !own.join("cgroup.events").exists();
    if !is_root && read(own.join("cgroup.procs")) != getpid().to_string() {
        let what = format!("other processes are in the stage's group {own:?}, too");
        return Err(Error::input(what).hint(hint(own, controllers)));
    }
    sweep(own);
    let janitor = Janitor::start(Capabilities::DAC_OVERRIDE, remove)?; // the root has mode 0555
    let (path, stage) = (own.join(format!("{PREFIX}{}", getpid())), own.join(STAGE));
    // Of a stage in another PID namespace, perhaps: the janitor must not end that one's container.
    if path.exists() {
        return Err(Error::new(format!("mkdir({path:?})"), Errno::EEXIST));
    }
    janitor.remove_at_end(&path.to_string_lossy())?;
    let explained = |error: Error| match error.errno() {
        Some(Errno::ENOENT | Errno::EACCES | Errno::EOPNOTSUPP) => {
            error.hint(hint(own, controllers))
        }
        _ => error,
    };
    if !is_root {
        janitor.remove_at_end(&stage.to_string_lossy())?;
        let procs = stage.join("cgroup.procs");
        let shell = format_args!("mkdir {}; echo 0 > {}", word(&stage), word(&procs));
        step(shell, "a divided group holds no process", || {
            accept(Errno::EEXIST, make_directory(&stage))?;
            files::write(&procs, &janitor.pid().to_string())?;
            files::write(&procs, "0")
        })
        .map_err(explained)?;
    }
    let (file, does) = (own.join("cgroup.subtree_control"), "for the groups below");
    let enabled = echo(&format!("+{}", controllers.replace(' ', " +")), &file, does);
    enabled.map_err(explained)?;
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
    let write = |file: &Path, text: &str| files::write(file, text);
    if path.ends_with(STAGE) {
        let (off, file) = ("-memory -pids -cpu", own.join("cgroup.subtree_control"));
        let shell = format_args!("echo {} > {}; rmdir {group}", word(off), word(&file));
        return step(shell, "the stage returns to its group", || {
            write(&file, off)?;
            for pid in read(path.join("cgroup.procs")).lines() {
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

//! The mount namespace: one function a mount. See [mount_namespaces(7)] and [mount(2)].
//!
//! From [stage 3](../../stage3_pid/index.html), with /proc; the rest from
//! [stage 4](../../stage4_mount/index.html).
//!
//! [mount(2)]: https://man7.org/linux/man-pages/man2/mount.2.html
//! [mount_namespaces(7)]: https://man7.org/linux/man-pages/man7/mount_namespaces.7.html

mod pivot;
mod tree;

pub use pivot::{OldRoot, pivot_root};
pub use tree::Tree;
pub(crate) use tree::{no_devices, read_only};

use crate::error::failed;
use crate::explain::{self, Fact, call, change, heading, word};
use crate::{Error, Result, files, hints, namespaces};
use nix::mount::MsFlags;
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::fchdir;
use std::fmt::Display;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Whether new mounts pass between host and container: "SHARED SUBTREES" of mount_namespaces(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
pub enum Propagation {
    /// No new mount passes, in either direction
    #[default]
    Private,
    /// New mounts of the host appear inside, not the other way round
    Slave,
    /// New mounts pass in both directions, as far as the user namespace permits
    Shared,
    /// As it was on the host
    Unchanged,
}

/// The option of mounts.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    #[arg(
        long,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "KIND",
        help = "Mount propagation: private, slave,\nshared or unchanged"
    )]
    propagation: Propagation,
}

/// A step that changes mounts.
pub(crate) fn step<T>(
    shell: impl Display,
    does: &str,
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    explain::step(shell, does, || change(table, run))
}

/// `--propagation`: the first step in a new mount namespace, as with unshare(1).
pub fn propagation(options: &Options) -> Result<()> {
    let (name, flag, does) = match options.propagation {
        Propagation::Private => return set_propagation("/", MsFlags::MS_PRIVATE), // unshare(1) says nothing
        Propagation::Slave => ("slave", MsFlags::MS_SLAVE, "new mounts pass in only"),
        Propagation::Shared => ("shared", MsFlags::MS_SHARED, "new mounts pass in and out"),
        Propagation::Unchanged => return Ok(()),
    };
    step_propagation("/", name, flag, does)
}

/// `mount --make-rprivate TARGET`: no new mount passes between TARGET, the mounts below, and the host.
///
/// # Errors
/// `EINVAL` if `target` is not a mount point.
pub fn make_private(target: &str) -> Result<()> {
    let does = "no new mount passes in or out";
    step_propagation(target, "private", MsFlags::MS_PRIVATE, does)
}

fn step_propagation(target: &str, name: &str, flag: MsFlags, does: &str) -> Result<()> {
    heading("root file system");
    let shell = format_args!("mount --make-r{name} {}", word(target));
    step(shell, does, || set_propagation(target, flag))
}

fn set_propagation(target: &str, flag: MsFlags) -> Result<()> {
    mount("none", target, None, MsFlags::MS_REC | flag, None)
}

/// `mount -t proc proc TARGET`: shows the processes of this PID namespace. `unshare --mount-proc`
/// mounts it at `/proc`, with the same flags.
///
/// # Errors
/// `EPERM` where the caller's user namespace does not see a complete /proc; `ENOENT` without the
/// directory.
pub fn proc(target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    let shell = format_args!("mount -t proc proc {}", word(target));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    step(shell, "the processes of this namespace", || {
        mount("proc", target, Some("proc"), flags, None)
    })
    .map_err(|error| hints::mount_proc(error, target))
}

/// `mount -t tmpfs tmpfs TARGET`: an empty file system in memory, where every user can write.
///
/// # Errors
/// `ENOENT` without the directory.
pub fn tmpfs(target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    let shell = format_args!("mount -t tmpfs tmpfs {}", word(target));
    let does = "an empty directory in memory";
    step(shell, does, || mount_tmpfs(target, None))
        .map_err(|error| hints::no_directory(error, target))
}

/// mount(2) of a tmpfs. The caller says which step it belongs to.
pub(crate) fn mount_tmpfs(target: &Path, options: Option<&str>) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount("tmpfs", target, Some("tmpfs"), flags, options)
}

/// `mount --rbind SOURCE TARGET`: the same tree at a second place. Onto itself, it turns a directory
/// into a mount point, which pivot_root(2) needs.
pub(crate) fn rbind(source: &Path, target: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(source, target, None, flags, None)
}

/// The same, read-only, with all mounts below.
pub(crate) fn rbind_read_only(source: &Path, target: &Path) -> Result<()> {
    rbind(source, target)?;
    read_only(target)
}

/// mount(2). The text shows a null pointer as `NULL`, as strace does.
pub(crate) fn mount(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    fstype: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<()> {
    let (source, target) = (source.as_ref(), target.as_ref());
    let names = match namespaces::names(flags.iter_names()) {
        none if none.is_empty() => "0".into(),
        names => names,
    };
    let pointer = |text: Option<&str>| text.map_or("NULL".into(), |text| format!("{text:?}"));
    let (type_, options) = (pointer(fstype), pointer(data));
    let text = format_args!("mount({source:?}, {target:?}, {type_}, {names}, {options})");
    let mount = || nix::mount::mount(Some(source), target, fstype, flags, data);
    call(text, mount).map_err(hints::apparmor)
}

/// Opens the directory at `path` of a root, and changes into it, if the file system that was mounted there is
/// of this type. From there no link of the root leads away: a root may change while the stage mounts in it
/// (CVE-2025-31133, -52565, -52881).
pub(crate) fn enter(path: &Path, kind: FsType) -> Result<()> {
    let directory = files::open_directory(path)?;
    let number = directory.as_raw_fd();
    let found = fstatfs(&directory).map_err(failed(format!("fstatfs({number})")))?;
    if found.filesystem_type() != kind {
        let what = format!("{path:?} is not the file system that was mounted there");
        let hint = "another process changes the root: use a root of your own";
        return Err(Error::input(what).hint(hint));
    }
    call(format_args!("fchdir({number})"), || fchdir(&directory))
}

/// `cd DIR`.
pub fn chdir(directory: &str) -> Result<()> {
    let shell = format_args!("cd {}", word(directory));
    explain::step(shell, "leaves the old root", || call_chdir(directory))
}

pub(crate) fn call_chdir(directory: &str) -> Result<()> {
    let chdir = || nix::unistd::chdir(directory);
    call(format_args!("chdir({directory:?})"), chdir)
}

/// The mounts of this namespace, in the columns of `findmnt -o TARGET,SOURCE,FSTYPE,OPTIONS`:
/// proc_pid_mountinfo(5).
pub(crate) fn table() -> Vec<Fact> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = text.lines().filter_map(|line| {
        let (mount, device) = line.split_once(" - ")?;
        let (mount, mut device) = (mount.split(' ').collect::<Vec<_>>(), device.split(' '));
        let (fstype, source) = (device.next()?, device.next()?);
        let [id, _, _, _, target, options, propagation @ ..] = &mount[..] else {
            return None;
        };
        let mut state = format!("{target} {source} {fstype} {options}");
        for word in propagation {
            // Such as `shared:1`.
            state = format!("{state},{}", word.split(':').next()?);
        }
        Some(Fact::new("mount", *id, state))
    });
    mounts.collect()
}

//! The user namespace: which user inside is which user outside. See [user_namespaces(7)].
//!
//! First in [stage 2](../../stage2_user/index.html).
//!
//! [user_namespaces(7)]: https://man7.org/linux/man-pages/man7/user_namespaces.7.html

mod ranges;

pub(crate) use ranges::Holder;

use crate::explain::{Fact, change, heading, step, word};
use crate::files;
use crate::namespaces::{NEWUSER, number_in_proc};
use crate::{Error, Result, hints, proc};
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Pid, Uid, getegid, geteuid, getpid};
use ranges::Maps;
use std::path::Path;

/// Which users the container has.
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
enum Map {
    /// The caller is root inside: `unshare --map-root-user`
    #[default]
    Root,
    /// A range of ids, the caller being root inside: `unshare --map-root-user --map-auto`
    Auto,
    /// No id is mapped: `unshare --user`. Every id is shown as 65534
    None,
}

/// The map's option.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Ids inside: root, auto or none
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    map: Map,
}

impl Options {
    /// Fails without a map: no user inside could own a file.
    pub(crate) fn must_map_root(&self) -> Result<()> {
        if self.map != Map::None {
            return Ok(());
        }
        let error = Error::input("--map none: without a map no user inside can own a file");
        Err(error.hint("the root needs files of its own: stages 2 and 3 work without a map"))
    }

    /// Whether a range of ids is mapped.
    pub(crate) fn is_range(&self) -> bool {
        self.map == Map::Auto
    }

    /// The lines of both maps, of users and of groups: id inside, id outside, how many. For other runtimes.
    ///
    /// # Errors
    /// With `--map auto`, if the caller has no range.
    pub fn lines(&self) -> Result<[Vec<[u32; 3]>; 2]> {
        let outer = Outer::current();
        if self.is_range() {
            return Maps::find(outer).map(Maps::lines);
        }
        let (uid, gid) = (outer.0.as_raw(), outer.1.as_raw());
        Ok([vec![[0, uid, 1]], vec![[0, gid, 1]]])
    }

    /// With `--map auto` as root: a process whose user namespace has the container's map, for
    /// mount_setattr(2). For an ordinary user files have the right owners without it.
    pub(crate) fn holder(&self) -> Result<Option<Holder>> {
        let outer = Outer::current();
        if !self.is_range() || !outer.0.is_root() {
            return Ok(None);
        }
        heading("user namespace");
        Holder::new(NEWUSER, &Maps::find(outer)?).map(Some)
    }

    /// With `--map auto`: a process in new namespaces between the host and the container.
    pub(crate) fn between(&self, flags: CloneFlags) -> Result<Option<Holder>> {
        if !self.is_range() {
            return Ok(None);
        }
        let outer = Outer::current();
        let maps = Maps::find(outer)?.as_themselves(outer);
        Holder::new(flags, &maps).map(Some)
    }
}

/// `--map-root-user`: writes the id maps of the child's user namespace, so that the caller's effective
/// ids are root inside. With `--map auto` other users follow; with `--map none` it writes nothing.
///
/// An unprivileged process may write `gid_map` only after it has written "deny" to `setgroups`.
/// Otherwise a user could drop a group inside, and open files that deny access to that group:
/// user_namespaces(7).
///
/// # Errors
/// `EPERM` if the caller has no right to the ids, or if the map has been written before.
pub fn map_root_user(child: Pid, options: &Options) -> Result<()> {
    if options.map == Map::None {
        return Ok(());
    }
    heading("user namespace");
    let outer = Outer::current();
    if options.is_range() {
        return Maps::find(outer)?.write(child);
    }
    let child = number_in_proc(child)?;
    let users = format!("0 {} 1", outer.0);
    echo(
        &users,
        child,
        "uid_map",
        "first id inside, outside, how many",
    )?;
    echo("deny", child, "setgroups", "no process can drop a group")?;
    let groups = format!("0 {} 1", outer.1);
    echo(&groups, child, "gid_map", "the same for groups")
}

/// A step: `echo TEXT > /proc/PID/FILE`.
fn echo(text: &str, process: Pid, file: &str, does: &str) -> Result<()> {
    let path = format!("/proc/{process}/{file}");
    let shell = format_args!("echo {} > {path}", word(text));
    step(shell, does, || {
        change(|| shown(&path), || write(text, &path))
    })
}

fn write(text: &str, path: &str) -> Result<()> {
    let written = files::write(Path::new(path), text);
    written.map_err(hints::apparmor).map_err(hints::map)
}

/// The caller's effective ids outside. In a new user namespace geteuid(2) returns 65534 until the map
/// is written.
#[derive(Clone, Copy)]
pub(crate) struct Outer(Uid, Gid);

impl Outer {
    pub(crate) fn current() -> Self {
        Self(geteuid(), getegid())
    }

    /// `--map-current-user`, for the calling process after unshare(2): the same ids as outside.
    pub(crate) fn map_current_user(self) -> Result<()> {
        let own = format!("/proc/{}", number_in_proc(getpid())?);
        write(&format!("{0} {0} 1", self.0), &format!("{own}/uid_map"))?;
        write("deny", &format!("{own}/setgroups"))?;
        write(&format!("{0} {0} 1", self.1), &format!("{own}/gid_map"))
    }
}

/// A map as a fact; its name is that of the file.
fn shown(path: &str) -> Vec<Fact> {
    let words = proc::read(path);
    let state = match words.split_whitespace().collect::<Vec<_>>() {
        words if words.is_empty() => "empty".into(),
        words => words.join(" "),
    };
    let name = path.rsplit('/').next().unwrap_or_default();
    vec![Fact::new("map", name, state)]
}

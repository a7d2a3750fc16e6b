//! The user namespace: who the users inside are outside. See [user_namespaces(7)].
//!
//! First in [stage 2](../../stage2_user/index.html).
//!
//! [user_namespaces(7)]: https://man7.org/linux/man-pages/man7/user_namespaces.7.html

use crate::{
    Error, Result,
    process::Child,
    step::{change, is_told, write_file},
};
use nix::{
    errno::Errno,
    unistd::{Gid, Uid, getegid, geteuid},
};
use std::{fs, path::Path};

/// Which users the container has.
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
pub enum Map {
    /// The caller is root inside, as with `unshare --map-root-user`
    #[default]
    Root,
    /// Nobody is anybody inside, as with `unshare --user`: every id shows as 65534
    None,
}

/// `--map-root-user`: the caller's effective ids become root in the child's user namespace, before
/// the child goes on. With [`Map::None`] nothing is written.
///
/// The order is the kernel's: without privilege over the parent namespace a group map is taken only
/// once setgroups(2) is switched off, since dropping a group can open a file that the group locks.
///
/// # Errors
/// Those of user_namespaces(7), "Defining user and group ID mappings".
pub fn map_root_user(child: &Child, map: Map) -> Result<()> {
    match map {
        Map::Root => write_maps(&format!("/proc/{}", child.pid()), Outer::current(), 0, 0),
        Map::None => Ok(()),
    }
}

/// The caller's effective ids, as they are outside. In a new user namespace nobody can ask for
/// them any more: until the map is written, geteuid(2) says 65534.
#[derive(Clone, Copy)]
pub(crate) struct Outer {
    uid: Uid,
    gid: Gid,
}

impl Outer {
    pub(crate) fn current() -> Self {
        Self { uid: geteuid(), gid: getegid() }
    }

    /// `--map-current-user`, for the calling process after unshare(2): the same ids as outside, and
    /// every capability over the new namespace until it executes a program.
    pub(crate) fn map_current_user(self) -> Result<()> {
        write_maps("/proc/self", self, self.uid.as_raw(), self.gid.as_raw())
    }
}

fn write_maps(process: &str, outer: Outer, uid: u32, gid: u32) -> Result<()> {
    let write = |name: &str, text: &str, does: &str| {
        let path = format!("{process}/{name}");
        let before = is_told().then(|| shown(&path));
        write_file(Path::new(&path), false, text, does).map_err(apparmor_hint).map_err(container_hint)?;
        change(&path, || (before.unwrap_or_default(), shown(&path)));
        Ok(())
    };
    write(
        "uid_map",
        &format!("{uid} {} 1", outer.uid),
        "an id inside, the id of the same user outside, how many",
    )?;
    write("setgroups", "deny", "nobody inside may leave a group: without that no group is mapped")?;
    write("gid_map", &format!("{gid} {} 1", outer.gid), "the same for a group")
}

/// The first line of this process's uid map: an id inside, the id outside, how many. `None` if it cannot be
/// told.
pub(crate) fn first_mapped() -> Option<[u32; 3]> {
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    let mut numbers = map.split_whitespace().map_while(|number| number.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

fn shown(path: &str) -> String {
    match fs::read_to_string(path).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ") {
        empty if empty.is_empty() => "nothing".into(),
        text => text,
    }
}

/// In a container a map may be refused where the namespace was not: user_namespaces(7).
fn container_hint(error: Error) -> Error {
    const READ_ONLY: &str =
        "this container has a read-only /proc, so nobody writes a map: run the stage outside of it";
    const SETFCAP: &str = "since Linux 5.12 only who has CAP_SETFCAP may map the root of outside, and this container \
                           has it not: run the stage outside of it, or as an ordinary user";
    error
        .hint_on(Errno::EROFS, || READ_ONLY.to_string())
        .hint_on(Errno::EPERM, || geteuid().is_root().then(|| SETFCAP.to_string()))
}

/// Where the distribution's AppArmor lets anybody make a user namespace, and then refuses every
/// capability in it, the first sign is an EPERM at an innocent call.
pub(crate) fn apparmor_hint(error: Error) -> Error {
    const SYSCTL: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    error.hint_on(Errno::EPERM, || {
        (!geteuid().is_root() && fs::read_to_string(SYSCTL).is_ok_and(|value| value.trim() == "1")).then(|| {
            "AppArmor takes all capabilities from user namespaces that ordinary users make \
             (kernel.apparmor_restrict_unprivileged_userns is 1): run the stage with sudo, or allow it until the \
             next boot: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0 (and =1 to undo it)"
                .to_string()
        })
    })
}

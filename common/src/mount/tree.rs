//! Attributes of mounts, and copies of mounts that are attached later: mount_setattr(2), open_tree(2),
//! move_mount(2).

use crate::error::failed;
use crate::explain::call;
use crate::{Result, hints, sys};
use nix::NixPath;
use nix::errno::Errno;
use nix::libc::{self, mount_attr};
use nix::unistd::Pid;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

const NO_DEVICES: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Makes the mount at `target` nodev and nosuid, and all that are below.
pub(crate) fn no_devices(target: &Path) -> Result<()> {
    let names = "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV";
    set_attributes(None, target, &attributes(NO_DEVICES, 0), names)
}

/// Makes the mount at `target` read-only, and all that are below.
pub(crate) fn read_only(target: &Path) -> Result<()> {
    let attributes = attributes(libc::MOUNT_ATTR_RDONLY, 0);
    set_attributes(None, target, &attributes, "MOUNT_ATTR_RDONLY")
}

fn attributes(attr_set: u64, propagation: u64) -> mount_attr {
    mount_attr {
        attr_set,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    }
}

/// mount_setattr(2) of the mounts at `path` and below, or of a copy, where the path is empty.
fn set_attributes(
    tree: Option<&OwnedFd>,
    path: &Path,
    attributes: &mount_attr,
    names: &str,
) -> Result<()> {
    let at = tree.map_or("AT_FDCWD".into(), |tree| tree.as_raw_fd().to_string());
    let flags = tree.map_or("AT_RECURSIVE", |_| "AT_EMPTY_PATH|AT_RECURSIVE");
    let propagation = match attributes.propagation {
        0 => "0",
        _ => "MS_PRIVATE",
    };
    let (fd, size) = (attributes.userns_fd, size_of::<mount_attr>());
    let text = format_args!(
        "mount_setattr({at}, {path:?}, {flags}, {{attr_set={names}, attr_clr=0, \
         propagation={propagation}, userns_fd={fd}}}, {size})"
    );
    let set = || path.with_nix_path(|path| sys::mount_setattr(tree, path, attributes))?;
    call(text, set).map_err(hints::mount_setattr)
}

/// A copy of mounts that is not attached anywhere yet.
#[derive(Debug)]
pub struct Tree(OwnedFd);

impl Tree {
    /// open_tree(2) of the mounts at `path` and below.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let text = format_args!(
            "open_tree(AT_FDCWD, {path:?}, OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_RECURSIVE)"
        );
        call(text, || path.with_nix_path(sys::open_tree)?).map(Self)
    }

    /// Shows the files' owners as the user namespace `/proc/PROCESS/ns/user` maps them. No mount passes
    /// between these mounts and the host's.
    ///
    /// # Errors
    /// `EINVAL` for a file system that has no such mounts; `EPERM` without CAP_SYS_ADMIN over it.
    pub(crate) fn map_ids(&self, process: Pid) -> Result<()> {
        let path = format!("/proc/{process}/ns/user");
        let namespace = File::open(&path).map_err(failed(format!("open({path:?})")))?;
        let mut attributes = attributes(libc::MOUNT_ATTR_IDMAP, libc::MS_PRIVATE);
        attributes.userns_fd = namespace.as_raw_fd().cast_unsigned().into();
        let cannot = "a file system below this root has no idmapped mounts, such as proc or overlay: umount \
                      what is mounted there, or use another file system";
        let no_right = "an idmapped mount needs CAP_SYS_ADMIN where the file system was mounted: run \
                        the stage outside of other containers";
        let set = self.set(&attributes, "MOUNT_ATTR_IDMAP");
        set.map_err(|error| {
            let error = error.hint_on(Errno::EINVAL, cannot);
            error.hint_on(Errno::EPERM, no_right)
        })
    }

    /// Makes these mounts nodev and nosuid, and perhaps read-only. No mount passes between them and the host's.
    pub(crate) fn restrict(&self, read_only: bool) -> Result<()> {
        let (mut set, mut names) = (NO_DEVICES, "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV");
        if read_only {
            set |= libc::MOUNT_ATTR_RDONLY;
            names = "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV";
        }
        self.set(&attributes(set, libc::MS_PRIVATE), names)
    }

    fn set(&self, attributes: &mount_attr, names: &str) -> Result<()> {
        set_attributes(Some(&self.0), Path::new(""), attributes, names)
    }

    /// move_mount(2): attaches it at `path`.
    pub(crate) fn attach(&self, path: &Path) -> Result<()> {
        let tree = self.0.as_raw_fd();
        let text =
            format_args!("move_mount({tree}, \"\", AT_FDCWD, {path:?}, MOVE_MOUNT_F_EMPTY_PATH)");
        call(text, || {
            path.with_nix_path(|path| sys::move_mount(&self.0, path))?
        })
    }
}

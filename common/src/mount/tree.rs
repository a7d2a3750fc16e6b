//! Attributes of mounts, and copies of mounts that are attached later: mount_setattr(2), open_tree(2),
//! move_mount(2).

use crate::error::failed;
use crate::explain::call;
use crate::sys::{self, Attributes};
use crate::{Result, hints};
use nix::NixPath;
use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Makes the mount at `target` nodev and nosuid, and all that are below.
pub(crate) fn no_devices(target: &Path) -> Result<()> {
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_attributes(target, attributes, "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV")
}

/// Makes the mount at `target` read-only, and all that are below.
pub(crate) fn read_only(target: &Path) -> Result<()> {
    set_attributes(target, libc::MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY")
}

fn set_attributes(target: &Path, set: u64, names: &str) -> Result<()> {
    let size = size_of::<Attributes>();
    let text = format_args!(
        "mount_setattr(AT_FDCWD, {target:?}, AT_RECURSIVE, \
         {{attr_set={names}, attr_clr=0, propagation=0, userns_fd=0}}, {size})"
    );
    let attributes = Attributes {
        set,
        ..Attributes::default()
    };
    let set = || target.with_nix_path(|path| sys::mount_setattr(None, path, &attributes))?;
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
        let attributes = Attributes {
            set: libc::MOUNT_ATTR_IDMAP,
            clear: 0,
            propagation: libc::MS_PRIVATE,
            userns_fd: namespace.as_raw_fd().cast_unsigned().into(),
        };
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
        let (mut set, mut names) = (
            libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
            "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV",
        );
        if read_only {
            set |= libc::MOUNT_ATTR_RDONLY;
            names = "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV";
        }
        let attributes = Attributes {
            set,
            propagation: libc::MS_PRIVATE,
            ..Attributes::default()
        };
        self.set(&attributes, names)
    }

    fn set(&self, attributes: &Attributes, names: &str) -> Result<()> {
        let (tree, number, size) = (
            self.0.as_raw_fd(),
            attributes.userns_fd,
            size_of::<Attributes>(),
        );
        let text = format_args!(
            "mount_setattr({tree}, \"\", AT_EMPTY_PATH|AT_RECURSIVE, {{attr_set={names}, \
             attr_clr=0, propagation=MS_PRIVATE, userns_fd={number}}}, {size})"
        );
        let set = || sys::mount_setattr(Some(&self.0), c"", attributes);
        call(text, set).map_err(hints::mount_setattr)
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

//! `--overlay`: what the container writes goes to memory, and the root stays as it is. Many containers can
//! share one root. See the kernel's Documentation/filesystems/overlayfs.rst.

use crate::files::{make_directory, open_directory};
use crate::{Error, Result, mount};
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::statfs::TMPFS_MAGIC;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Mounts an overlay with `lower` as its lower layer, and returns the path of the overlay. A tmpfs on top
/// of `lower` has the upper layer, and the place of the overlay.
///
/// # Errors
/// Those of mount(2).
pub(super) fn mount(lower: &Path) -> Result<PathBuf> {
    let root = lower.display();
    let shell = format_args!(
        "mount -t overlay overlay -o lowerdir={root},upperdir=upper,workdir=work,userxattr merged"
    );
    mount::step(shell, "files are written in memory", || {
        let held = open_directory(lower)?;
        mount::mount_tmpfs(lower, Some("mode=755"))?;
        mount::enter(lower, TMPFS_MAGIC)?;
        for name in ["upper", "work", "merged"] {
            make_directory(Path::new(name))?;
        }
        // In a user namespace an overlay keeps its marks in xattrs that need no capability.
        let options = format!(
            "lowerdir=/proc/self/fd/{},upperdir=upper,workdir=work,userxattr",
            held.as_raw_fd()
        );
        let kind = Some("overlay");
        mount::mount("overlay", "merged", kind, MsFlags::empty(), Some(&options)).map_err(hint)
    })?;
    Ok(lower.join("merged"))
}

fn hint(error: Error) -> Error {
    let old = "an overlay in a user namespace needs Linux 5.11 or newer, and of a root with \
               --map auto as root Linux 5.19 or newer; not every file system can be a lower layer";
    let error = error.hint_on(Errno::EPERM, old);
    let error = error.hint_on(Errno::EINVAL, old);
    error.hint_on(
        Errno::ENODEV,
        "this kernel has no overlay: modprobe overlay",
    )
}

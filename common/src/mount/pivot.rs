//! pivot_root(2), and the end of the old root.

use super::{call_chdir, set_propagation, step};
use crate::explain::{call, word};
use crate::{Result, files, hints};
use nix::mount::{MntFlags, MsFlags};
use nix::unistd::fchdir;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The old root after pivot_root(2). It is held open, because the names in the new root, `.old_root`
/// too, belong to the owner of that root.
pub struct OldRoot {
    directory: OwnedFd,
    name: PathBuf,
}

/// `pivot_root NEW_ROOT PUT_OLD`: NEW_ROOT becomes `/`, and the old `/` is then at PUT_OLD, below it.
/// Unlike after chroot(2), the old root can then be unmounted, and no way leads back to it.
///
/// With PUT_OLD the same as NEW_ROOT, the old root is mounted over the new one: pivot_root(2), NOTES.
///
/// # Errors
/// `EINVAL` if a mount that takes part is shared; `EBUSY` if the new root is not a mount point.
pub fn pivot_root(new_root: &Path, put_old: &Path) -> Result<OldRoot> {
    let shell = format_args!("pivot_root {} {}", word(new_root), word(put_old));
    step(shell, "the new root becomes /", || {
        let directory = files::open_directory(Path::new("/"))?;
        let text = format_args!("pivot_root({new_root:?}, {put_old:?})");
        call(text, || nix::unistd::pivot_root(new_root, put_old))
            .map_err(|error| hints::pivot_root(error, new_root))?;
        let name = Path::new("/").join(put_old.strip_prefix(new_root).unwrap_or(put_old));
        Ok(OldRoot { directory, name })
    })
}

impl OldRoot {
    /// `mount --make-rprivate /.old_root`, so that nothing is unmounted on the host, and
    /// `umount -l /.old_root`: detaches it at once, with all mounts below.
    ///
    /// # Errors
    /// `EINVAL` if it is not a mount point.
    pub fn detach(self) -> Result<()> {
        let (name, number) = (word(&self.name), self.directory.as_raw_fd());
        let shell = format_args!("mount --make-rprivate {name}");
        step(shell, "private already; the slide has it", || {
            call(format_args!("fchdir({number})"), || fchdir(&self.directory))?;
            set_propagation(".", MsFlags::MS_PRIVATE)
        })?;
        let shell = format_args!("umount -l {name}");
        step(shell, "no way leads to the host's files", || {
            let text = "umount2(\".\", MNT_DETACH)";
            call(text, || nix::mount::umount2(".", MntFlags::MNT_DETACH))
        })?;
        call_chdir("/")
    }
}

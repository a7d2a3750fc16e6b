//! The container's `/dev`: harmless devices of the host, and a devpts of its own. See [pts(4)].
//!
//! [pts(4)]: https://man7.org/linux/man-pages/man4/pts.4.html

use crate::files::{self, kind, link, make_directory};
use crate::{Result, mount};
use nix::mount::MsFlags;
use std::path::Path;

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("fd/0", "stdin"),
    ("fd/1", "stdout"),
    ("fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Fills the directory `dev`. A bind mount of a device is read-only: that does not forbid writing to
/// the device, but changing its owner and mode, since the host has the same inode.
pub(crate) fn fill(dev: &Path) -> Result<()> {
    for (from, to) in DEVICES.map(|name| (Path::new("/dev").join(name), dev.join(name))) {
        if kind(&from)?.is_some() {
            files::create(&to, "")?;
            mount::rbind_read_only(&from, &to)?;
        }
    }
    let link = |(target, name)| link(Path::new(target), &dev.join(name));
    LINKS.into_iter().try_for_each(link)?;
    let (pts, shm) = (dev.join("pts"), dev.join("shm"));
    make_directory(&pts)?;
    make_directory(&shm)?;
    mount::mount_tmpfs(&shm, Some("mode=1777"))?; // shm_open(3)
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = Some("newinstance,ptmxmode=0666,mode=0620");
    mount::mount("devpts", &pts, Some("devpts"), flags, options)
}

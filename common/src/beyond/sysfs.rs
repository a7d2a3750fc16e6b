//! /sys, read-only: devices, and what the kernel knows of them. See [sysfs(5)].
//!
//! [sysfs(5)]: https://man7.org/linux/man-pages/man5/sysfs.5.html

use crate::files::kind;
use crate::{Result, mount, proc::mount_points};
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::statfs::SYSFS_MAGIC;
use std::path::Path;

/// Parts of /sys that the OCI runtimes hide: the firmware's tables, and the processor's energy, from which
/// other processes' secrets can be measured (CVE-2020-8694).
pub const MASKED: [&str; 2] = ["firmware", "devices/virtual/powercap"];

/// `mount -t sysfs -o ro sysfs /sys`. A root without that directory gets none. In a container that hides
/// parts of /sys, the kernel allows no new one.
pub(super) fn mount() -> Result<()> {
    let target = Path::new("/sys");
    if !kind(target)?.is_some_and(|kind| kind.is_dir()) {
        return Ok(());
    }
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount::mount("sysfs", target, Some("sysfs"), flags, None) {
        Err(error) if error.errno() == Some(Errno::EPERM) && is_hidden() => return Ok(()),
        mounted => mounted?,
    }
    mount::enter(target, SYSFS_MAGIC)?;
    for name in MASKED.map(Path::new) {
        if kind(name)?.is_some() {
            mount::mount_tmpfs(name, None)?;
            mount::read_only(name)?;
        }
    }
    mount::call_chdir("/")
}

/// Whether an outer container hides parts of /sys, or all of it. Then the kernel allows no new one.
fn is_hidden() -> bool {
    let hidden = |_: &str, point: &str| point.ends_with("/sys/firmware");
    let is_sysfs = |line: &str, _: &str| line.contains(" - sysfs ");
    !mount_points(hidden).is_empty() || mount_points(is_sysfs).is_empty()
}

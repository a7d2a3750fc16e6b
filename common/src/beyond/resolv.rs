//! `/etc/resolv.conf` inside, for `--nat`.

use crate::error::failed;
use crate::explain::{call, word};
use crate::files::{self, Open};
use crate::rootfs::Root;
use crate::{Result, mount, report};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, umount2};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Binds a file in memory over the root's, before pivot_root(2): the root's own file stays as it is. No link
/// leads out of the root: openat2(2), RESOLVE_IN_ROOT.
pub(super) fn bind(text: &str, root: &Root, new_root: &Path) -> Result<()> {
    let file = new_root.join("etc/resolv.conf");
    if let Root::Borrowed = root {
        return files::write(&file, Open::New, text); // a root in memory
    }
    let shell = format_args!("mount --bind tmp/resolv.conf {}", word(&file));
    mount::step(shell, "name servers", || {
        let directory = files::open_directory(new_root)?;
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let found = openat2(&directory, "etc/resolv.conf", how);
        if matches!(found, Err(Errno::ENOENT)) {
            let missing = format!("names do not resolve inside: create an empty file {file:?}");
            report::warning(&missing);
            return Ok(());
        }
        let found = found.map_err(failed(format!("openat2({file:?}, RESOLVE_IN_ROOT)")))?;
        // The stage mounts a tmpfs there later, too.
        let memory = new_root.join("tmp");
        mount::mount_tmpfs(&memory, Some("mode=755"))?;
        files::write(&memory.join("resolv.conf"), Open::New, text)?;
        let target = format!("/proc/self/fd/{}", found.as_raw_fd());
        mount::rbind(&memory.join("resolv.conf"), Path::new(&target))?;
        let text = format_args!("umount2({memory:?}, MNT_DETACH)");
        call(text, || umount2(&memory, MntFlags::MNT_DETACH))
    })
}

//! The files of /etc that a container runtime writes: its names and addresses. They are mounted over the
//! root's own files, which stay as they are.

use super::is_in_memory;
use crate::cidr::Cidr;
use crate::error::failed;
use crate::explain::call;
use crate::files::{self, kind};
use crate::mount::{Tree, mount_tmpfs};
use crate::{Result, report};
use nix::mount::{MntFlags, umount2};
use nix::unistd::gethostname;
use std::path::Path;

/// /etc/resolv.conf of a container that reaches no name server. With an empty file programs ask 127.0.0.1.
const NO_SERVERS: &str = "# without --nat no name server can be reached\n";

/// Mounts /etc/hosts, /etc/hostname and /etc/resolv.conf. Where the root has no such file, one is created
/// in memory, and left out on disk.
pub(super) fn mount(address: Cidr, resolv_conf: Option<&str>) -> Result<()> {
    if !kind(Path::new("/etc"))?.is_some_and(|kind| kind.is_dir()) {
        return Ok(());
    }
    let name = gethostname().map_err(failed("gethostname()"))?;
    let name = name.display();
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost\n{} {name}\n",
        address.address
    );
    let texts = [
        ("hosts", &*hosts),
        ("hostname", &*format!("{name}\n")),
        ("resolv.conf", resolv_conf.unwrap_or(NO_SERVERS)),
    ];
    // A file system for these files, which is at /tmp for a moment.
    let temporary = Path::new("/tmp");
    mount_tmpfs(temporary, Some("mode=755"))?;
    for (name, text) in texts {
        let (from, to) = (temporary.join(name), Path::new("/etc").join(name));
        if kind(&to)?.is_none() {
            if !is_in_memory(Path::new("/etc"))? {
                if name == "resolv.conf" && resolv_conf.is_some() {
                    let what = "names do not resolve inside: create an empty file";
                    report::warning(&format!("{what} etc/resolv.conf in the root"));
                }
                continue;
            }
            files::create(&to, "")?;
        }
        files::create(&from, text)?;
        // Unlike mount(2), it does not follow a link, which may lead to nothing.
        Tree::open(&from)?.attach(&to)?;
    }
    let text = "umount2(\"/tmp\", MNT_DETACH|UMOUNT_NOFOLLOW)";
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    call(text, || umount2(temporary, flags))
}

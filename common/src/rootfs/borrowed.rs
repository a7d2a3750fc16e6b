//! A root in memory that borrows the host's programs, for readers who have no root file system yet.

use super::COVERED;
use crate::error::failed;
use crate::files::{self, kind, link, make_directory};
use crate::{Result, dev, mount};
use nix::unistd::gethostname;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the borrowed root shows of the host, read-only: programs and libraries, none of its data. The
/// host's `/lib*` come too. On NixOS and Guix all programs are in a store.
const BORROWED: [&str; 5] = ["usr", "bin", "sbin", "nix/store", "gnu/store"];

/// What programs read in /etc and what holds no secret: the loader's list, Debian's links to one of several
/// editors, certificates, settings. Names of the user database, keys and passwords are not among them.
#[rustfmt::skip]
const BORROWED_ETC: [&str; 13] = [
    "alternatives", "crypto-policies", "fonts", "ld.so.cache", "localtime", "man_db.conf", "manpath.config",
    "pki/ca-trust", "pki/tls/certs", "services", "ssl/certs", "ssl/openssl.cnf", "terminfo",
];

/// Files of the borrowed root's /etc.
const PASSWD: (&str, &str) = (
    "passwd",
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
);
const GROUP: (&str, &str) = ("group", "root:x:0:\nnogroup:x:65534:\n");

/// A root in memory.
pub(super) fn borrow_host_programs() -> Result<PathBuf> {
    let root = PathBuf::from(COVERED);
    // In a directory where every user can write, the kernel lets no user open another's device with
    // O_CREAT, as a shell's `>/dev/null` does: `may_create_in_sticky` of fs/namei.c.
    let shell = "mount -t tmpfs tmpfs /tmp; mount --rbind -o ro /usr /tmp/usr; ...";
    mount::step(shell, "the host's programs", || {
        mount::mount_tmpfs(&root, Some("mode=755"))?;
        for name in [
            "proc", "sys", "tmp", "etc", "dev", "root", "run", "var", "var/tmp",
        ] {
            make_directory(&root.join(name))?;
        }
        for name in BORROWED {
            borrow(&root, name)?;
        }
        for name in BORROWED_ETC {
            borrow(&root, format!("etc/{name}"))?;
        }
        for (directory, prefix) in [("/", "lib"), ("/etc", "java")] {
            let entries =
                fs::read_dir(directory).map_err(failed(format!("opendir({directory:?})")))?;
            for entry in entries {
                let entry = entry.map_err(failed(format!("readdir({directory:?})")))?;
                let path = entry.path();
                if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                    borrow(&root, path.strip_prefix("/").unwrap_or(&path))?;
                }
            }
        }
        let hostname = gethostname().map_err(failed("gethostname()"))?;
        let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {}\n", hostname.display());
        for (name, text) in [("hosts", &*hosts), PASSWD, GROUP] {
            files::create(&root.join("etc").join(name), text)?;
        }
        dev::fill(&root.join("dev"))
    })?;
    Ok(root)
}

/// A directory, link or file of the host in the new root.
fn borrow(root: &Path, name: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (Path::new("/").join(&name), root.join(&name));
    let Some(kind) = kind(&from)? else {
        return Ok(());
    };
    files::make_parents(&to)?;
    if kind.is_symlink() {
        let target = fs::read_link(&from).map_err(failed(format!("readlink({from:?})")))?;
        return link(&target, &to);
    }
    match kind.is_dir() {
        true => make_directory(&to)?,
        false => files::create(&to, "")?,
    }
    mount::rbind_read_only(&from, &to)
}

//! Which directory becomes the container's `/`: a root file system of its own, or one that is put
//! together from the host's programs. See [pivot_root(2)].
//!
//! From [stage 4](../../stage4_mount/index.html).
//!
//! [pivot_root(2)]: https://man7.org/linux/man-pages/man2/pivot_root.2.html

use crate::{
    Error, Result, cli,
    idmap::first_mapped,
    mount,
    step::{step, write_file},
};
use nix::{
    errno::Errno,
    sys::stat::Mode,
    unistd::{geteuid, mkdir},
};
use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

/// The talk's directory.
const DEFAULT: &str = "/tmp/rootfs";

/// Where the old root goes, below the new one, for the moment between pivot_root(2) and umount2(2).
pub(crate) const OLD_ROOT: &str = ".old_root";

/// What the borrowed root shows of the host, read-only: programs and libraries, nothing of its data.
const LENT: [&str; 3] = ["usr", "bin", "sbin"];

/// And of its /etc what programs do not run without: Debian's links to the one of several editors
/// or awks, the loader's list of libraries.
const LENT_ETC: [&str; 2] = ["alternatives", "ld.so.cache"];

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// A root file system that was found on the host.
#[derive(Debug)]
pub enum Root {
    /// A directory with a system in it, such as `scripts/rootfs.sh` makes.
    Directory(PathBuf),
    /// None: the host lends its programs.
    Borrowed,
}

/// Finds the root: `--rootfs`, or else `/tmp/rootfs` where the caller or root has made it. Anybody
/// can make a directory in /tmp, and whose programs are run as root inside should be known. Happens
/// on the host, since a user namespace does not show who else owns a file.
///
/// # Errors
/// If `given` is not a directory, or if others could change it while it is set up.
pub fn find(given: Option<&Path>) -> Result<Root> {
    let Some(directory) = given else {
        return Ok(match fs::symlink_metadata(DEFAULT) {
            Ok(found) if found.is_dir() && (found.uid() == 0 || found.uid() == geteuid().as_raw()) => {
                trusted(Path::new(DEFAULT))?;
                Root::Directory(DEFAULT.into())
            }
            Ok(_) => {
                borrow(&format!("{DEFAULT} is not a directory of yours or of root's, so it is left alone"))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => borrow(&format!("there is no {DEFAULT}")),
            Err(error) => return Err(Error::new(format!("lstat({DEFAULT:?})"), errno(&error))),
        });
    };
    let hint = |error: Error| {
        error.hint(format!("scripts/rootfs.sh {} makes a root file system there; without --rootfs the host lends its programs", directory.display()))
    };
    // pivot_root(2) would take "." for what lies below the mount, not for the mount.
    let path = fs::canonicalize(directory)
        .map_err(|error| hint(Error::new(format!("realpath({directory:?})"), errno(&error))))?;
    if path.parent().is_none() {
        return Err(Error::input("--rootfs /: that is the host's own root")
            .hint("without --rootfs the host lends its programs, and nothing else"));
    }
    match kind(&path, fs::metadata)? {
        Some(kind) if kind.is_dir() => trusted(&path)?,
        _ => return Err(hint(Error::new(format!("open({path:?}, O_DIRECTORY)"), Errno::ENOTDIR))),
    }
    Ok(Root::Directory(path))
}

/// Whoever can rename a directory on the way to the root, or in it, can put a link in its place just when
/// the stage mounts or writes there, and so lead it anywhere on the host (CVE-2021-30465).
fn trusted(path: &Path) -> Result<()> {
    let caller = geteuid().as_raw();
    let sudo = env::var("SUDO_UID").ok().filter(|_| caller == 0).and_then(|uid| uid.parse().ok());
    // In a user namespace all who have no id there are user 65534, and cannot be told apart: on the way there
    // they are believed.
    let nobody = first_mapped().is_some_and(|[.., many]| many != u32::MAX).then_some(65534);
    for directory in path.ancestors() {
        let found = fs::metadata(directory)
            .map_err(|error| Error::new(format!("stat({directory:?})"), errno(&error)))?;
        let (owner, mode, on_the_way) = (found.uid(), found.mode(), directory != path);
        // In a directory with the sticky bit only an entry's owner renames it; and a user's own group, of the
        // same number, is he.
        let sticky = on_the_way && mode & 0o1000 != 0;
        let group = mode & 0o020 != 0 && ![0, owner].contains(&found.gid());
        let known = [Some(0), Some(caller), sudo, nobody.filter(|_| on_the_way)].contains(&Some(owner));
        let (who, hint) = if !known {
            (
                format!("the user {owner}"),
                "a directory that is yours or root's from / on: below /var/lib, say".into(),
            )
        } else if !sticky && (group || mode & 0o002 != 0) {
            ("everybody, or a group,".into(), format!("chmod go-w {directory:?}, or another directory"))
        } else {
            continue;
        };
        let what = format!("{who} can change {directory:?} while the stage sets up the root");
        return Err(Error::input(what).hint(format!("that would lead it to other files: {hint}")));
    }
    Ok(())
}

fn borrow(why: &str) -> Root {
    cli::say(&format!(
        "{why}; the host lends its programs, read-only (scripts/rootfs.sh makes a root of its own)"
    ));
    Root::Borrowed
}

/// `mount --rbind rootfs rootfs`: makes the new root a mount point, since pivot_root(2) takes
/// nothing else; returns where it is.
///
/// # Errors
/// Those of the mounts; a root that the container's root user cannot enter.
pub fn bind(root: &Root) -> Result<PathBuf> {
    let path = match root {
        Root::Directory(path) => {
            mount::rbind(path, path)?;
            path.clone()
        }
        Root::Borrowed => lend()?,
    };
    // Whoever has made the root could lead what is mounted there elsewhere, over the old root even.
    for name in ["proc", "tmp"].map(|name| path.join(name)) {
        let found = kind(&name, fs::symlink_metadata).map_err(|error| {
            error.hint_on(Errno::EACCES, || {
                format!(
                    "the container's root is an ordinary user outside, who may not enter {}",
                    path.display()
                )
            })
        })?;
        if found.is_some_and(|kind| kind.is_symlink()) {
            return Err(Error::new(format!("open({name:?}, O_DIRECTORY|O_NOFOLLOW)"), Errno::ENOTDIR)
                .hint("a link, where the stage mounts something: a directory has to be there"));
        }
    }
    Ok(path)
}

/// `mkdir rootfs/.old_root`: where the old root goes for the moment between pivot_root(2) and umount2(2).
///
/// It stays when the container has gone, empty, as on the slide: another container that was started from
/// the same root may be about to use it.
///
/// # Errors
/// Those of mkdir(2); something else of that name.
pub fn old_root(root: &Path) -> Result<PathBuf> {
    let old = root.join(OLD_ROOT);
    match make_directory(&old) {
        Err(error) if error.errno() == Some(Errno::EEXIST) => match kind(&old, fs::symlink_metadata)? {
            Some(kind) if kind.is_dir() => Ok(old),
            _ => Err(error.hint(format!(
                "{old:?} is in the way: the old root is put there for a moment, in an empty directory"
            ))),
        },
        Err(error) => Err(error.hint_on(Errno::EACCES, || {
            format!(
                "the container's root is an ordinary user outside, who may not write there: sudo mkdir {}",
                old.display()
            )
        })),
        Ok(()) => Ok(old),
    }
}

/// A root in memory, on top of `/tmp`: a directory that every host has and no host loses, since
/// only this mount namespace sees it.
fn lend() -> Result<PathBuf> {
    let root = PathBuf::from("/tmp");
    let host = |name: &str| Path::new("/").join(name);
    let mut lent = LENT.map(String::from).to_vec();
    let failed = |error| Error::new("opendir(\"/\")", errno(&error));
    for entry in fs::read_dir("/").map_err(failed)? {
        let entry = entry.map_err(|error| Error::new("readdir(\"/\")", errno(&error)))?;
        lent.extend(entry.file_name().into_string().ok().filter(|name| name.starts_with("lib")));
    }

    mount::tmpfs_of_root(&root)?;
    for name in ["proc", "tmp", "etc", "dev"] {
        make_directory(&root.join(name))?;
    }
    for name in &lent {
        match kind(&host(name), fs::symlink_metadata)? {
            Some(kind) if kind.is_symlink() => {
                let target = fs::read_link(host(name))
                    .map_err(|error| Error::new(format!("readlink({:?})", host(name)), errno(&error)))?;
                link(target.as_os_str(), &root.join(name))?;
            }
            Some(kind) if kind.is_dir() => {
                make_directory(&root.join(name))?;
                mount::rbind(&host(name), &root.join(name))?;
                mount::read_only(&root.join(name))?;
            }
            _ => {}
        }
    }
    for name in &LENT_ETC.map(|name| format!("etc/{name}")) {
        match kind(&host(name), fs::metadata)? {
            Some(kind) if kind.is_dir() => make_directory(&root.join(name))?,
            Some(_) => write(&root.join(name), "")?,
            None => continue,
        }
        mount::rbind(&host(name), &root.join(name))?;
        mount::read_only(&root.join(name))?;
    }
    devices(&root.join("dev"))?;
    write(&root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
    write(&root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    write(&root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    Ok(root)
}

/// Puts the host's harmless devices into a directory. The mounts are read-only, which does not keep
/// anybody from writing to the device, but from changing its owner and mode: the host has the same inode.
pub(crate) fn devices(directory: &Path) -> Result<()> {
    for (from, to) in DEVICES.map(|name| (Path::new("/dev").join(name), directory.join(name))) {
        if kind(&from, fs::metadata)?.is_some() {
            write(&to, "")?;
            mount::rbind(&from, &to)?;
            mount::read_only(&to)?;
        }
    }
    for (target, name) in [("/proc/self/fd", "fd"), ("fd/0", "stdin"), ("fd/1", "stdout"), ("fd/2", "stderr")]
    {
        link(OsStr::new(target), &directory.join(name))?;
    }
    Ok(())
}

/// What there is at `path`, if anything: with `fs::metadata` a link is followed, with
/// `fs::symlink_metadata` it is not.
///
/// # Errors
/// Those of stat(2), but `ENOENT`.
pub(crate) fn kind<'a>(
    path: &'a Path,
    metadata: fn(&'a Path) -> io::Result<fs::Metadata>,
) -> Result<Option<fs::FileType>> {
    match metadata(path) {
        Ok(found) => Ok(Some(found.file_type())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(format!("stat({path:?})"), errno(&error))),
    }
}

fn make_directory(path: &Path) -> Result<()> {
    step(
        format_args!("mkdir({path:?}, 0755)"),
        format_args!("mkdir {}", path.display()),
        "a place to mount",
        || mkdir(path, Mode::from_bits_truncate(0o755)),
    )
    .map_err(unmapped_hint)
}

fn link(target: &OsStr, path: &Path) -> Result<()> {
    step(
        format_args!("symlink({target:?}, {path:?})"),
        format_args!("ln -s {} {}", target.display(), path.display()),
        "as on the host",
        || symlink(target, path).map_err(|error| errno(&error)),
    )
}

/// `echo TEXT > PATH`: makes a file.
///
/// # Errors
/// Those of open(2) and write(2).
pub fn write(path: &Path, text: &str) -> Result<()> {
    write_file(path, true, text, "a file of the container's").map_err(unmapped_hint)
}

/// A new file needs an owner, and without a map there is none: user_namespaces(7), "Unmapped user
/// and group IDs".
fn unmapped_hint(error: Error) -> Error {
    error.hint_on(Errno::EOVERFLOW, || {
        "without a map no user inside exists outside, so nobody can own a new file: leave out --map none"
            .to_string()
    })
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

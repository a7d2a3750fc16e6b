//! Which directory becomes the container's `/`: a root file system, or a directory in memory that borrows
//! the host's programs. See [pivot_root(2)].
//!
//! From [stage 4](../../stage4_mount/index.html).
//!
//! [pivot_root(2)]: https://man7.org/linux/man-pages/man2/pivot_root.2.html

mod borrowed;

use crate::error::failed;
use crate::explain::{heading, step, word};
use crate::files::{self, kind, make_directory};
use crate::idmap;
use crate::mount::Tree;
use crate::proc::first_mapped;
use crate::{Error, Result, mount, report};
use nix::errno::Errno;
use nix::unistd::geteuid;
use std::io::ErrorKind::NotFound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The talk's directory.
const DEFAULT: &str = "/tmp/rootfs";

/// Where a root goes that is not mounted over its own directory. Every host has this directory, and does not
/// lose it, because only the container's mount namespace sees the mount.
const COVERED: &str = "/tmp";

/// The root's option.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// New root [default: /tmp/rootfs or host programs]
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
}

/// A root file system that was found on the host.
#[derive(Debug)]
pub enum Root {
    /// A directory with a system in it, such as `scripts/rootfs.sh` creates.
    Directory {
        /// Its path on the host.
        path: PathBuf,
        /// Its mounts with the owners as the container has them, with `--map auto` as root.
        tree: Option<Tree>,
    },
    /// None: the host's programs are borrowed.
    Borrowed,
}

/// Finds the root: `--rootfs`, or else `/tmp/rootfs` if it belongs to the caller or to root. Any user can
/// create a directory in /tmp, and its programs would run as root inside. This happens on the host, because
/// a user namespace does not show the other owners of files.
///
/// # Errors
/// If the given path is not a directory, or if other users could change it meanwhile; with
/// `--map none`, which allows no new file. With `--map auto`, as root and without an overlay, if other
/// users can reach it.
pub fn find(options: &Options, idmap: &idmap::Options, is_overlay: bool) -> Result<Root> {
    idmap.must_map_root()?;
    let path = match &options.rootfs {
        Some(directory) => Some(find_given(directory)?),
        None => find_default()?,
    };
    let Some(path) = path else {
        if is_overlay {
            let error = Error::input("--overlay: there is no root file system");
            return Err(error
                .hint("scripts/rootfs.sh creates one; the host's programs are always read-only"));
        }
        return Ok(Root::Borrowed);
    };
    must_be_trusted(&path)?;
    if idmap.is_range() && geteuid().is_root() && !is_overlay {
        must_be_private(&path)?;
    }
    let Some(holder) = idmap.holder()? else {
        return Ok(Root::Directory { path, tree: None });
    };
    let (process, name) = (holder.pid(), word(&path));
    let shell =
        format_args!("mount --rbind -o X-mount.idmap=/proc/{process}/ns/user {name} {COVERED}");
    let tree = step(shell, "its files belong to root inside", || {
        let tree = Tree::open(&path)?;
        tree.map_ids(process).map(|()| tree)
    })?;
    let tree = Some(tree);
    Ok(Root::Directory { path, tree })
}

fn find_given(directory: &Path) -> Result<PathBuf> {
    let hint = |error: Error| {
        let directory = word(directory);
        error.hint(format!(
            "scripts/rootfs.sh {directory} creates a root file system there; without --rootfs the \
             stage uses the host's programs"
        ))
    };
    // pivot_root(2) would take "." for the directory below the mount, not for the mount.
    let path = fs::canonicalize(directory).map_err(failed(format!("realpath({directory:?})")));
    let path = path.map_err(hint)?;
    if path.parent().is_none() {
        return Err(Error::input("--rootfs /: that is the host's own root")
            .hint("without --rootfs the stage uses the host's programs, read-only"));
    }
    let found = fs::metadata(&path).map_err(failed(format!("stat({path:?})")))?;
    if !found.is_dir() {
        let text = format!("open({path:?}, O_DIRECTORY)");
        return Err(hint(Error::new(text, Errno::ENOTDIR)));
    }
    Ok(path)
}

fn find_default() -> Result<Option<PathBuf>> {
    let why = match fs::symlink_metadata(DEFAULT) {
        Ok(found) if found.is_dir() && [0, geteuid().as_raw()].contains(&found.uid()) => {
            return Ok(Some(DEFAULT.into()));
        }
        Ok(found) if !found.is_dir() => format!("{DEFAULT} is not a directory"),
        Ok(_) => format!("{DEFAULT} belongs to another user"),
        Err(error) if error.kind() == NotFound => format!("no root file system in {DEFAULT}"),
        Err(error) => return Err(failed(format!("lstat({DEFAULT:?})"))(error)),
    };
    report::note(|| {
        let advice = "scripts/rootfs.sh creates a root file system";
        Some(format!(
            "{why}: using the host's programs, read-only ({advice})"
        ))
    });
    Ok(None)
}

/// Root inside can create programs that belong to root and are setuid. On the host they would make every
/// user root who can reach them.
fn must_be_private(path: &Path) -> Result<()> {
    for directory in path.ancestors().skip(1) {
        let found = fs::metadata(directory).map_err(failed(format!("stat({directory:?})")))?;
        if found.uid() == 0 && found.mode() & 0o011 == 0 {
            return Ok(());
        }
    }
    let what = format!("--map auto: every user of the host can reach {path:?}");
    let hint = "root inside could leave setuid programs there: use --overlay (stage 5), or move the \
                root below a directory with mode 0700, such as /root";
    Err(Error::input(what).hint(hint))
}

/// Another user who can rename a directory above the root, or in it, can put a link in its place just when
/// the stage mounts or writes there, and so lead it anywhere on the host (CVE-2021-30465).
fn must_be_trusted(path: &Path) -> Result<()> {
    let caller = geteuid().as_raw();
    let sudo = env::var("SUDO_UID").ok().filter(|_| caller == 0);
    let sudo = sudo.and_then(|uid| uid.parse().ok());
    // In a user namespace every unmapped owner appears as 65534. Accept that owner for parent
    // directories, not for the root itself.
    let is_partial = first_mapped().is_some_and(|[.., count]| count != u32::MAX);
    let unmapped = is_partial.then_some(65534);
    for directory in path.ancestors() {
        let found = fs::metadata(directory).map_err(failed(format!("stat({directory:?})")))?;
        let (owner, mode, is_parent) = (found.uid(), found.mode(), directory != path);
        // In a directory with the sticky bit only an entry's owner can rename it. A group with the
        // owner's number is the owner's private one.
        let sticky = is_parent && mode & 0o1000 != 0;
        let group = mode & 0o020 != 0 && ![0, owner].contains(&found.gid());
        let trusted = [Some(0), Some(caller), sudo, unmapped.filter(|_| is_parent)];
        let (who, hint) = if !trusted.contains(&Some(owner)) {
            let hint = "use a directory that belongs to you or root, and so do all above it: in /var/lib, say";
            (format!("user {owner}"), hint.into())
        } else if !sticky && (group || mode & 0o002 != 0) {
            let hint = format!("chmod go-w {}, or another directory", word(directory));
            ("a group, or every user,".into(), hint)
        } else {
            continue;
        };
        let what = format!("{who} can change {directory:?} while the stage sets up the root");
        return Err(Error::input(what).hint(hint));
    }
    Ok(())
}

/// `mount --rbind rootfs rootfs`: turns the new root into a mount point, which pivot_root(2) needs.
/// Returns its path.
///
/// # Errors
/// Those of the mounts; a root that the container's root user cannot enter.
pub fn bind(root: &Root) -> Result<PathBuf> {
    heading("root file system");
    let path = match root {
        Root::Directory { path, tree } => {
            // Root inside has another id than root outside, and may not be able to reach the path.
            let target = if tree.is_some() {
                Path::new(COVERED)
            } else {
                path
            };
            let shell = format_args!("mount --rbind {} {}", word(path), word(target));
            let does = "a mount point, for pivot_root";
            mount::step(shell, does, || match tree {
                Some(tree) => tree.attach(target),
                None => mount::rbind(path, target),
            })?;
            target.into()
        }
        Root::Borrowed => borrowed::borrow_host_programs()?,
    };
    // A link here would lead the mounts of the stage elsewhere, even over the old root.
    for name in ["proc", "tmp"].map(|name| path.join(name)) {
        let found = kind(&name).map_err(|error| {
            let user = "outside, the container's root is an ordinary user, who cannot enter";
            error.hint_on(Errno::EACCES, format!("{user} {}", path.display()))
        })?;
        if found.is_some_and(|kind| kind.is_symlink()) {
            let text = format!("open({name:?}, O_DIRECTORY|O_NOFOLLOW)");
            return Err(Error::new(text, Errno::ENOTDIR)
                .hint("it is a link, and the stage mounts there: replace it by a directory"));
        }
    }
    Ok(path)
}

/// `mkdir rootfs/.old_root`: where the old root is between pivot_root(2) and umount2(2).
///
/// The empty directory stays when the container has gone, as on the slide: another container of the
/// same root may be about to use it. In a read-only root it cannot be created; then the old root
/// goes over the new one: pivot_root(2), NOTES.
///
/// # Errors
/// Those of mkdir(2); something else of that name.
pub fn make_old_root(root: &Path) -> Result<PathBuf> {
    let old = root.join(".old_root");
    let shell = format_args!("mkdir -p {}", word(&old));
    let made = step(shell, "a place for the old root", || make_directory(&old));
    match made {
        Err(error) if error.errno() == Some(Errno::EROFS) => Ok(root.into()),
        Err(error) if error.errno() == Some(Errno::EEXIST) => match kind(&old)? {
            Some(kind) if kind.is_dir() => Ok(old),
            _ => Err(error.hint(format!("{old:?} must be an empty directory: remove it"))),
        },
        Err(error) => {
            let user = "outside, the container's root is an ordinary user, who cannot write there";
            Err(error.hint_on(Errno::EACCES, format!("{user}: sudo mkdir {}", word(&old))))
        }
        Ok(()) => Ok(old),
    }
}

/// `echo TEXT > PATH`: a new file.
pub fn write(path: &str, text: &str) -> Result<()> {
    let shell = format_args!("echo {} > {}", word(text.trim_end()), word(path));
    step(shell, "a file that only the container sees", || {
        files::create(Path::new(path), text)
    })
}

//! `--bind`: a file or directory of the host in the container, as with `docker run -v`.

use super::is_in_memory;
use crate::error::failed;
use crate::explain::word;
use crate::files::{self, kind, make_directory};
use crate::mount::Tree;
use crate::{Error, Result, mount};
use nix::errno::Errno;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// `HOST[:INSIDE][:ro]`.
#[derive(Clone, Debug)]
pub(super) struct Bind {
    host: PathBuf,
    inside: Option<PathBuf>,
    read_only: bool,
}

/// A copy of the host's mounts there, before it is attached.
pub(super) struct Opened {
    tree: Tree,
    host: PathBuf,
    inside: PathBuf,
    is_directory: bool,
    read_only: bool,
}

const NO_PLACE: &str = "the path inside begins with /, is not / itself, and has no ..";

fn is_place(path: &Path) -> bool {
    let up = |part| part == Component::ParentDir;
    path.has_root() && path.parent().is_some() && !path.components().any(up)
}

pub(super) fn parse(text: &str) -> std::result::Result<Bind, String> {
    let mut words = text.split(':').collect::<Vec<_>>();
    let read_only = words.last() == Some(&"ro");
    words.truncate(words.len() - usize::from(read_only));
    let (host, inside) = match words[..] {
        [host] if !host.is_empty() => (host, None),
        [host, inside] if !host.is_empty() => (host, Some(inside)),
        _ => return Err("it has the form HOST[:INSIDE][:ro]".into()),
    };
    // A slash at the end would let the kernel follow a link there.
    let inside = inside.map(|inside| PathBuf::from_iter(Path::new(inside).components()));
    if !inside.as_ref().is_none_or(|inside| is_place(inside)) {
        return Err(NO_PLACE.into());
    }
    let host = host.into();
    Ok(Bind {
        host,
        inside,
        read_only,
    })
}

impl Bind {
    /// Copies the mounts, while the host's files are at their paths.
    ///
    /// # Errors
    /// If there is no such file or directory.
    pub(super) fn open(&self) -> Result<Opened> {
        let host = fs::canonicalize(&self.host);
        let host = host.map_err(failed(format!("realpath({:?})", self.host)));
        let other = "with --map auto, root inside is another user outside, and may not enter a directory of this path";
        let host = host.map_err(|error| error.hint_on(Errno::EACCES, other))?;
        let tree = Tree::open(&host)?;
        tree.restrict(self.read_only)?;
        let inside = self.inside.clone().unwrap_or_else(|| host.clone());
        if !is_place(&inside) {
            return Err(Error::input(format!("--bind {host:?}: {NO_PLACE}")));
        }
        Ok(Opened {
            tree,
            is_directory: host.is_dir(),
            inside,
            host,
            read_only: self.read_only,
        })
    }
}

impl Opened {
    /// Attaches it in the container's root. If there is no such place, it is created, but only in memory.
    ///
    /// # Errors
    /// `ENOENT` if a root on disk has no such place; `EINVAL` if one is a directory and the other is not.
    pub(super) fn attach(&self) -> Result<()> {
        let (host, inside) = (word(&self.host), word(&self.inside));
        let option = if self.read_only { "-o ro " } else { "" };
        let shell = format_args!("mount --rbind {option}{host} {inside}");
        mount::step(shell, "a part of the host appears inside", || {
            let found = kind(&self.inside)?;
            let mut parents = self.inside.ancestors().skip(1);
            let above = parents.find(|path| path.exists());
            let above = above.unwrap_or(Path::new("/"));
            self.must_not_be_in_proc(above)?;
            if self.inside.exists() {
                self.must_not_be_in_proc(&self.inside)?; // /proc itself, say
            }
            if found.is_none() {
                self.create(above)?;
            }
            let hint =
                "inside is a link there, or a file where a directory is bound, or the reverse";
            let attached = self.tree.attach(&self.inside);
            attached.map_err(|error| error.hint_on(Errno::EINVAL, hint))
        })
    }

    /// A link of the root can lead there, and a mount there hides what protects the host, or shows what the
    /// steps that follow take for the kernel's (CVE-2019-16884).
    fn must_not_be_in_proc(&self, above: &Path) -> Result<()> {
        let found = statfs(above).map_err(failed(format!("statfs({above:?})")))?;
        if found.filesystem_type() != PROC_SUPER_MAGIC {
            return Ok(());
        }
        let what = format!("--bind: {:?} is in /proc", self.inside);
        Err(Error::input(what).hint("a link of the root may lead there: choose another place"))
    }

    /// `mkdir -p`, or `touch`. On disk it would stay when the container has gone.
    fn create(&self, above: &Path) -> Result<()> {
        let path = &self.inside;
        if !is_in_memory(above)? {
            let hint = "the root has no such place: create it there, or use --overlay";
            return Err(Error::new(format!("open({path:?}, O_PATH)"), Errno::ENOENT).hint(hint));
        }
        files::make_parents(path)?;
        match self.is_directory {
            true => make_directory(path),
            false => files::create(path, ""),
        }
    }
}

//! Files and directories: `mkdir`, `rmdir`, `ln -s`, `echo … >`.

use crate::{Error, Result, error::failed, explain::call, hints};
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::{Mode, mkdirat, umask};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use std::io::ErrorKind;
use std::{fs, os::fd::OwnedFd, path::Path};

/// `echo TEXT > PATH`, where the file exists: open(2), and one write(2).
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let opens = format_args!("openat(AT_FDCWD, {path:?}, O_WRONLY|O_CLOEXEC)");
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    fill(
        call(opens, || open(path, flags, Mode::empty()))?,
        path,
        text,
    )
}

/// The same, with a new file.
pub(crate) fn create(path: &Path, text: &str) -> Result<()> {
    let names = "O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0644";
    let opens = format_args!("openat(AT_FDCWD, {path:?}, {names})");
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o644);
    let create = || with_mode(|| open(path, flags, mode));
    let file = call(opens, create).map_err(hints::no_owner)?;
    match text {
        "" => Ok(()),
        text => fill(file, path, text),
    }
}

fn fill(file: OwnedFd, path: &Path, text: &str) -> Result<()> {
    let writes = format_args!("write({}, {text:?}, {})", path.display(), text.len());
    match call(writes, || nix::unistd::write(&file, text.as_bytes()))? {
        length if length == text.len() => Ok(()),
        length => Err(Error::input(format!("{writes} = {length}: a short write"))),
    }
}

/// `mkdir PATH`.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    let text = format_args!("mkdirat(AT_FDCWD, {path:?}, 0755)");
    let mode = Mode::from_bits_truncate(0o755);
    let make = || with_mode(|| mkdirat(AT_FDCWD, path, mode));
    call(text, make).map_err(hints::no_owner)
}

/// `mkdir -p` of the directories above `path`.
pub(crate) fn make_parents(path: &Path) -> Result<()> {
    let above = path.ancestors().skip(1).collect::<Vec<_>>();
    for directory in above.into_iter().rev() {
        if !directory.as_os_str().is_empty() && kind(directory)?.is_none() {
            make_directory(directory)?;
        }
    }
    Ok(())
}

/// A new file has exactly the mode that it is created with: the caller's umask is for the command.
fn with_mode<T>(create: impl FnOnce() -> T) -> T {
    let mask = umask(Mode::empty());
    let created = create();
    umask(mask);
    created
}

/// `rmdir PATH`.
pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    let text = format_args!("unlinkat(AT_FDCWD, {path:?}, AT_REMOVEDIR)");
    call(text, || unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir))
}

/// `ln -s TARGET PATH`.
pub(crate) fn link(target: &Path, path: &Path) -> Result<()> {
    let text = format_args!("symlinkat({target:?}, AT_FDCWD, {path:?})");
    call(text, || symlinkat(target, AT_FDCWD, path))
}

/// Opens a directory just to find it again. `ENOTDIR` if it is a link or a file.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let text = format_args!("openat(AT_FDCWD, {path:?}, O_PATH|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC)");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    call(text, || open(path, flags, Mode::empty()))
}

/// What is at `path`, if anything: lstat(2), which does not follow a link.
pub(crate) fn kind(path: &Path) -> Result<Option<fs::FileType>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found.file_type())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(format!("stat({path:?})"))(error)),
    }
}

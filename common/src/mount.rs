//! The mount namespace: one function a mount. See mount_namespaces(7) and mount(2).

use crate::{
    Result,
    process::c_string,
    step::{checked, step},
};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags},
};
use std::{fs, os::unix::ffi::OsStrExt, path::Path};

/// Whether mounts made here are seen on the host, and the other way round: see "SHARED SUBTREES" of
/// mount_namespaces(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
pub enum Propagation {
    /// Neither side sees the other's new mounts
    #[default]
    Private,
    /// The host's new mounts appear inside, not the other way round
    Slave,
    /// Both see each other's, as far as the user namespace permits
    Shared,
    /// As it was on the host
    Unchanged,
}

/// `mount --make-rprivate TARGET` and its like: sets the propagation of TARGET and of all mounts
/// below. As the option of `unshare`, this is the first step in a new mount namespace.
///
/// # Errors
/// `EINVAL` if `target` is not a mount point.
pub fn propagation(target: &str, propagation: Propagation) -> Result<()> {
    let kind = match propagation {
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::Slave => MsFlags::MS_SLAVE,
        Propagation::Shared => MsFlags::MS_SHARED,
        Propagation::Unchanged => return Ok(()),
    };
    mount(Some("none"), Path::new(target), None, MsFlags::MS_REC | kind, None)
}

/// `mount -t proc proc TARGET`: this PID namespace's processes. `unshare --mount-proc` mounts it at
/// `/proc`, with the same flags as here.
///
/// # Errors
/// `EPERM` where the caller's user namespace may not see a whole /proc; `ENOENT` without the directory.
pub fn proc(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), target, Some("proc"), flags, None).map_err(|error| {
        error.hint_on(Errno::ENOENT, || format!("the root has no directory {target:?}: mkdir makes it")).hint_on(
            Errno::EPERM,
            || match masks() {
                masks if masks.is_empty() => "the kernel lets a user namespace mount /proc only where it can see one \
                    already: it must happen before the old root is detached (mount_namespaces(7))"
                    .to_string(),
                masks => format!(
                    "an outer container hides parts of /proc, and who may not see them may not mount a new one \
                    (dmesg says \"Mount too revealing\"): {}. Run it outside of that container, or with \
                    docker run --security-opt systempaths=unconfined",
                    masks.join(", ")
                ),
            },
        )
    })
}

/// What is mounted on top of parts of /proc.
fn masks() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    targets.filter(|target| target.starts_with("/proc/")).map(str::to_string).collect()
}

/// `mount -t tmpfs tmpfs TARGET`: an empty file system in memory.
///
/// # Errors
/// `ENOENT` without the directory.
pub fn tmpfs(target: &Path) -> Result<()> {
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, None).map_err(
        |error| {
            error.hint_on(Errno::ENOENT, || format!("the root has no directory {target:?}: mkdir makes it"))
        },
    )
}

/// `mount --rbind SOURCE TARGET`: the same tree at a second place. Onto itself, it turns a directory
/// into a mount point, which pivot_root(2) asks for.
///
/// # Errors
/// `ENOENT`, `EACCES`: the path.
pub fn rbind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None, MsFlags::MS_BIND | MsFlags::MS_REC, None)
}

/// Makes the mount at `target` read-only, and all that are mounted below. See mount_setattr(2).
///
/// # Errors
/// `ENOSYS` before Linux 5.12.
pub(crate) fn read_only(target: &Path) -> Result<()> {
    let path = c_string(target.as_os_str().as_bytes())?;
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let size = size_of_val(&attributes);
    let call = format_args!(
        "mount_setattr(AT_FDCWD, {target:?}, AT_RECURSIVE, {{attr_set=MOUNT_ATTR_RDONLY}}, {size})"
    );
    step(call, || {
        // SAFETY: `path` ends with NUL, and of `attributes` the kernel reads `size` bytes.
        let returned = unsafe {
            let attributes = &raw const attributes;
            libc::syscall(
                libc::SYS_mount_setattr,
                libc::AT_FDCWD,
                path.as_ptr(),
                libc::AT_RECURSIVE,
                attributes,
                size,
            )
        };
        checked(returned)
    })
    .map(drop)
    .map_err(|error| {
        error.hint_on(Errno::ENOSYS, || {
            "Linux 5.12 or newer is needed to lend the host's directories; with --rootfs it is not"
                .to_string()
        })
    })
}

/// `pivot_root NEW_ROOT PUT_OLD`: NEW_ROOT becomes `/`, and what was `/` is at PUT_OLD, below it.
/// Unlike after chroot(2), the old root can then be unmounted, and there is no way back to it.
///
/// # Errors
/// `EINVAL` if a mount that takes part is shared; `EBUSY` if the new root is no mount point.
pub fn pivot_root(new_root: &Path, put_old: &Path) -> Result<()> {
    step(format_args!("pivot_root({new_root:?}, {put_old:?})"), || nix::unistd::pivot_root(new_root, put_old)).map_err(|error| {
        error
            .hint_on(Errno::EINVAL, || match shared_mounts() {
                shared if shared.is_empty() => "the root of the machine may be its initial ramfs, which cannot be moved".to_string(),
                shared => format!("it refuses where mounts are shared with the host, as these are: {}; make them private first", shared.join(", ")),
            })
            .hint_on(Errno::EBUSY, || format!("{new_root:?} is not a mount point: bind it onto itself first"))
    })
}

/// The mounts with `shared:` in /proc/self/mountinfo: see proc(5).
fn shared_mounts() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let shared = mounts.lines().filter(|line| {
        line.split(' ').skip(6).take_while(|field| *field != "-").any(|field| field.starts_with("shared:"))
    });
    shared.filter_map(|line| line.split(' ').nth(4)).map(str::to_string).collect()
}

/// `cd DIR`.
///
/// # Errors
/// Those of chdir(2).
pub fn chdir(directory: &str) -> Result<()> {
    step(format_args!("chdir({directory:?})"), || nix::unistd::chdir(directory))
}

/// `umount -l TARGET`: takes TARGET out of the tree at once, and lets it go when nobody uses it.
///
/// # Errors
/// `EINVAL` if it is not a mount point.
pub fn detach(target: &str) -> Result<()> {
    step(format_args!("umount2({target:?}, MNT_DETACH)"), || {
        nix::mount::umount2(target, MntFlags::MNT_DETACH)
    })
}

/// mount(2). The text shows a null pointer as `NULL`, as strace does.
fn mount(
    source: Option<impl AsRef<Path>>,
    target: &Path,
    fstype: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<()> {
    let source = source.as_ref().map(AsRef::as_ref);
    let names = flags.iter_names().map(|(name, _)| name).collect::<Vec<_>>();
    step(
        format_args!(
            "mount({}, {target:?}, {}, {}, {})",
            Nullable(source),
            Nullable(fstype),
            names.join("|"),
            Nullable(data)
        ),
        || nix::mount::mount(source, target, fstype, flags, data),
    )
    .map_err(crate::idmap::apparmor_hint)
}

/// A pointer to a string, or NULL, in the manner of strace.
struct Nullable<T>(Option<T>);

impl<T: std::fmt::Debug> std::fmt::Display for Nullable<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("NULL"),
        }
    }
}

//! The mount namespace: one function a mount. See [mount_namespaces(7)] and [mount(2)].
//!
//! From [stage 3](../../stage3_pid/index.html), with /proc; the rest from [stage 4](../../stage4_mount/index.html).
//!
//! [mount(2)]: https://man7.org/linux/man-pages/man2/mount.2.html
//! [mount_namespaces(7)]: https://man7.org/linux/man-pages/man7/mount_namespaces.7.html

use crate::{
    Result,
    process::c_string,
    rootfs::OLD_ROOT,
    step::{checked, step},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    mount::{MntFlags, MsFlags},
    sys::stat::Mode,
    unistd::fchdir,
};
use std::{
    fmt, fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

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

impl Propagation {
    fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Slave => "slave",
            Self::Shared => "shared",
            Self::Unchanged => "unchanged",
        }
    }

    fn does(self) -> &'static str {
        match self {
            Self::Private => "no mount passes between inside and outside",
            Self::Slave => "mounts of the host appear inside, not the other way round",
            Self::Shared => "mounts pass on to whoever shares these",
            Self::Unchanged => "",
        }
    }
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
    let shell = format_args!("mount --make-r{} {target}", propagation.name());
    mount(Some("none"), Path::new(target), None, MsFlags::MS_REC | kind, None, shell, propagation.does())
}

/// `mount -t proc proc TARGET`: this PID namespace's processes. `unshare --mount-proc` mounts it at
/// `/proc`, with the same flags as here.
///
/// # Errors
/// `EPERM` where the caller's user namespace may not see a whole /proc; `ENOENT` without the directory.
pub fn proc(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let shell = format_args!("mount -t proc proc {}", target.display());
    let does = "the processes of this PID namespace";
    mount(Some("proc"), target, Some("proc"), flags, None, shell, does).map_err(|error| {
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

/// `mount -t tmpfs tmpfs TARGET`: an empty file system in memory, where everybody may write.
///
/// # Errors
/// `ENOENT` without the directory.
pub fn tmpfs(target: &Path) -> Result<()> {
    mount_tmpfs(target, None)
}

/// The same, where only root may write. In one for everybody the kernel lets no user open a device of
/// somebody else's with O_CREAT, as a shell's `>/dev/null` does: `may_create_in_sticky` of fs/namei.c.
///
/// # Errors
/// `ENOENT` without the directory.
pub(crate) fn tmpfs_of_root(target: &Path) -> Result<()> {
    mount_tmpfs(target, Some("mode=755"))
}

fn mount_tmpfs(target: &Path, data: Option<&str>) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let shell = format_args!("mount -t tmpfs tmpfs {}", target.display());
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, data, shell, "empty, in memory").map_err(|error| {
        error.hint_on(Errno::ENOENT, || format!("the root has no directory {target:?}: mkdir makes it"))
    })
}

/// `mount --rbind SOURCE TARGET`: the same tree at a second place. Onto itself, it turns a directory
/// into a mount point, which pivot_root(2) asks for.
///
/// # Errors
/// `ENOENT`, `EACCES`: the path.
pub fn rbind(source: &Path, target: &Path) -> Result<()> {
    let shell = format_args!("mount --rbind {} {}", source.display(), target.display());
    let does = if source == target { "makes it a mount point" } else { "the same tree at a second place" };
    mount(Some(source), target, None, MsFlags::MS_BIND | MsFlags::MS_REC, None, shell, does)
}

/// Makes the mount at `target` read-only, and all that are mounted below.
///
/// # Errors
/// `ENOSYS` before Linux 5.12.
pub(crate) fn read_only(target: &Path) -> Result<()> {
    set_attributes(target, libc::MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY", "ro", "read-only, with all below")
}

/// Takes the meaning from devices and setuid programs of the mount at `target`, and below.
///
/// # Errors
/// `ENOSYS` before Linux 5.12.
pub(crate) fn no_devices(target: &Path) -> Result<()> {
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let names = "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV";
    set_attributes(target, attributes, names, "nosuid,nodev", "its devices and setuid bits mean nothing")
}

/// mount_setattr(2), recursively.
fn set_attributes(target: &Path, attr_set: u64, names: &str, options: &str, does: &str) -> Result<()> {
    let path = c_string(target.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr { attr_set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let size = size_of_val(&attributes);
    let call = format_args!(
        "mount_setattr(AT_FDCWD, {target:?}, AT_RECURSIVE, {{attr_set={names}, attr_clr=0, propagation=0, userns_fd=0}}, {size})"
    );
    let shell = format_args!("mount -o remount,bind,{options} {}", target.display());
    step(call, shell, does, || {
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
    .map_err(|error| {
        error.hint_on(Errno::ENOSYS, || {
            "Linux 5.12 or newer is needed to lend the host's directories; with --rootfs it is not"
                .to_string()
        })
    })
}

/// The old root after pivot_root(2): held open, since the names in the new root, its `.old_root` too,
/// belong to whoever has made it.
pub struct OldRoot(OwnedFd);

/// `pivot_root NEW_ROOT PUT_OLD`: NEW_ROOT becomes `/`, and what was `/` is at PUT_OLD, below it.
/// Unlike after chroot(2), the old root can then be unmounted, and there is no way back to it.
///
/// # Errors
/// `EINVAL` if a mount that takes part is shared; `EBUSY` if the new root is no mount point.
pub fn pivot_root(new_root: &Path, put_old: &Path) -> Result<OldRoot> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let call = format_args!("openat(AT_FDCWD, \"/\", O_PATH|O_DIRECTORY|O_CLOEXEC)");
    let old_root = step(call, format_args!(""), "to find it again, whatever its name", || {
        open("/", flags, Mode::empty())
    })?;
    step(
        format_args!("pivot_root({new_root:?}, {put_old:?})"),
        format_args!("pivot_root {} {}", new_root.display(), put_old.display()),
        "what was / is below the new one",
        || nix::unistd::pivot_root(new_root, put_old),
    )
    .map(|()| OldRoot(old_root))
    .map_err(|error| {
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
    step(
        format_args!("chdir({directory:?})"),
        format_args!("cd {directory}"),
        "the working directory was in the old root",
        || nix::unistd::chdir(directory),
    )
}

impl OldRoot {
    /// `mount --make-rprivate /.old_root`, so that nothing is unmounted on the host, and
    /// `umount -l /.old_root`: takes it out of the tree at once, with all that is mounted below. By its
    /// descriptor: a root whose /tmp is a link to /.old_root has had a tmpfs mounted over that name.
    ///
    /// # Errors
    /// `EINVAL` if it is not a mount point.
    pub fn detach(self) -> Result<()> {
        let number = self.0.as_raw_fd();
        let nothing = format_args!(""); // on the slide it has a name
        step(format_args!("fchdir({number})"), nothing, "where the host's files are", || fchdir(&self.0))?;
        let shell = format_args!("mount --make-rprivate /{OLD_ROOT}");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(Some("none"), Path::new("."), None, private, None, shell, Propagation::Private.does())?;
        step(
            format_args!("umount2(\".\", MNT_DETACH)"),
            format_args!("umount -l /{OLD_ROOT}"),
            "no way leads to the host's files any more",
            || nix::mount::umount2(".", MntFlags::MNT_DETACH),
        )?;
        step(format_args!("chdir(\"/\")"), nothing, "back from there", || nix::unistd::chdir("/"))
    }
}

/// mount(2). The text shows a null pointer as `NULL`, as strace does.
fn mount(
    source: Option<impl AsRef<Path>>,
    target: &Path,
    fstype: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
    shell: fmt::Arguments<'_>,
    does: &str,
) -> Result<()> {
    let source = source.as_ref().map(AsRef::as_ref);
    let (source_text, fstype_text, data_text) = (Nullable(source), Nullable(fstype), Nullable(data));
    step(
        format_args!("mount({source_text}, {target:?}, {fstype_text}, {}, {data_text})", Names(flags)),
        shell,
        does,
        || nix::mount::mount(source, target, fstype, flags, data),
    )
    .map_err(crate::idmap::apparmor_hint)
}

/// The names of flags, as strace shows them.
struct Names(MsFlags);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("|"))
    }
}

/// A pointer to a string, or NULL, in the manner of strace.
struct Nullable<T>(Option<T>);

impl<T: fmt::Debug> fmt::Display for Nullable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("NULL"),
        }
    }
}

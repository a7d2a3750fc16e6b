//! Why a call failed, and what to do: the hints below an error.
//!
//! They run only when a call has failed. Most causes come from other people's bug reports.

use crate::proc::{bits, field, first_mapped, mount_points, read};
use crate::{Error, namespaces::NEWUSER};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;
use std::{
    env, fs,
    io::Read,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

/// The number in linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;

/// clone(2) and unshare(2) of namespaces.
pub(crate) fn new_namespaces(error: Error, flags: CloneFlags) -> Error {
    let unknown = match read("/proc/version").contains("Microsoft") {
        true => "WSL 1 has no Linux kernel: wsl --set-version DISTRIBUTION 2",
        false => "this kernel lacks one of these namespaces: ls /proc/self/ns shows what it has",
    };
    let nested = "user namespaces are nested 32 deep, which is the limit";
    error
        .hint_on(Errno::EPERM, namespaces_refused(flags))
        .hint_on(Errno::ENOSPC, too_many_namespaces())
        .hint_on(Errno::EAGAIN, too_many_processes())
        .hint_on(Errno::EINVAL, unknown)
        .hint_on(Errno::EUSERS, nested)
}

fn namespaces_refused(flags: CloneFlags) -> &'static str {
    let status = read("/proc/self/status");
    let is_filtered = field(&status, "Seccomp:") == Some("2");
    let effective = bits(&status, "CapEff:");
    let is_admin = effective.is_none_or(|mask| mask >> CAP_SYS_ADMIN & 1 == 1);
    if !flags.contains(NEWUSER) && !is_admin && geteuid().is_root() {
        "root lacks CAP_SYS_ADMIN here, as in a container: run the stage outside of it, or \
         docker run --cap-add SYS_ADMIN; stage2-user needs no privileges"
    } else if !flags.contains(NEWUSER) && !is_admin {
        "creating a UTS namespace needs CAP_SYS_ADMIN: use sudo, or run stage2-user, which needs \
         no privileges"
    } else if !is_admin && read("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        "user namespaces are disabled for ordinary users: use sudo, or allow them: \
         sudo sysctl kernel.unprivileged_userns_clone=1 (=0 forbids them again)"
    } else if is_filtered {
        "a seccomp filter refuses it. Inside an outer stage5-net: start that one with --bare. \
         Inside Docker: docker run --security-opt seccomp=unconfined"
    } else if read("/proc/self/uid_map").is_empty() || read("/proc/self/gid_map").is_empty() {
        "your own ids are not mapped, as after unshare -U without -r: exit that shell first"
    } else {
        "the kernel creates no user namespace in a chroot (clone(2)): run the stage outside, \
         or look for a security module's refusal: dmesg"
    }
}

fn too_many_namespaces() -> String {
    let kinds = ["user", "uts", "pid", "mnt", "net", "ipc", "cgroup"];
    let limits = kinds.map(|kind| format!("max_{kind}_namespaces"));
    let is_zero = |limit: &&String| read(format!("/proc/sys/user/{limit}")) == "0";
    match limits.iter().find(is_zero) {
        Some(limit) => format!(
            "user.{limit} is 0: sudo sysctl user.{limit}=1000 allows some until the next boot"
        ),
        None => "a limit on namespaces is reached: sysctl user shows the limits; \
                 namespaces can be nested 32 deep"
            .into(),
    }
}

/// A control group can be full, or one above it, of version 2 or 1: cgroups(7).
fn too_many_processes() -> String {
    let lines = read("/proc/self/cgroup");
    let group = |mark: &str, root: &str| {
        let path = lines.lines().find_map(|line| line.split_once(mark));
        Path::new(root).join(path.unwrap_or_default().1)
    };
    let groups = [
        group("0::/", "/sys/fs/cgroup"),
        group(":pids:/", "/sys/fs/cgroup/pids"),
    ];
    let full = groups.iter().flat_map(|group| group.ancestors());
    let mut full = full.filter_map(|group| {
        let number = |name| read(group.join(name)).parse::<u64>().ok();
        let max = number("pids.max")?;
        (number("pids.current")? >= max).then(|| (group.join("pids.max"), max))
    });
    match full.next() {
        Some((file, max)) => {
            format!("{file:?} allows {max} processes: end some, or write a larger number")
        }
        None => "the limit on processes is reached: end some, or raise ulimit -u, or \
                 sysctl kernel.threads-max"
            .into(),
    }
}

/// On Ubuntu AppArmor lets an ordinary user create a user namespace, and then refuses every capability
/// in it. So the first sign is an `EPERM` at an innocent call.
///
/// In a container the runtime's profile can refuse a mount, with `EACCES`.
pub(crate) fn apparmor(error: Error) -> Error {
    let profile = read("/proc/self/attr/current");
    let profile = profile.trim_end_matches('\0');
    let is_confined = !profile.is_empty() && !profile.contains("unconfined");
    let mut error = error;
    if is_confined {
        let hint = format!(
            "the security profile {profile:?} can refuse this: run the stage outside of the \
             container, or docker run --security-opt apparmor=unconfined"
        );
        error = error.hint_on(Errno::EACCES, hint);
    }
    let on = read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1";
    // The child is root inside: its map tells who it is outside.
    let is_root_outside = first_mapped().is_none_or(|[_, outside, _]| outside == 0);
    if !on || geteuid().is_root() && is_root_outside {
        return error;
    }
    let hint = "AppArmor takes all capabilities from user namespaces of ordinary users: use sudo, or \
                allow them until the next boot: sudo sysctl \
                kernel.apparmor_restrict_unprivileged_userns=0 (=1 forbids them again)";
    error.hint_on(Errno::EPERM, hint)
}

/// In a container an id map can be refused although the namespace was not: user_namespaces(7).
pub(crate) fn map(error: Error) -> Error {
    let read_only = "/proc is read-only in this container: run the stage outside of it";
    let no_setfcap = "since Linux 5.12 mapping the root of outside needs CAP_SETFCAP, which this \
                      container lacks: run the stage outside of it, or as an ordinary user";
    let error = error.hint_on(Errno::EROFS, read_only);
    match geteuid().is_root() {
        true => error.hint_on(Errno::EPERM, no_setfcap),
        false => error,
    }
}

/// A new file needs an owner: user_namespaces(7), "Unmapped user and group IDs".
pub(crate) fn no_owner(error: Error) -> Error {
    let hint = "no user inside is mapped, so no user can own a new file: leave out --map none";
    error.hint_on(Errno::EOVERFLOW, hint)
}

pub(crate) fn no_directory(error: Error, target: &Path) -> Error {
    let hint = format!("the root has no directory {target:?}: create it with mkdir");
    error.hint_on(Errno::ENOENT, hint)
}

pub(crate) fn mount_proc(error: Error, target: &Path) -> Error {
    let masks = mount_points(|_, point| point.starts_with("/proc/")).join(", ");
    let hint = match masks.as_str() {
        "" => "in a user namespace the kernel mounts a new /proc only if a complete one is \
               visible: mount it before the old root is detached (mount_namespaces(7))"
            .into(),
        masks => format!(
            "an outer container hides parts of /proc ({masks}), and the kernel allows no new one \
             then (dmesg: \"Mount too revealing\"): run the stage outside of that container, or \
             docker run --security-opt systempaths=unconfined"
        ),
    };
    no_directory(error, target).hint_on(Errno::EPERM, hint)
}

pub(crate) fn mount_setattr(error: Error) -> Error {
    let hint = "read-only mounts need Linux 5.12 or newer: stage4-mount works with --rootfs, \
                stage5-net with --rootfs and --bare";
    error.hint_on(Errno::ENOSYS, hint)
}

pub(crate) fn pivot_root(error: Error, new_root: &Path) -> Error {
    let shared = mount_points(|line, _| line.contains(" shared:")).join(", ");
    let immovable = match shared.as_str() {
        "" => "the kernel cannot move the initial ramfs, nor a root that is no mount point \
               (chroot): run the stage on a booted system"
            .into(),
        shared => format!("shared with the host: {shared}; make these mounts private first"),
    };
    let no_mount = format!("{new_root:?} is not a mount point: bind it onto itself first");
    let error = error.hint_on(Errno::EINVAL, immovable);
    error.hint_on(Errno::EBUSY, no_mount)
}

/// execve(2): which file is missing or wrong, and the shell's exit status for it.
pub(crate) fn exec(error: Error, program: &Path) -> Error {
    // execvpe(3) reports EACCES also if a directory of PATH cannot be searched.
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = || env::split_paths(&path).map(|directory| directory.join(program));
    let has_slash = program.as_os_str().as_bytes().contains(&b'/');
    let found = match has_slash {
        true => Some(program.into()),
        false => in_path().find(|file| file.exists()),
    };
    let Some(program) = found.filter(|_| error.errno() != Some(Errno::ENOENT)) else {
        return error.with_status(127).hint(no_program(program, has_slash));
    };
    let is_noexec = statvfs(&program).is_ok_and(|found| found.flags().contains(FsFlags::ST_NOEXEC));
    let mode = program.metadata().map_or(0, |found| found.mode());
    let refused = match (program.is_dir(), mode & 0o111) {
        (true, _) => "is a directory",
        (_, 1..) if is_noexec => "is on a file system that is mounted noexec: use another place",
        _ => "is not executable (chmod +x), or a directory above is closed",
    };
    let format = "the kernel cannot execute this format: readelf -h shows whether the root file \
                  system is for another processor";
    error
        .with_status(126)
        .hint_on(Errno::EACCES, format!("{program:?} {refused}"))
        .hint_on(Errno::ENOEXEC, format)
}

fn no_program(program: &Path, has_slash: bool) -> String {
    if !has_slash {
        let path = env::var_os("PATH").unwrap_or_default();
        return format!("no directory of PATH has it: {}", path.display());
    }
    let here = env::current_dir().unwrap_or_default();
    match first_line(program) {
        Some(line) if line.starts_with("#!") && line.ends_with('\r') => {
            "its first line ends with CR LF, as on Windows: sed -i 's/\\r$//' removes the CR".into()
        }
        Some(line) if line.starts_with("#!") => {
            format!("the file exists, but not the interpreter that its first line names: {line}")
        }
        Some(_) => "the file exists, but not the loader that it needs (readelf -l shows it): \
                    is the root file system complete?"
            .into(),
        None if program.has_root() => format!(
            "the container's root has no {program:?}: scripts/rootfs.sh creates a complete root"
        ),
        None => format!("the working directory inside, {here:?}, has no {program:?}"),
    }
}

/// The first line of a file, if it is one: opening a FIFO would block.
fn first_line(path: &Path) -> Option<String> {
    let file = path.is_file().then(|| fs::File::open(path))?.ok()?;
    let mut head = Vec::new();
    file.take(256).read_to_end(&mut head).ok()?;
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Some(String::from_utf8_lossy(line).into())
}

/// Requests about links.
pub(crate) fn link(error: Error) -> Error {
    let no_module = match read("/proc/version").contains("WSL2") {
        true => "this kernel has no bridge or no veth: in PowerShell, wsl --update",
        false => {
            "this kernel has no bridge or no veth: modprobe -a bridge veth, or a kernel with \
             CONFIG_BRIDGE and CONFIG_VETH"
        }
    };
    let no_right = "changing the host's network needs CAP_NET_ADMIN: use sudo, or --net private";
    let full = "a bridge has at most 1023 ports: use --bridge br1, with a subnet of its own";
    if error.errno() == Some(Errno::EOPNOTSUPP) {
        return error.hint(no_module); // more than the kernel's words: Unknown device type
    }
    error
        .hint_on(Errno::EPERM, no_right)
        .hint_on(Errno::EXFULL, full)
}

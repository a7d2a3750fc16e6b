//! The kinds of namespaces, and how to find those of a process: namespaces(7).

use crate::{Error, Result, error::failed, proc, sys};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

/// A new hostname.
pub const NEWUTS: CloneFlags = CloneFlags::CLONE_NEWUTS;
/// New users.
pub const NEWUSER: CloneFlags = CloneFlags::CLONE_NEWUSER;
/// New process ids.
pub const NEWPID: CloneFlags = CloneFlags::CLONE_NEWPID;
/// New mounts: the oldest kind, called just "new namespace".
pub const NEWNS: CloneFlags = CloneFlags::CLONE_NEWNS;
/// A new network.
pub const NEWNET: CloneFlags = CloneFlags::CLONE_NEWNET;
/// New System V IPC objects and POSIX message queues.
pub const NEWIPC: CloneFlags = CloneFlags::CLONE_NEWIPC;
/// A new root for the paths of control groups.
pub const NEWCGROUP: CloneFlags = CloneFlags::CLONE_NEWCGROUP;

/// The flag of clone(2), the name in `/proc/PID/ns`, and the letter of unshare(1) and nsenter(1), in
/// the order of the stages.
const KINDS: [(CloneFlags, &str, &str); 7] = [
    (NEWUTS, "uts", "u"),
    (NEWUSER, "user", "U"),
    (NEWPID, "pid", "p"),
    (NEWNS, "mnt", "m"),
    (NEWNET, "net", "n"),
    (NEWIPC, "ipc", "i"),
    (NEWCGROUP, "cgroup", "C"),
];

/// The kinds that `flags` has: their names, and their letters.
pub fn kinds(flags: CloneFlags) -> impl Iterator<Item = (&'static str, &'static str)> {
    let kinds = KINDS
        .into_iter()
        .filter(move |(flag, ..)| flags.contains(*flag));
    kinds.map(|(_, name, letter)| (name, letter))
}

/// The letters that unshare(1) has for flags. A new PID namespace needs a fork.
pub(crate) fn letters(flags: CloneFlags) -> String {
    let letter = |(_, letter)| if letter == "p" { "pf" } else { letter };
    kinds(flags).map(letter).collect()
}

/// The number under which `/proc` shows the process `pid`.
///
/// Usually it is the same number. It differs where `/proc` belongs to another PID namespace, as after
/// `unshare -pf` without `--mount-proc`: there `/proc/PID` is another process, whose maps must not be
/// written. `/proc/self/fdinfo` of a pidfd has the right number: pidfd_open(2). `ESRCH` if that `/proc`
/// does not show the process.
pub(crate) fn number_in_proc(pid: Pid) -> Result<Pid> {
    let pidfd = pidfd(pid)?;
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let read = fs::read_to_string(&path).map_err(failed(format!("read({path:?})")));
    let hint = "this needs the proc file system: mount -t proc proc /proc";
    let info = read.map_err(|error| error.hint_on(Errno::ENOENT, hint))?;
    match proc::field(&info, "Pid:").and_then(|number| number.parse().ok()) {
        Some(number @ 1..) => Ok(Pid::from_raw(number)),
        _ => {
            let hint = "/proc belongs to another PID namespace, which does not show this process: \
                        mount -t proc proc /proc";
            Err(Error::new(format!("open(\"/proc/{pid}\", O_PATH)"), Errno::ESRCH).hint(hint))
        }
    }
}

/// pidfd_open(2): a descriptor that stands for the process, also after its number has gone to another one.
pub(crate) fn pidfd(pid: Pid) -> Result<OwnedFd> {
    sys::pidfd_open(pid).map_err(failed(format!("pidfd_open({pid}, 0)")))
}

/// The nsenter(1) command that enters these namespaces of the process `number`. `-a` would also enter those that
/// the process shares with the host, which an ordinary user must not. In a user namespace nsenter becomes root,
/// unless it keeps its credentials: with one id in the map it must, since it may not call setgroups(2).
pub(crate) fn nsenter(number: Pid, flags: CloneFlags, keeps_credentials: bool) -> String {
    let letters = kinds(flags).map(|(_, letter)| format!(" -{letter}"));
    let keep = match keeps_credentials {
        true => " --preserve-credentials",
        false => "",
    };
    format!("nsenter -t {number}{}{keep}", letters.collect::<String>())
}

/// The names of flags, as strace shows them: of `flags.iter_names()`.
pub(crate) fn names<T>(flags: impl Iterator<Item = (&'static str, T)>) -> String {
    flags.map(|(name, _)| name).collect::<Vec<_>>().join("|")
}

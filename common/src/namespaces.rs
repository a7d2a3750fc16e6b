//! The kinds of namespaces, how to find those of a process, and how to enter them: namespaces(7).

use crate::{Error, Result, error::failed, sys};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_dumpable;
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, OwnedFd};
use std::{fmt, fs};

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
    let pidfd = sys::pidfd_open(pid).map_err(failed(format!("pidfd_open({pid}, 0)")))?;
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let read = fs::read_to_string(&path).map_err(failed(format!("read({path:?})")));
    let hint = "this needs the proc file system: mount -t proc proc /proc";
    let info = read.map_err(|error| error.hint(hint))?;
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    match number.and_then(|number| number.trim().parse().ok()) {
        Some(number @ 1..) => Ok(Pid::from_raw(number)),
        _ => {
            let hint = "/proc belongs to another PID namespace, which does not show this process: \
                        mount -t proc proc /proc";
            Err(Error::new(format!("open(\"/proc/{pid}\", O_PATH)"), Errno::ESRCH).hint(hint))
        }
    }
}

/// The calling process's memory and descriptors are closed to others, until execve(2).
pub(crate) fn close_memory() -> Result<()> {
    set_dumpable(false).map_err(failed("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)"))
}

/// A way into the namespaces of a running process: setns(2), since Linux 5.8 with a pidfd.
///
/// A pid can be another process by the time it is used. A pidfd stands for the process that had the number when
/// it was opened: afterwards setns(2) enters that one's namespaces, or fails with `ESRCH`.
pub struct Entrance(OwnedFd);

impl Entrance {
    /// pidfd_open(2). From here to execve(2) processes inside cannot look into the calling process, which has
    /// descriptors and variables of the host (CVE-2016-9962).
    pub fn of(pid: Pid) -> Result<Self> {
        close_memory()?;
        let opened = sys::pidfd_open(pid).map_err(failed(format!("pidfd_open({pid}, 0)")));
        opened.map(Self)
    }

    /// setns(2): a new PID namespace is that of the children from now on.
    pub fn enter(&self, flags: CloneFlags) -> Result<()> {
        let text = format!("setns(pidfd, {})", names(flags.iter_names()));
        setns(&self.0, flags).map_err(failed(text))
    }
}

/// nsenter(1) into the namespaces of a process that are its own. `-a` would also enter those that it
/// shares with the host, which an ordinary user must not.
pub struct Nsenter {
    pub(crate) pid: Pid,
    flags: CloneFlags,
    /// Whether nsenter may call setgroups(2), and become root inside.
    pub(crate) may_set_groups: bool,
}

impl Nsenter {
    pub(crate) fn new(pid: Pid, flags: CloneFlags) -> Self {
        let may_set_groups = !flags.contains(NEWUSER);
        Self {
            pid,
            flags,
            may_set_groups,
        }
    }
}

impl fmt::Display for Nsenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nsenter -t {}", self.pid)?;
        kinds(self.flags).try_for_each(|(_, letter)| write!(f, " -{letter}"))?;
        f.write_str(match self.may_set_groups {
            true => "",
            false => " --preserve-credentials",
        })
    }
}

/// The names of flags, as strace shows them: of `flags.iter_names()`.
pub(crate) fn names<T>(flags: impl Iterator<Item = (&'static str, T)>) -> String {
    flags.map(|(name, _)| name).collect::<Vec<_>>().join("|")
}

//! What a program in a container might try to get out. `scripts/isolation.sh` builds and runs it.
//!
//! `attempts inside FACT...` carries out the attempts and prints a line for each. A fact is
//! `KEY=VALUE`: what there is on the host to be found. `attempts list` prints what they are.
//!
//! No attempt changes the host. Files are opened and not written. System calls get an argument that
//! the kernel checks after the permission, so that EINVAL means that it gave the permission.
#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers become words of a system call"
)]

use libc::{AT_FDCWD, CLONE_NEWNS, CLONE_NEWUSER, MNT_DETACH, MS_BIND, MS_PRIVATE, MS_REC};
use libc::{MS_REMOUNT, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, SIGCHLD};
use nix::errno::Errno::{self, *};
use nix::sys::wait::{WaitStatus, waitpid};
use std::ffi::{CStr, CString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::{env, error::Error, fs, io, net::TcpStream, path::Path, process, time::Duration};

/// Ok: the way is open. Err: it is closed, or, with an empty text, there is nothing to try.
type Found = Result<String, Box<dyn Error>>;

/// An argument of a system call.
trait Word {
    fn word(self) -> usize;
}
macro_rules! words {
    ($($kind:ty: $value:ident => $word:expr;)+) => {
        $(impl Word for $kind { fn word(self) -> usize { let $value = self; $word as usize } })+
    };
}
words! {
    i32: number => number; i64: number => number; u64: number => number;
    &CStr: text => text.as_ptr(); &mut [u64]: words => words.as_mut_ptr();
    &mut [u8]: bytes => bytes.as_mut_ptr();
}

/// A system call by its number, also where libc has a function: a filter sees only the number.
fn call(number: i64, words: &[usize]) -> nix::Result<i64> {
    let word = |index| words.get(index).copied().unwrap_or(0);
    // SAFETY: the words are numbers and memory that lives until the call returns, as large as the
    // kernel expects it. No attempt unmaps memory, or continues as two threads.
    Errno::result(unsafe {
        libc::syscall(number, word(0), word(1), word(2), word(3), word(4), word(5))
    })
}
macro_rules! sys {
    ($name:ident $(, $word:expr)*) => { call(libc::$name, &[$(Word::word($word)),*]) };
}

/// Defines the attempts. A comment is the title of the row. After `Open:` it has the reason why it
/// may be open in stage 5. If that starts with "Docker", runc may be closed, which has no network,
/// fewer capabilities and a read-only root. After `Closed:` is the reason why it succeeds nowhere.
macro_rules! attempts {
    ($($(#[doc = $doc:literal])+ fn $name:ident() $body:block)+) => {
        $($(#[doc = $doc])+ fn $name() -> Found $body)+
        const ATTEMPTS: &[Attempt] = &[$((stringify!($name), concat!($($doc),+), $name)),+];
    };
}
/// Attempts that are one system call: its number, its arguments, the errors that come after the
/// check of permission, and the title, which is also the name.
macro_rules! calls {
    ($($number:expr, ($($word:expr),*), [$($errno:ident),*], $title:literal;)+) => {
        const CALLS: &[Attempt] = &[$(($title, $title, || {
            let number: i64 = $number;
            if [libc::SYS_mount, libc::SYS_pivot_root, libc::SYS_mount_setattr].contains(&number) {
                own_mounts();
            }
            match call(number, &[$(Word::word($word)),*]) {
                Err(errno) if [$($errno),*].contains(&errno) => Ok(format!("{errno:?}")),
                result => found(result),
            }
        })),+];
    };
}
type Attempt = (&'static str, &'static str, fn() -> Found);

attempts! {
    /// write in `/proc/sys`, such as `core_pattern`: the kernel runs what that names
    fn proc_sys() { any_writable("/proc/sys", |_| true) }
    /// write elsewhere in `/proc`, but for the directories of processes
    fn proc_rest() {
        any_writable("/proc", |name| !name.starts_with(char::is_numeric) && !["sys", "pressure"].contains(&name))
    }
    /// write in `/proc/pressure`
    /// Open: as in runc: a trigger belongs to its opener, and needs CAP_SYS_RESOURCE or 2 seconds
    fn pressure() { any_writable("/proc/pressure", |_| true) }
    /// write in `/sys`
    fn sysfs() { any_writable("/sys", |_| true) }
    /// create a cgroup, or write a `release_agent`: the kernel runs what that names
    fn cgroup() {
        first(mounts("cgroup"), |path| {
            let group = format!("{path}/isolation-{}", process::id());
            let created = fs::create_dir(&group).and_then(|()| fs::remove_dir(&group));
            found(created).or(writable(&format!("{path}/release_agent")))
        })
    }
    /// write `/dev/kmsg`
    fn kmsg() { writable("/dev/kmsg") }
    /// read `/proc/kcore`, `keys`, `timer_list`, `interrupts`
    fn masked() {
        first(["kcore", "keys", "timer_list", "interrupts"], |name| readable(&format!("/proc/{name}")))
    }
    /// read `/proc/kpageflags`
    /// Open: as in runc and Docker: it tells which pages are in use, not what is in them
    fn kpageflags() { readable("/proc/kpageflags") }
    /// change the mode of the host's `/dev/null`, wherever it shows, also as a mask
    fn devnull() {
        first(mounts("").flat_map(|path| [format!("{path}/null"), path]), |path| {
            let file = fs::metadata(path)?;
            let it = file.file_type().is_char_device() && file.dev() == number("devtmpfs");
            it.then(|| fs::set_permissions(path, file.permissions())).ok_or(ENOENT)??;
            Ok(String::new())
        })
    }
    /// create a device node, and open it
    fn node() {
        first(["/tmp", "/dev", ""], |directory| {
            let path = CString::new(format!("{directory}/isolation-{}", process::id()))?;
            sys!(SYS_mknodat, AT_FDCWD, &*path, libc::S_IFCHR as i32 | 0o600, libc::makedev(1, 3))?;
            let opened = sys!(SYS_openat, AT_FDCWD, &*path, O_RDONLY);
            sys!(SYS_unlinkat, AT_FDCWD, &*path, 0)?;
            found(opened)
        })
    }
    /// open a disk, also by a device node that was left in the new root
    fn disk() {
        let nodes = entries("/dev").chain(entries("/"));
        let disks = nodes.filter(|node| node.file_type().is_ok_and(|kind| kind.is_block_device()));
        first(disks.map(|disk| disk.path().display().to_string()), |path| found(open(path, O_NONBLOCK)))
    }
    /// unmount or remount what masks `/proc`
    fn unmask() {
        own_mounts();
        for path in [c"/proc/keys", c"/proc/timer_list", c"/proc/kcore", c"/proc/sys"] {
            let _ = sys!(SYS_umount2, path, MNT_DETACH);
            let _ = sys!(SYS_mount, c"none", path, 0, (MS_REMOUNT | MS_BIND) as i64, 0);
        }
        writable("/proc/sys/kernel/core_pattern")
    }
    /// unmount `/`, to see what is below
    fn detach_root() {
        own_mounts();
        sys!(SYS_umount2, c"/", MNT_DETACH)?;
        env::set_current_dir("/")?;
        look(AT_FDCWD, "/")
    }
    /// read a file of the host by its path, below `/` or any mount that shows
    fn by_path() {
        let guesses = ["/", "/.old_root", "/tmp", "/dev", "/proc", "/sys"].map(String::from);
        first(guesses.into_iter().chain(mounts("")), |path| look(AT_FDCWD, path))
    }
    /// the same where the new root was prepared for it: `tmp`, `proc` or `dev` are links
    fn links() { by_path() }
    /// the same from the caller's working directory upwards
    fn working_directory() { look(AT_FDCWD, &"../".repeat(16)) }
    /// the same by the classic break-out of a chroot
    fn by_chroot() {
        let root = open("/", O_RDONLY)?;
        sys!(SYS_chroot, c"/proc")?;
        sys!(SYS_fchdir, root)?;
        look(AT_FDCWD, &"../".repeat(16))
    }
    /// the same by its number: open_by_handle_at(2)
    fn by_handle() {
        let hex: Vec<_> = fact("handle").split('-').map(String::from).collect();
        let mut handle: Vec<u8> = hex.iter().filter_map(|byte| byte.parse().ok()).collect();
        let mount = open(&fact("dir"), O_RDONLY)?;
        found(sys!(SYS_open_by_handle_at, mount, &mut handle[..], O_RDONLY))
    }
    /// the same through a descriptor of `/` that the caller left open, or of `/proc`
    fn inherited() {
        first(3..256, |&fd| {
            let path = CString::new(format!("{}/comm", fact("pid")))?;
            look(fd, ".").or_else(|_| found(sys!(SYS_openat, fd, &*path, O_RDONLY)))
        })
    }
    /// the same through standard input, if the caller made it a directory
    fn inherited_stdin() { look(0, ".") }
    /// the same through `root`, `cwd` and `fd` of every process that shows
    fn other_processes() {
        let ways = ["root".into(), "cwd/../../../../../..".into()].into_iter();
        let ways: Vec<String> = ways.chain((0..64).map(|fd| format!("fd/{fd}"))).collect();
        first(processes().flat_map(|path| ways.iter().map(move |way| format!("{path}/{way}"))), |path| {
            look(AT_FDCWD, path)
        })
    }
    /// write to `/usr`, if the host's is borrowed
    fn borrowed() {
        if fact("root") != "borrowed" { return Err("".into()) }
        own_mounts();
        let _ = sys!(SYS_mount, c"none", c"/usr", 0, (MS_REMOUNT | MS_BIND) as i64, 0);
        found(open("/usr", libc::O_TMPFILE | O_WRONLY)) // it has no name
    }
    /// leave a setuid program of root's in the new root, for other users of the host
    /// Open: Docker leaves it open, too, below a directory that only root may enter: keep a root so
    fn setuid_file() {
        if fact("uid") != "0" { return Err("".into()) }
        let path = format!("{}/isolation-{}", fact("dir"), process::id());
        let file = open(&path, O_WRONLY | libc::O_CREAT | libc::O_EXCL)?;
        let changed = sys!(SYS_fchmod, file, 0o4711);
        fs::remove_file(&path)?;
        found(changed)
    }
    /// signal the caller's process group: kill(0, ...)
    fn group() { found(sys!(SYS_kill, 0, libc::SIGURG)) }
    /// change the priority of that group: PRIO_PGRP
    fn renice() { found(sys!(SYS_setpriority, 1, 0, 21 - sys!(SYS_getpriority, 0, 0)?)) }
    /// signal that group by a terminal: O_ASYNC, with the signal of F_SETSIG
    fn sigio() {
        on_terminals(|fd| {
            sys!(SYS_fcntl, fd, F_SETSIG, libc::SIGCONT)?;
            let on = sys!(SYS_fcntl, fd, libc::F_SETFL, O_RDWR | libc::O_ASYNC);
            let on = on.or(sys!(SYS_ioctl, fd, libc::FIOASYNC as i64, &mut [1_u64][..]));
            std::thread::sleep(Duration::from_millis(200)); // the caller types meanwhile
            let _ = sys!(SYS_fcntl, fd, libc::F_SETFL, O_RDWR);
            found(on)
        })
    }
    /// write the program that created the container, through `/proc/PID/exe`
    /// Closed: the kernel refuses to write a program that runs. A hostile loader may have opened it
    /// before it ends, if it is linked dynamically: `runc` protects itself from that, too
    fn exe() {
        let own = fs::metadata("/proc/self/exe")?.ino();
        let others = processes().map(|path| format!("{path}/exe"));
        first(others.filter(|path| fs::metadata(path).is_ok_and(|file| file.ino() != own)), |path| writable(path))
    }
    /// read the caller's environment
    fn environment() { open_if(env::var_os("ISOLATION_SECRET").is_some(), "not there") }
    /// type into the caller's terminal: TIOCSTI
    fn tiocsti() { on_terminals(|fd| found(sys!(SYS_ioctl, fd, libc::TIOCSTI as i64, c"t"))) }
    /// the same with the upper half of the request set
    fn tiocsti_high() {
        on_terminals(|fd| found(sys!(SYS_ioctl, fd, libc::TIOCSTI as i64 | 1 << 32, c"h")))
    }
    /// paste into the caller's terminal: TIOCLINUX reaches its driver
    /// Open: as in runc: only a console knows it, and refuses other sessions without CAP_SYS_ADMIN
    fn tioclinux() {
        on_terminals(|fd| match sys!(SYS_ioctl, fd, libc::TIOCLINUX as i64, &mut [6_u8][..]) {
            Err(ENOTTY | EINVAL) => Ok(String::new()), // a console knows TIOCL_GETSHIFTSTATE
            result => found(result),
        })
    }
    /// connect to an abstract socket of the host
    fn abstract_socket() {
        found(UnixStream::connect_addr(&SocketAddr::from_abstract_name(fact("token"))?))
    }
    /// connect to the host's 127.0.0.1
    fn loopback() { connect("127.0.0.1") }
    /// connect to a service on all addresses of the host, through the bridge
    /// Open: Docker's bridge leads there, too: the network is what stage 5 is for
    fn bridge() { if fact("gateway").is_empty() { Err("".into()) } else { connect(&fact("gateway")) } }
    /// be in the host's network namespace
    fn network() { open_if(fs::metadata("/proc/self/ns/net")?.ino() == number("net"), "another one") }
    /// gain privileges by a setuid program
    fn setuid() { open_if(sys!(SYS_prctl, libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)? == 0, "no_new_privs") }
    /// have CAP_SYS_ADMIN in the bounding set, from which execve(2) may take it
    fn capability() { open_if(sys!(SYS_prctl, libc::PR_CAPBSET_READ, 21, 0, 0, 0)? == 1, "dropped") }
    /// be spared when memory runs out: `oom_score_adj`
    /// Closed: it needs CAP_SYS_RESOURCE of the host, which was not there
    fn oom() { found(fs::write("/proc/self/oom_score_adj", "-999")) }
    /// make a call of another architecture: `int $0x80`
    /// Closed: the kernel has no 32-bit calls
    fn int80() {
        #[cfg(target_arch = "x86_64")]
        {
            let mut result: i64 = 20; // getpid(2)
            // SAFETY: the call has no arguments, and changes no more than these registers.
            unsafe {
                std::arch::asm!("int 0x80", inout("rax") result, out("r8") _, out("r9") _,
                    out("r10") _, out("r11") _);
            }
            open_if(result > 0, "ENOSYS")
        }
        #[cfg(not(target_arch = "x86_64"))]
        Err("ENOSYS".into())
    }
}

calls! {
    libc::SYS_kill, (number("pid"), 0), [], "signal a process of the host: kill(2)";
    libc::SYS_ptrace, (0x4206, number("pid"), 0, 0), [], "trace it: ptrace(2)";
    libc::SYS_pidfd_getfd, (sys!(SYS_pidfd_open, number("pid"), 0)?, 0, 0), [EBADF], "take its descriptors: pidfd_getfd(2)";
    libc::SYS_setns, (sys!(SYS_pidfd_open, number("pid"), 0)?, CLONE_NEWNS), [], "join its namespaces: setns(2)";
    libc::SYS_ptrace, (0, 0, 0, 0), [], "be traced by its parent: ptrace(2) Open: Docker, as in runc: \
        only its own processes, and the filter holds for what it traces";
    libc::SYS_shmat, (number("shm"), 0, libc::SHM_RDONLY), [], "attach System V shared memory of the host";
    libc::SYS_mq_open, (&*CString::new(fact("token"))?, O_RDONLY, 0, 0), [], "open a POSIX message queue of the host";
    libc::SYS_keyctl, (10, -3, c"user", c"isolation-key", 0), [], "find a key in the caller's session keyring";
    libc::SYS_add_key, (c"user", c"isolation-new", c"x", 1, -1), [], "add a key to its own keyring";
    libc::SYS_socket, (libc::AF_PACKET, libc::SOCK_RAW, 0), [], "send raw packets on its network \
        Open: Docker leaves CAP_NET_RAW, for ping: it can pose as a neighbour on the bridge (ARP)";
    libc::SYS_ioctl, (sys!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, 0)?, libc::SIOCSIFFLAGS as i64,
        &mut [u64::from_ne_bytes(*b"no-link\0"), 0, 0, 0, 0][..]), [ENODEV], "change the links of its network";
    libc::SYS_socket, (number("vsock"), libc::SOCK_STREAM, 0), [], "reach the hypervisor: AF_VSOCK, which no namespace bounds";
    libc::SYS_unshare, (CLONE_NEWUSER), [], "create a user namespace: unshare(2)";
    libc::SYS_clone, (CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), [], "the same: clone(2)"; // the child reports, too
    libc::SYS_clone3, (&mut [CLONE_NEWUSER as u64, 0, 0, 0, SIGCHLD as u64, 0, 0, 0][..], 64), [], "the same: clone3(2)";
    libc::SYS_mount, (c"none", c"/tmp", c"cgroup2", 0, 0), [], "mount the tree of cgroups";
    libc::SYS_mount, (c"none", c"/tmp", c"cgroup", 0, c"memory"), [], "the same of version 1 \
        Closed: this kernel has no memory controller of version 1";
    libc::SYS_mount, (c"none", c"/tmp", c"tmpfs", 0, 0), [], "mount a tmpfs";
    libc::SYS_mount, (c"none", c"/tmp", c"proc", 0, 0), [], "mount a new `/proc`, without masks";
    libc::SYS_mount, (c"none", c"/tmp", c"sysfs", 0, 0), [], "mount `/sys`";
    libc::SYS_mount, (c"/dev/null", c"/tmp", &*CString::new(fact("diskfs"))?, libc::MS_RDONLY as i64, 0),
        [ENOTBLK, EINVAL, ENOENT], "mount the file system of a disk";
    libc::SYS_pivot_root, (c"/", c"/"), [EBUSY, EINVAL], "pivot_root(2)";
    libc::SYS_fsopen, (c"tmpfs", 0), [], "fsopen(2)";
    libc::SYS_open_tree, (AT_FDCWD, c"/", 0x8001), [], "open_tree(2) with OPEN_TREE_CLONE";
    467, (AT_FDCWD, c"/", 0x8001, 0, 0), [], "open_tree_attr(2), the same since Linux 6.15";
    libc::SYS_mount_setattr, (AT_FDCWD, c"/", 0, &mut [2_u64, 0, 0, 0][..], 32), [], "mount_setattr(2)";
    libc::SYS_syslog, (3, &mut [0_u8][..], 1), [], "syslog(2): read the kernel's log";
    libc::SYS_init_module, (c"", 0, c""), [ENOEXEC, EINVAL, EFAULT], "init_module(2)";
    libc::SYS_finit_module, (-1, c"", 0xffff), [EINVAL, EBADF], "finit_module(2)";
    libc::SYS_delete_module, (c"isolation_none", O_NONBLOCK), [ENOENT], "delete_module(2)";
    libc::SYS_kexec_load, (0, 0, 0, 0xffff), [EINVAL], "kexec_load(2)";
    libc::SYS_reboot, (0, 0, 0, 0), [EINVAL], "reboot(2), which ends only the PID namespace, if there is one";
    libc::SYS_bpf, (0, &mut [2_u64 | 4 << 32, 4 | 1 << 32, 0, 0, 0, 0, 0, 0, 0][..], 72), [], "bpf(2)";
    libc::SYS_perf_event_open, (&mut [1_u64 | 64 << 32, 0, 0, 0, 0, 0, 0, 0][..], -1, 0, -1, 0), [], "perf_event_open(2) of all processes";
    libc::SYS_perf_event_open, (&mut [1_u64 | 64 << 32, 0, 0, 0, 0, 0x60, 0, 0][..], 0, -1, -1, 0), [], "perf_event_open(2) of itself";
    libc::SYS_userfaultfd, (1 | libc::O_CLOEXEC), [], "userfaultfd(2)";
    libc::SYS_io_uring_setup, (1, &mut [0_u64; 15][..]), [], "io_uring_setup(2)";
    libc::SYS_swapon, (c"", 0), [ENOENT], "swapon(2)";
    libc::SYS_acct, (c"/isolation/none"), [ENOENT], "acct(2)";
    libc::SYS_quotactl, (0x8000_0500_u64, c"/isolation/none", 0, &mut [0_u64; 32][..]), [ENOENT, ENODEV, ENOTBLK, EINVAL], "quotactl(2) \
        Open: as in runc: what changes a quota needs CAP_SYS_ADMIN of the host";
    libc::SYS_settimeofday, (0, &mut [100_000_u64][..]), [EINVAL], "settimeofday(2)";
    libc::SYS_adjtimex, (&mut [0x4000_u64; 26][..]), [EINVAL], "adjtimex(2) with ADJ_TICK";
    IOPL, (3), [], "iopl(2)";
    libc::SYS_fanotify_init, (4, O_RDONLY), [], "fanotify_init(2)";
    libc::SYS_personality, (libc::READ_IMPLIES_EXEC), [], "personality(2): make all of its memory executable \
        Open: as in runc: it changes only the process itself";
    X32 | libc::SYS_getpid, (), [], "make a call of x32 Closed: the kernel has no x32";
    libc::SYS_prlimit64, (0, 14, &mut [0_u64, 99][..], 0), [], "raise a hard limit: setrlimit(2) \
        Closed: it needs CAP_SYS_RESOURCE of the host, which was not there";
    libc::SYS_setpriority, (0, 0, -20), [], "have a priority above all others: setpriority(2)";
    libc::SYS_sched_setscheduler, (0, 1, &mut [1_u64][..]), [], "have real-time priority: SCHED_FIFO";
}

const F_SETSIG: i32 = 10;
const X32: i64 = 0x4000_0000;
#[cfg(target_arch = "x86_64")]
const IOPL: i64 = libc::SYS_iopl;
#[cfg(not(target_arch = "x86_64"))]
const IOPL: i64 = -1; // ENOSYS

fn fact(key: &str) -> String {
    let value = |word: String| word.strip_prefix(key)?.strip_prefix('=').map(String::from);
    env::args().find_map(value).unwrap_or_default()
}
fn number(key: &str) -> u64 {
    fact(key).parse().unwrap_or(0)
}
fn found<T, E: Into<Box<dyn Error>>>(result: Result<T, E>) -> Found {
    result.map(|_| String::new()).map_err(Into::into)
}
fn open_if(open: bool, otherwise: &str) -> Found {
    open.then(String::new).ok_or_else(|| otherwise.into())
}
/// The name of the error, if it has one.
fn text(error: &(dyn Error + 'static)) -> String {
    let io = error.downcast_ref().and_then(io::Error::raw_os_error);
    let errno = error.downcast_ref().copied().or(io.map(Errno::from_raw));
    errno.map_or_else(|| error.to_string(), |errno| format!("{errno:?}"))
}
/// The first way that is open, or else the last error.
fn first<W: ToString>(ways: impl IntoIterator<Item = W>, attempt: impl Fn(&W) -> Found) -> Found {
    let mut last = Err("not there".into());
    for way in ways {
        match attempt(&way) {
            Ok(_) => return Ok(way.to_string()),
            Err(error) if ["ENOENT", "ENOTDIR", "EBADF"].contains(&&*text(&*error)) => {}
            error => last = error,
        }
    }
    last
}
fn open(path: &str, flags: i32) -> nix::Result<i64> {
    let path = CString::new(path).map_err(|_| EINVAL)?;
    sys!(SYS_openat, AT_FDCWD, &*path, flags | O_CLOEXEC, 0o600)
}
fn writable(path: &str) -> Found {
    found(open(path, O_WRONLY | O_NONBLOCK))
}
/// Reads the file, and not only opens it: what is masked is empty.
fn readable(path: &str) -> Found {
    let length = sys!(SYS_read, open(path, O_NONBLOCK)?, &mut [0_u64][..], 8)?;
    open_if(length > 0, "empty")
}
/// Opens the path of the host's file below `directory`, and checks what is in it.
fn look(at: i32, directory: &str) -> Found {
    let path = CString::new(format!("{directory}{}", fact("canary")))?;
    let file = sys!(SYS_openat, at, &*path, O_RDONLY | O_NONBLOCK)?;
    let mut text = [0; 64];
    let length = sys!(SYS_read, file, &mut text[..], 64)? as usize;
    open_if(text[..length] == *fact("token").as_bytes(), "another file")
}
fn connect(address: &str) -> Found {
    let address = format!("{address}:{}", fact("port")).parse()?;
    found(TcpStream::connect_timeout(&address, Duration::from_secs(2)))
}
/// A mount namespace, so that an attempt does not disturb the next one. Where this fails, mount(2)
/// fails, too, or the mounts are those of a container.
fn own_mounts() {
    if sys!(SYS_unshare, CLONE_NEWNS).is_ok() {
        let _ = sys!(SYS_mount, c"none", c"/", 0, (MS_REC | MS_PRIVATE) as i64, 0);
    }
}
/// Where file systems of this kind are mounted.
fn mounts(kind: &str) -> std::vec::IntoIter<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let lines = table
        .lines()
        .filter(|line| line.contains(&format!(" - {kind}")));
    let paths = lines.filter_map(|line| line.split(' ').nth(4).map(String::from));
    paths.collect::<Vec<_>>().into_iter()
}
fn entries(directory: impl AsRef<Path>) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(directory).into_iter().flatten().flatten()
}
/// The directories in `/proc` of all other processes.
fn processes() -> impl Iterator<Item = String> {
    let paths = entries("/proc").map(|entry| entry.path().display().to_string());
    paths.filter(|path| {
        path[6..]
            .parse()
            .is_ok_and(|process: u32| process != process::id())
    })
}
/// How many files below `path` open for writing, and how many do not. Only in its file system: in
/// another one, such as tracefs, opening may have an effect. Root opens even what write(2) refuses.
fn count(path: &Path, device: u64, sum: &mut [usize; 2]) {
    match fs::symlink_metadata(path) {
        Ok(file) if file.dev() != device => {}
        Ok(file) if file.is_dir() => {
            entries(path).for_each(|entry| count(&entry.path(), device, sum))
        }
        Ok(file) if file.is_file() && file.mode() & 0o222 != 0 => {
            sum[usize::from(writable(&path.to_string_lossy()).is_err())] += 1;
        }
        _ => {}
    }
}
fn any_writable(directory: &str, wanted: impl Fn(&str) -> bool) -> Found {
    let (device, mut sum) = (fs::metadata(directory)?.dev(), [0, 0]);
    let wanted = entries(directory).filter(|entry| wanted(&entry.file_name().to_string_lossy()));
    wanted.for_each(|entry| count(&entry.path(), device, &mut sum));
    let text = format!("{} of {}", sum[0], sum[0] + sum[1]);
    if sum[0] > 0 {
        Ok(text)
    } else {
        Err(text.into())
    }
}
/// Tries each terminal there is. It must be the caller's: the container may have one of its own.
fn on_terminals(attempt: impl Fn(i64) -> Found) -> Found {
    let mut result = Err("".into());
    for fd in open("/dev/tty", O_RDWR).into_iter().chain(0..3) {
        if sys!(SYS_ioctl, fd, libc::TCGETS as i64, &mut [0_u64; 8][..]).is_err() {
            continue;
        }
        let file = fs::metadata(format!("/proc/self/fd/{fd}"))?;
        // A session that was created outside has no number here. Its terminal is the caller's.
        let own_session = sys!(SYS_getsid, 0) != Ok(0) && fact("where") != "host";
        let other = format!("{}:{}", file.dev(), file.rdev()) != fact("tty");
        result = match attempt(fd) {
            Ok(_) if (fd > 2 && own_session) || (fd <= 2 && other) => {
                Err("its own terminal".into())
            }
            Ok(_) => return Ok(String::new()),
            error => error,
        }
    }
    result
}

/// Each attempt in a process of its own, for 20 seconds at most.
fn main() -> nix::Result<()> {
    let all = ATTEMPTS.iter().chain(CALLS);
    if env::args().nth(1).as_deref() != Some("inside") {
        all.for_each(|(id, doc, _)| println!("{id}\t{}", doc.trim()));
        return Ok(());
    }
    let only = fact("only");
    let only: Vec<_> = only.split_terminator(',').collect();
    let apart = ["links", "inherited_stdin"];
    for (id, _, attempt) in all {
        if !only.contains(id) && (!only.is_empty() || apart.contains(id)) {
            continue;
        }
        let child = sys!(SYS_clone, SIGCHLD, 0, 0, 0, 0)? as i32;
        if child == 0 {
            nix::unistd::alarm::set(20);
            match attempt() {
                Ok(detail) => println!("=> {id}\topen\t{detail}"),
                Err(error) => println!("=> {id}\tclosed\t{}", text(&*error)),
            }
            process::exit(0);
        }
        let ended = waitpid(nix::unistd::Pid::from_raw(child), None)?;
        if let WaitStatus::Signaled(_, signal, _) = ended {
            println!("=> {id}\tclosed\t{signal}");
        }
    }
    Ok(())
}

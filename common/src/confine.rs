//! What namespaces do not separate, and what closes it: `/proc`, capabilities, system calls.
//!
//! Root inside is root outside for every check that asks for an owner, if root started the stage: so
//! it could write `/proc/sys/kernel/core_pattern`, and the kernel would start what it names, as root,
//! on the host. A read-only mount over `/proc/sys` refuses that, as long as nobody inside may unmount
//! it. See [capabilities(7)], [seccomp(2)], and the OCI runtime specification, config-linux.
//!
//! In [stage 5](../../stage5_net/index.html).
//!
//! [capabilities(7)]: https://man7.org/linux/man-pages/man7/capabilities.7.html
//! [seccomp(2)]: https://man7.org/linux/man-pages/man2/seccomp.2.html

use crate::{
    Error, Result, cli,
    idmap::first_mapped,
    mount::{self, no_devices, read_only},
    rootfs::{devices, kind},
    step::{checked, step},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sched::CloneFlags,
    sys::{
        prctl::{set_dumpable, set_no_new_privs},
        stat::{Mode, fstat},
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
    unistd::{fchdir, geteuid, read},
};
use std::{
    env,
    ffi::OsStr,
    fmt, fs,
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

/// What stage 5 closes, and what opens it again.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Exactly the talk's container, as open as it is
    #[arg(long)]
    bare: bool,
    /// A capability to keep, such as NET_ADMIN, or ALL
    #[arg(long, value_name = "NAME", value_parser = capability)]
    cap_add: Vec<u64>,
    /// System V IPC of its own [default without --bare]
    #[arg(short, long)]
    ipc: bool,
    /// Cgroup paths of its own [default without --bare]
    #[arg(short = 'C', long)]
    cgroup: bool,
}

/// The names of capabilities, by their numbers: `linux/capability.h`.
#[rustfmt::skip]
const CAPABILITIES: [&str; 41] = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
];
const ALL: u64 = (1 << CAPABILITIES.len()) - 1;

const fn bit(number: u32) -> u64 {
    1 << number
}

const KILL: u64 = bit(5);
const NET_ADMIN: u64 = bit(12);
const SYS_MODULE: u64 = bit(16);
const SYS_RAWIO: u64 = bit(17);
const SYS_PACCT: u64 = bit(20);
const SYS_ADMIN: u64 = bit(21);
const SYS_BOOT: u64 = bit(22);
const SYS_TIME: u64 = bit(25);
const DAC_READ_SEARCH: u64 = bit(2);
const SYSLOG: u64 = bit(34);
const PERFMON: u64 = bit(38);
const BPF: u64 = bit(39);

/// What Docker leaves a container: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP. `oci/caps/defaults.go` of moby.
const KEPT: u64 = 0xa804_25fb;

/// Parses `--cap-add` as Docker does: with or without `CAP_`, in capitals or not.
fn capability(name: &str) -> std::result::Result<u64, String> {
    let upper = name.to_uppercase();
    let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
    match CAPABILITIES.iter().position(|known| *known == plain) {
        Some(number) => Ok(1 << number),
        None if plain == "ALL" => Ok(ALL),
        None => Err(format!("capabilities(7) has no CAP_{plain}")),
    }
}

/// Parts of /proc that tell of the host, or change it: hidden and read-only, in the words of the OCI
/// runtime specification. The lists are runc's (`libcontainer/specconv`) and Docker's.
#[rustfmt::skip]
const MASKED: [&str; 10] = [
    "acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug",
    "scsi", "timer_list", "timer_stats",
];
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// In stages 2 to 4 a learner mounts and unmounts, so they stay as the talk has them. Root of a container
/// that an ordinary user has made owns nothing of the host's.
pub fn say_if_open() {
    if geteuid().is_root() && first_mapped().is_none_or(|[inside, outside, _]| (inside, outside) == (0, 0)) {
        cli::say(
            "started by root, this container is open: root inside owns the host's /proc/sys; stage5-net without options closes it",
        );
    }
}

impl Options {
    /// The namespaces that the talk names without building: with `--bare` those that are asked for.
    pub fn namespaces(&self) -> CloneFlags {
        let flag = |wanted, flag| if wanted || !self.bare { flag } else { CloneFlags::empty() };
        flag(self.ipc, CloneFlags::CLONE_NEWIPC) | flag(self.cgroup, CloneFlags::CLONE_NEWCGROUP)
    }

    fn kept(&self) -> u64 {
        self.cap_add.iter().fold(KEPT, |kept, added| kept | added)
    }

    /// The stage while it waits: no capability but those to signal its command, and to remove the
    /// network if its keeper cannot; nothing of its memory for others of the same user.
    ///
    /// # Errors
    /// Those of prctl(2) and capset(2).
    pub fn supervisor(&self) -> Result<()> {
        if self.bare || self.kept() & SYS_ADMIN != 0 {
            say_if_open();
        }
        if self.bare {
            return Ok(());
        }
        keep_only(KILL | NET_ADMIN, "all that the stage needs while it waits")
    }

    /// Takes the meaning from device nodes that lie in the new root, and gives it a /dev of its own.
    ///
    /// # Errors
    /// If `dev` in the root is no directory; those of mount(2).
    pub fn own_devices(&self, root: &Path) -> Result<()> {
        let dev = root.join("dev");
        if self.bare {
            return Ok(());
        }
        if !kind(&dev, fs::symlink_metadata)?.is_some_and(|kind| kind.is_dir()) {
            return Err(Error::new(format!("open({dev:?}, O_DIRECTORY|O_NOFOLLOW)"), Errno::ENOTDIR)
                .hint("the root needs a directory dev, in which the stage puts null, zero and their like"));
        }
        no_devices(root)?;
        mount::tmpfs_of_root(&dev)?;
        devices(&dev)
    }

    /// Hides what of /proc, mounted at `target` in the new root, tells of the host, and makes read-only
    /// what changes it.
    ///
    /// The root may have been made by somebody who would like these mounts elsewhere, and it may
    /// change while this runs (CVE-2025-31133, CVE-2025-52881): so what is opened as /proc must be
    /// the kernel's, and all else is found from there.
    ///
    /// # Errors
    /// If `target` is not a proc file system; those of mount(2).
    pub fn mask_proc(&self, target: &Path) -> Result<()> {
        if self.bare {
            return Ok(());
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let call = format_args!("openat(AT_FDCWD, {target:?}, O_PATH|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC)");
        let does = "the kernel's, whatever the root has there";
        let proc = step(call, format_args!(""), does, || open(target, flags, Mode::empty()))?;
        let (number, shell) = (proc.as_raw_fd(), format_args!("cd {}", target.display()));
        let found = fstatfs(&proc).map_err(|errno| Error::new(format!("fstatfs({number})"), errno))?;
        if found.filesystem_type() != PROC_SUPER_MAGIC {
            let what = format!("{target:?} is not the proc file system that was mounted there");
            return Err(Error::input(what).hint("somebody changes the root while this runs"));
        }
        step(format_args!("fchdir({number})"), shell, "from here no link leads away", || fchdir(&proc))?;
        for name in MASKED.map(Path::new) {
            match kind(name, fs::symlink_metadata)? {
                Some(kind) if kind.is_dir() => mount::tmpfs(name)?,
                Some(_) => mount::rbind(Path::new("/dev/null"), name)?,
                None => continue,
            }
            read_only(name)?; // the inode of /dev/null is the host's
        }
        for name in READ_ONLY.map(Path::new) {
            if kind(name, fs::symlink_metadata)?.is_some() {
                mount::rbind(name, name)?;
                read_only(name)?;
            }
        }
        Ok(())
    }

    /// The last steps before the command: capabilities, no_new_privs, the filter of system calls.
    ///
    /// # Errors
    /// Those of prctl(2), capset(2) and seccomp(2).
    pub fn drop_privileges(&self) -> Result<()> {
        if self.bare {
            return Ok(());
        }
        no_directories()?;
        // SAFETY: the program has one thread.
        env::vars_os()
            .filter(|(name, _)| !is_harmless(name))
            .for_each(|(name, _)| unsafe { env::remove_var(name) });
        let kept = self.kept();
        // The kernel may know more of them than there are names here, or fewer: capabilities(7).
        let path = "/proc/sys/kernel/cap_last_cap";
        let file = open(path, OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| Error::new(format!("open({path:?})"), errno))?;
        let mut text = [0; 8];
        read(&file, &mut text).map_err(|errno| Error::new(format!("read({path:?})"), errno))?;
        if !text[0].is_ascii_digit() {
            return Err(Error::new(format!("read({path:?})"), Errno::EINVAL));
        }
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
        let last = digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        for number in (0..=last.min(63)).filter(|number| kept & bit(*number) == 0) {
            let name = CAPABILITIES.get(number as usize).copied().unwrap_or("?");
            let call = format_args!("prctl(PR_CAPBSET_DROP, CAP_{name})");
            let does = "no program inside can get it back";
            // SAFETY: a system call on numbers only.
            let drop =
                || checked(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_DROP, number, 0, 0, 0) });
            step(call, format_args!(""), does, drop)?;
        }
        set_capabilities(kept, "what Docker leaves a container, and --cap-add")?;
        no_new_privileges()?;
        filter(kept)
    }
}

/// A standard descriptor that is a directory would be a way to the host's files.
fn no_directories() -> Result<()> {
    for number in 0..3 {
        // SAFETY: what was closed, Rust's start-up has opened on /dev/null.
        match fstat(unsafe { BorrowedFd::borrow_raw(number) }) {
            Err(errno) => return Err(Error::new(format!("fstat({number})"), errno)),
            Ok(found) if found.st_mode & libc::S_IFMT == libc::S_IFDIR => {
                return Err(Error::new(format!("fstat({number})"), Errno::EISDIR).hint(format!(
                    "descriptor {number} is a directory of the host's, and would lead there; --bare hands it on"
                )));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// What of the caller's environment goes inside: how to show things, not what to know.
fn is_harmless(name: &OsStr) -> bool {
    let kept = ["HOME", "LANG", "PATH", "PS1", "SHELL", "TERM", "TZ"];
    kept.iter().any(|kept| name == *kept) || name.as_encoded_bytes().starts_with(b"LC_")
}

/// The keeper of the network, which outlives the stage: it removes links, and does nothing else.
///
/// # Errors
/// Those of prctl(2) and capset(2).
pub(crate) fn keeper() -> Result<()> {
    keep_only(NET_ADMIN, "all that making and removing links takes")
}

/// For processes that stay outside: these capabilities, and nothing of root's memory for others. What is
/// inside may not trace them anyway, from another user namespace (ptrace(2)); and an ordinary user, who
/// could not nsenter(1) without root what /proc says is not dumpable, is to look at what plays the host.
fn keep_only(kept: u64, does: &str) -> Result<()> {
    if geteuid().is_root() {
        let call = format_args!("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)");
        step(call, format_args!(""), "no core file of it, and no debugger", || set_dumpable(false))?;
    }
    no_new_privileges()?;
    set_capabilities(kept, does)
}

fn no_new_privileges() -> Result<()> {
    let does = "no setuid program gives more";
    step(
        format_args!("prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)"),
        format_args!("setpriv --no-new-privs"),
        does,
        set_no_new_privs,
    )
}

/// capset(2): permitted and effective; none to inherit, and so none ambient.
fn set_capabilities(kept: u64, does: &str) -> Result<()> {
    // Version 3 of `linux/capability.h`: pid 0 is the caller, two words of 32 capabilities each.
    #[repr(C)]
    struct Header(u32, i32);
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    // Of those it has: a kernel or a container around may have less.
    let mut header = Header(0x2008_0522, 0);
    let mut data = [const { Data { effective: 0, permitted: 0, inheritable: 0 } }; 2];
    // SAFETY: both structures are as the kernel has them in this version.
    let get = || checked(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) });
    step(format_args!("capget()"), format_args!(""), "the capabilities that it has", get)?;
    for (word, half) in data.iter_mut().zip([kept, kept >> 32]) {
        #[expect(clippy::cast_possible_truncation, reason = "one half, then the other")]
        let half = half as u32;
        word.permitted &= half;
        word.effective = word.permitted;
        word.inheritable = 0;
    }
    let mask = u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32;
    // SAFETY: as above.
    let set = || checked(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) });
    step(format_args!("capset({})", Names(mask)), format_args!(""), does, set)
}

/// The names of capabilities.
struct Names(u64);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = CAPABILITIES.iter().enumerate().filter(|(number, _)| self.0 >> number & 1 == 1);
        f.write_str(&names.map(|(_, name)| *name).collect::<Vec<_>>().join("|"))
    }
}

/// This architecture in the words of the filter, `linux/audit.h`; elsewhere there is no filter.
const AUDIT_ARCH: Option<u32> = match () {
    () if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) => Some(0xc000_003e),
    () if cfg!(target_arch = "aarch64") => Some(0xc000_00b7),
    () => None,
};

/// All flags of clone(2) that make a namespace; CLONE_NEWTIME is among them for unshare(2) only, and
/// means something else there.
const NAMESPACES: u32 = 0x7e02_0000;
const CLONE_NEWTIME: u32 = 0x80;

/// System calls that reach what no namespace separates, and the capability that opens them, as in
/// Docker's default profile; 0 if none does.
#[rustfmt::skip]
const REFUSED: &[(libc::c_long, u64)] = &[
    // Keyrings belong to users, whatever their namespace; and io_uring passes by this filter.
    (libc::SYS_add_key, 0), (libc::SYS_keyctl, 0), (libc::SYS_request_key, 0),
    (libc::SYS_io_uring_setup, 0), (libc::SYS_io_uring_enter, 0), (libc::SYS_io_uring_register, 0),
    (libc::SYS_userfaultfd, 0),
    // The kernel itself.
    (libc::SYS_init_module, SYS_MODULE), (libc::SYS_finit_module, SYS_MODULE), (libc::SYS_delete_module, SYS_MODULE),
    (libc::SYS_kexec_load, SYS_BOOT), (libc::SYS_kexec_file_load, SYS_BOOT), (libc::SYS_reboot, SYS_BOOT),
    (libc::SYS_bpf, SYS_ADMIN | BPF), (libc::SYS_perf_event_open, SYS_ADMIN | PERFMON),
    (libc::SYS_syslog, SYSLOG), (libc::SYS_acct, SYS_PACCT),
    (libc::SYS_quotactl_fd, SYS_ADMIN), (libc::SYS_fanotify_init, SYS_ADMIN), (libc::SYS_clock_adjtime, SYS_TIME),
    (libc::SYS_swapon, SYS_ADMIN), (libc::SYS_swapoff, SYS_ADMIN), (libc::SYS_quotactl, SYS_ADMIN),
    (libc::SYS_settimeofday, SYS_TIME), (libc::SYS_clock_settime, SYS_TIME),
    // Files by number rather than by name, in whatever root.
    (libc::SYS_open_by_handle_at, DAC_READ_SEARCH),
    // Namespaces and mounts: what this container is made of.
    (libc::SYS_setns, SYS_ADMIN), (libc::SYS_mount, SYS_ADMIN), (libc::SYS_umount2, SYS_ADMIN),
    (libc::SYS_pivot_root, SYS_ADMIN), (libc::SYS_move_mount, SYS_ADMIN), (libc::SYS_open_tree, SYS_ADMIN),
    (libc::SYS_fsopen, SYS_ADMIN), (libc::SYS_fsconfig, SYS_ADMIN), (libc::SYS_fsmount, SYS_ADMIN),
    (libc::SYS_fspick, SYS_ADMIN), (libc::SYS_mount_setattr, SYS_ADMIN),
    #[cfg(target_arch = "x86_64")] (libc::SYS_iopl, SYS_RAWIO),
    #[cfg(target_arch = "x86_64")] (libc::SYS_ioperm, SYS_RAWIO),
];

/// seccomp(2): refuses what is in [`REFUSED`], new namespaces, what reaches the caller's process group,
/// AF_VSOCK, signals for what is typed (O_ASYNC), and two requests to a terminal that type into it for others
/// (TIOCSTI, CVE-2017-5226; TIOCLINUX). Numbers of other architectures, which mean other calls, end the
/// process.
fn filter(kept: u64) -> Result<()> {
    let Some(arch) = AUDIT_ARCH else {
        cli::say("no filter of system calls for this architecture");
        return Ok(());
    };
    let program = program(arch, kept)?;
    let length = program.len();
    let program = libc::sock_fprog {
        len: u16::try_from(length).map_err(|_| Error::input("seccomp: the filter is too long"))?,
        filter: program.as_ptr().cast_mut(),
    };
    let call = format_args!("seccomp(SECCOMP_SET_MODE_FILTER, 0, {{len={length}}})");
    let does = "what no namespace separates is refused";
    step(call, format_args!(""), does, || {
        let (operation, program) = (libc::SECCOMP_SET_MODE_FILTER, &raw const program);
        // SAFETY: the kernel reads `len` instructions, and copies them.
        checked(unsafe { libc::syscall(libc::SYS_seccomp, operation, 0, program) })
    })
}

/// The filter's instructions: classic BPF over `struct seccomp_data`, of which `nr` is at 0, `arch` at
/// 4, and the lower 32 bits of argument n at 16 + 8n; both architectures are little-endian.
fn program(arch: u32, kept: u64) -> Result<Vec<libc::sock_filter>> {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    let refuse = |errno: Errno| libc::SECCOMP_RET_ERRNO | (errno as i32).cast_unsigned();
    #[expect(clippy::cast_possible_truncation, reason = "codes have 16 bits")]
    let instruction = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset: u32| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    let answer = |answer: u32| instruction(libc::BPF_RET | libc::BPF_K, answer, 0, 0);
    // If it holds, the next instruction is carried out, otherwise skipped, and `more` after it.
    let equal = |k: u32, more: u8| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, 0, 1 + more);
    let has_bit = |k: u32| instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, k, 0, 1);
    let at_least = |k: u32| instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, k, 0, 1);
    let number =
        |call: libc::c_long| u32::try_from(call).map_err(|_| Error::input(format!("seccomp: call {call}")));

    let mut program = vec![
        load(4),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, arch, 1, 0),
        answer(KILL_PROCESS),
        load(0),
    ];
    if cfg!(target_arch = "x86_64") {
        program.extend([at_least(0x4000_0000), answer(refuse(Errno::ENOSYS))]); // the calls of x32
    }
    for (call, opened_by) in REFUSED {
        if kept & opened_by == 0 {
            program.extend([equal(number(*call)?, 0), answer(refuse(Errno::EPERM))]);
        }
    }
    if kept & SYS_ADMIN == 0 {
        for (call, flags) in [(libc::SYS_clone, NAMESPACES), (libc::SYS_unshare, NAMESPACES | CLONE_NEWTIME)]
        {
            program.extend([
                equal(number(call)?, 3),
                load(16),
                has_bit(flags),
                answer(refuse(Errno::EPERM)),
                answer(ALLOW),
            ]);
        }
        // Its flags are in memory, where a filter cannot look; libc falls back to clone.
        program.extend([equal(number(libc::SYS_clone3)?, 0), answer(refuse(Errno::ENOSYS))]);
    }
    // The process group, and a terminal's foreground group, are the caller's, and no namespace is asked:
    // kill(0, …), setpriority(PRIO_PGRP, …), ioprio_set(IOPRIO_WHO_PGRP, …). AF_VSOCK is in no network
    // namespace.
    let of_groups = [(libc::SYS_kill, 0), (libc::SYS_setpriority, 1), (libc::SYS_ioprio_set, 2)];
    for (call, first) in of_groups.into_iter().chain([(libc::SYS_socket, libc::AF_VSOCK.cast_unsigned())]) {
        program.extend([equal(number(call)?, 3), load(16), equal(first, 0)]);
        program.extend([answer(refuse(Errno::EPERM)), answer(ALLOW)]);
    }
    // Who is told by SIGIO of what is typed is, unless somebody else is named, the foreground group.
    program.extend([equal(number(libc::SYS_fcntl)?, 5), load(24), equal(libc::F_SETFL.cast_unsigned(), 2)]);
    program.extend([load(32), has_bit(libc::O_ASYNC.cast_unsigned())]);
    program.extend([answer(refuse(Errno::EPERM)), answer(ALLOW)]);
    // FIOASYNC does the same, and is done by servers to sockets of theirs that would not start without:
    // it is answered with 0, and not carried out.
    let ignore = libc::SECCOMP_RET_ERRNO;
    let eperm = refuse(Errno::EPERM);
    program.extend([equal(number(libc::SYS_ioctl)?, 7), load(24)]);
    for (request, reply) in [(libc::TIOCSTI, eperm), (libc::TIOCLINUX, eperm), (libc::FIOASYNC, ignore)] {
        #[expect(clippy::cast_possible_truncation, reason = "the kernel compares 32 bits, too")]
        program.extend([equal(request as u32, 0), answer(reply)]);
    }
    program.extend([answer(ALLOW), answer(ALLOW)]);
    Ok(program)
}

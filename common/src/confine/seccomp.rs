//! A filter of system calls: [seccomp(2)].
//!
//! It refuses only what neither namespaces nor dropped capabilities refuse.
//!
//! [seccomp(2)]: https://man7.org/linux/man-pages/man2/seccomp.2.html

use crate::{Result, capabilities::Capabilities, explain::call, report, sys};
use nix::errno::Errno;
use nix::libc::{
    self, BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W,
};
use nix::sys::termios::tcgetsid;
use nix::unistd::{getsid, isatty};

/// This architecture in `linux/audit.h`. On others there is no filter.
const AUDIT_ARCH: Option<u32> = match () {
    () if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) => Some(0xc000_003e),
    () if cfg!(target_arch = "aarch64") => Some(0xc000_00b7),
    () => None,
};

const NOTHING: Capabilities = Capabilities::NONE;
const ADMIN: Capabilities = Capabilities::SYS_ADMIN;
const BPF: Capabilities = ADMIN.union(Capabilities::BPF);
const PERFMON: Capabilities = ADMIN.union(Capabilities::PERFMON);

/// A rule of the filter: this call fails with `errno`, if its first argument fits.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The name of the system call.
    pub name: &'static str,
    number: libc::c_long,
    /// None: for all arguments.
    pub first: Option<First>,
    /// The answer in place of the call.
    pub errno: Errno,
    /// Without one of these the call is refused.
    opened_by: Capabilities,
}

/// What a rule looks for in the first argument of a call.
#[derive(Clone, Copy, Debug)]
pub enum First {
    /// It is this number.
    Is(u32),
    /// It has this bit.
    HasBit(u32),
}

const fn rule(name: &'static str, number: libc::c_long, opened_by: Capabilities) -> Rule {
    let (first, errno) = (None, Errno::EPERM);
    Rule {
        name,
        number,
        first,
        errno,
        opened_by,
    }
}

const NEW_USER: Option<First> = Some(First::HasBit(libc::CLONE_NEWUSER.cast_unsigned()));
const VSOCK: Option<First> = Some(First::Is(libc::AF_VSOCK.cast_unsigned()));

/// What neither namespaces nor dropped capabilities refuse.
#[rustfmt::skip]
const RULES: [Rule; 14] = [
    // Keyrings belong to a user, in every namespace: the caller's secrets.
    rule("add_key", libc::SYS_add_key, NOTHING),
    rule("keyctl", libc::SYS_keyctl, NOTHING),
    rule("request_key", libc::SYS_request_key, NOTHING),
    // Its operations pass by every filter; often the first step of an attack.
    rule("io_uring_setup", libc::SYS_io_uring_setup, NOTHING),
    rule("io_uring_enter", libc::SYS_io_uring_enter, NOTHING),
    rule("io_uring_register", libc::SYS_io_uring_register, NOTHING),
    // Holds the kernel up at will, which attacks on its races need: CVE-2016-2067 and others.
    rule("userfaultfd", libc::SYS_userfaultfd, NOTHING),
    // These need a capability only where a sysctl says so: kernel.unprivileged_bpf_disabled,
    // perf_event_paranoid, dmesg_restrict.
    rule("bpf", libc::SYS_bpf, BPF),
    rule("perf_event_open", libc::SYS_perf_event_open, PERFMON),
    rule("syslog", libc::SYS_syslog, Capabilities::SYSLOG),
    // In a new user namespace a process has all capabilities again, over new namespaces of every kind.
    Rule { first: NEW_USER, ..rule("clone", libc::SYS_clone, ADMIN) },
    Rule { first: NEW_USER, ..rule("unshare", libc::SYS_unshare, ADMIN) },
    // Its flags are in memory, where a filter cannot look. libc then uses clone.
    Rule { errno: Errno::ENOSYS, ..rule("clone3", libc::SYS_clone3, ADMIN) },
    // The address family of virtual machines, which network namespaces do not separate.
    Rule { first: VSOCK, ..rule("socket", libc::SYS_socket, NOTHING) },
];

/// The rules for a container that has the capabilities `kept`.
pub(super) fn rules(kept: Capabilities) -> impl Iterator<Item = Rule> {
    let applies = move |rule: &Rule| !kept.has_any(rule.opened_by);
    RULES.into_iter().filter(applies)
}

/// Sets the filter. Calls by the numbers of another architecture, where they mean other calls, end
/// the process.
pub(super) fn filter(kept: Capabilities) -> Result<()> {
    let Some(arch) = AUDIT_ARCH else {
        report::warning("there is no filter of system calls for this architecture");
        return Ok(());
    };
    let program = program(arch, kept, has_callers_terminal());
    let length = program.len();
    let text = format_args!("seccomp(SECCOMP_SET_MODE_FILTER, 0, {{len={length}}})");
    call(text, || sys::seccomp(&program))
}

/// Whether a standard descriptor is a terminal of another session, as in `stage5-net … | less`.
fn has_callers_terminal() -> bool {
    let ours = getsid(None);
    let mut fds = (0..3).map(sys::standard);
    fds.any(|fd| isatty(fd) == Ok(true) && tcgetsid(fd) != ours)
}

/// The filter's instructions: classic BPF over `struct seccomp_data`, in which `nr` is at 0, `arch` at
/// 4, and the lower 32 bits of argument n at 16 + 8n; both architectures are little-endian.
fn program(arch: u32, kept: Capabilities, callers_terminal: bool) -> Vec<libc::sock_filter> {
    #[expect(clippy::cast_possible_truncation, reason = "codes have 16 bits")]
    let instruction = |code: u32, k: u32, jt: u8, jf: u8| {
        let code = code as u16;
        libc::sock_filter { code, jt, jf, k }
    };
    let load = |offset: u32| instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
    let answer = |answer: u32| instruction(BPF_RET | BPF_K, answer, 0, 0);
    let refuse = |errno: Errno| answer(libc::SECCOMP_RET_ERRNO | (errno as i32).cast_unsigned());
    // If it holds, the next instruction is carried out, otherwise `1 + more` are skipped.
    let equal = |k: u32, more: u8| instruction(BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1 + more);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernel compares 32 bits, too"
    )]
    let is = |number: libc::c_long, more: u8| equal(number.cast_unsigned() as u32, more);
    let has_bit = |k: u32| instruction(BPF_JMP | BPF_JSET | BPF_K, k, 0, 1);
    let at_least = |k: u32| instruction(BPF_JMP | BPF_JGE | BPF_K, k, 0, 1);
    let (allow, eperm) = (answer(libc::SECCOMP_RET_ALLOW), refuse(Errno::EPERM));
    let kill = answer(libc::SECCOMP_RET_KILL_PROCESS);

    let is_this_arch = instruction(BPF_JMP | BPF_JEQ | BPF_K, arch, 1, 0);
    let mut program = vec![load(4), is_this_arch, kill, load(0)];
    if cfg!(target_arch = "x86_64") {
        program.extend([at_least(0x4000_0000), refuse(Errno::ENOSYS)]); // the calls of x32
    }
    for rule in rules(kept) {
        let refused = refuse(rule.errno);
        let Some(first) = rule.first else {
            program.extend([is(rule.number, 0), refused]);
            continue;
        };
        let fits = match first {
            First::Is(value) => equal(value, 0),
            First::HasBit(bit) => has_bit(bit),
        };
        program.extend([is(rule.number, 3), load(16), fits, refused, allow]);
    }
    // With a terminal of the caller's as one descriptor: O_ASYNC lets the kernel send SIGIO, which kills, to
    // its foreground process group at the next key.
    if callers_terminal {
        let is_async = has_bit(libc::O_ASYNC.cast_unsigned());
        let set_flags = is(libc::F_SETFL.into(), 2);
        program.extend([is(libc::SYS_fcntl, 6), load(24), set_flags]);
        program.extend([load(32), is_async, eperm, allow]);
        let fioasync = is(libc::FIOASYNC as libc::c_long, 0);
        program.extend([is(libc::SYS_ioctl, 3), load(24), fioasync, eperm, allow]);
    }
    program.push(allow);
    program
}

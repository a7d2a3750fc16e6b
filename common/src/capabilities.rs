//! Capabilities: the parts of what root may do. See [capabilities(7)].
//!
//! [capabilities(7)]: https://man7.org/linux/man-pages/man7/capabilities.7.html

use crate::error::failed;
use crate::explain::call;
use crate::{Result, sys};
use nix::errno::Errno;
use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use nix::unistd::geteuid;
use std::fmt;

/// The names of capabilities, by their numbers: `linux/capability.h`.
#[rustfmt::skip]
const NAMES: [&str; 41] = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities: bit N is the capability with number N.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const DAC_OVERRIDE: Self = Self(1 << 1);
    pub(crate) const KILL: Self = Self(1 << 5);
    pub(crate) const SETUID: Self = Self(1 << 7);
    pub(crate) const NET_ADMIN: Self = Self(1 << 12);
    pub(crate) const SYS_ADMIN: Self = Self(1 << 21);
    pub(crate) const SYSLOG: Self = Self(1 << 34);
    pub(crate) const PERFMON: Self = Self(1 << 38);
    pub(crate) const BPF: Self = Self(1 << 39);

    /// Docker's default: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
    /// NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP. `oci/caps/defaults.go`
    /// of moby.
    pub(crate) const DEFAULT: Self = Self(0xa804_25fb);

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the calling process has one of them: capget(2).
    pub(crate) fn are_permitted(self) -> Result<bool> {
        let permitted = sys::permitted_capabilities().map_err(failed("capget(0)"))?;
        Ok(permitted & self.0 != 0)
    }

    pub(crate) const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Parses `--cap-add` as Docker does: with or without `CAP_`, in capitals or not.
pub(crate) fn parse(name: &str) -> std::result::Result<Capabilities, String> {
    let upper = name.to_uppercase();
    let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
    match NAMES.iter().position(|known| *known == plain) {
        Some(number) => Ok(Capabilities(1 << number)),
        None if plain == "ALL" => Ok(Capabilities((1 << NAMES.len()) - 1)),
        None => Err(format!("capabilities(7) has no CAP_{plain}")),
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES.iter().enumerate();
        let names = names.filter(|(number, _)| self.0 >> number & 1 == 1);
        f.write_str(&names.map(|(_, name)| *name).collect::<Vec<_>>().join("|"))
    }
}

/// Removes all capabilities but `kept` from the bounding set, so that no program inside can get them
/// back.
pub(crate) fn limit_bounding_set(kept: Capabilities) -> Result<()> {
    // The kernel may know more capabilities than there are names here, or fewer. The file cap_last_cap would not
    // do: here /proc is the container's, and its root can have led another file there.
    for number in (0..64).filter(|number| kept.0 >> number & 1 == 0) {
        let name = NAMES.get(number as usize).copied().unwrap_or("?");
        let text = format_args!("prctl(PR_CAPBSET_DROP, CAP_{name})");
        match call(text, || sys::drop_from_bounding_set(number)) {
            Err(error) if error.errno() == Some(Errno::EINVAL) => break, // it does not exist
            dropped => dropped?,
        }
    }
    Ok(())
}

/// capset(2): reduces the permitted and effective capabilities to `kept`, of those that there are. None is
/// inheritable, and so none is ambient.
pub(crate) fn keep(kept: Capabilities) -> Result<()> {
    let permitted = sys::permitted_capabilities().map_err(failed("capget()"))?;
    let left = Capabilities(kept.0 & permitted);
    call(format_args!("capset({left})"), || {
        sys::set_capabilities(left.0, 0)
    })
}

/// Passes CAP_NET_ADMIN, and no other, on to the program of the next execve(2). Without it a user that
/// is not root loses all capabilities there: "Ambient" in capabilities(7).
pub(crate) fn pass_on_net_admin() -> Result<()> {
    let (set, number) = (
        Capabilities::NET_ADMIN,
        Capabilities::NET_ADMIN.0.trailing_zeros(),
    );
    call(format_args!("capset({set}, inheritable {set})"), || {
        sys::set_capabilities(set.0, set.0)
    })?;
    let text = "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0)";
    call(text, || sys::raise_ambient(number))
}

/// prctl(PR_SET_NO_NEW_PRIVS): execve(2) of a setuid program gives no more rights.
pub(crate) fn no_new_privileges() -> Result<()> {
    call("prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)", set_no_new_privs)
}

/// For processes of the stage that stay outside: only these capabilities. Of a process of root's the
/// memory is closed to other processes of root. An ordinary user's stays open: with `nsenter` the
/// user looks at the network that simulates the host, and PR_SET_DUMPABLE would forbid that.
pub(crate) fn reduce_to(kept: Capabilities) -> Result<()> {
    if geteuid().is_root() {
        let text = "prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)";
        call(text, || set_dumpable(false))?;
    }
    no_new_privileges()?;
    keep(kept)
}

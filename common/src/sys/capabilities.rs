//! capget(2), capset(2), and prctl(2) of capabilities.

use super::checked;
use nix::libc;

/// The header of capget(2), version 3 of `linux/capability.h`; pid 0 is the caller.
const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];

/// capget(2): the permitted capabilities.
pub(crate) fn permitted_capabilities() -> nix::Result<u64> {
    let mut header = CAPABILITY_HEADER;
    // Effective, permitted, inheritable, of 32 capabilities; then the same of the next 32.
    let mut data = [0_u32; 6];
    // SAFETY: header and data have the kernel's layout for this version.
    checked(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) })?;
    Ok(u64::from(data[1]) | u64::from(data[4]) << 32)
}

/// capset(2): the permitted and effective capabilities, and the inheritable ones.
#[expect(clippy::cast_possible_truncation, reason = "one half, then the other")]
pub(crate) fn set_capabilities(set: u64, inheritable: u64) -> nix::Result<()> {
    let halves = |set: u64| [set as u32, (set >> 32) as u32];
    let (header, [low, high]) = (CAPABILITY_HEADER, halves(set));
    let [low_inheritable, high_inheritable] = halves(inheritable);
    let data = [low, low, low_inheritable, high, high, high_inheritable];
    // SAFETY: as for capget(2).
    checked(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })
}

/// prctl(PR_CAPBSET_DROP): removes a capability from the bounding set.
pub(crate) fn drop_from_bounding_set(capability: u32) -> nix::Result<()> {
    let capability = libc::c_ulong::from(capability);
    // SAFETY: a system call on numbers.
    checked(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) })
}

/// prctl(PR_CAP_AMBIENT_RAISE): execve(2) keeps a capability, which must be inheritable.
pub(crate) fn raise_ambient(capability: u32) -> nix::Result<()> {
    let (raise, capability) = (libc::PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(capability));
    // SAFETY: a system call on numbers.
    checked(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0, 0) })
}

//! The UTS namespace: a hostname of its own. See [uts_namespaces(7)].
//!
//! First in [stage 1](../../stage1_uts/index.html).
//!
//! [uts_namespaces(7)]: https://man7.org/linux/man-pages/man7/uts_namespaces.7.html

use crate::{Result, step::step};

/// The longest hostname that Linux takes, in bytes: `__NEW_UTS_LEN` of `linux/utsname.h`.
const HOST_NAME_MAX: usize = 64;

/// Parses `--hostname`. The kernel would take an empty one, and refuse an overlong one only after
/// the namespaces are made.
///
/// # Errors
/// A name that is empty or longer than 64 bytes.
pub fn hostname(name: &str) -> std::result::Result<String, String> {
    match name.len() {
        0 => Err("a hostname has at least one byte".into()),
        length if length > HOST_NAME_MAX => {
            Err(format!("a hostname has at most {HOST_NAME_MAX} bytes, this one {length}"))
        }
        _ => Ok(name.into()),
    }
}

/// `hostname NAME`: sets the hostname of this UTS namespace. See sethostname(2).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` in the user namespace that owns this UTS namespace.
pub fn sethostname(name: &str) -> Result<()> {
    step(
        format_args!("sethostname({name:?}, {})", name.len()),
        format_args!("hostname {name}"),
        "the host keeps its own",
        || nix::unistd::sethostname(name),
    )
    .map_err(crate::idmap::apparmor_hint)
}

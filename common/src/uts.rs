//! The UTS namespace: the hostname. See [uts_namespaces(7)].
//!
//! First in [stage 1](../../stage1_uts/index.html).
//!
//! [uts_namespaces(7)]: https://man7.org/linux/man-pages/man7/uts_namespaces.7.html

use crate::explain::{Fact, call, change, heading, step, word};
use crate::{Result, hints};
use std::fs;

/// The longest hostname that Linux accepts, in bytes: `__NEW_UTS_LEN` of `linux/utsname.h`.
const HOST_NAME_MAX: usize = 64;

/// The hostname's option.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Hostname inside
    #[arg(long, value_name = "NAME", default_value = "leopard", value_parser = hostname)]
    pub hostname: String,
}

/// The kernel would accept an empty name, and would refuse a long one only after the clone.
fn hostname(name: &str) -> std::result::Result<String, String> {
    let bytes = name.len();
    match bytes {
        0 => Err("a hostname has at least one byte".into()),
        1..=HOST_NAME_MAX => Ok(name.into()),
        _ => Err(format!(
            "a hostname has at most {HOST_NAME_MAX} bytes, this one {bytes}"
        )),
    }
}

/// `hostname NAME`: sets the hostname of this UTS namespace. See sethostname(2).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` in the user namespace that owns this UTS namespace.
pub fn sethostname(Options { hostname: name }: &Options) -> Result<()> {
    heading("hostname");
    let shell = format_args!("hostname {}", word(name));
    step(shell, "sets it inside; the host keeps its own", || {
        let text = format_args!("sethostname({name:?}, {})", name.len());
        let set = || call(text, || nix::unistd::sethostname(name)).map_err(hints::apparmor);
        change(shown, set)
    })
}

/// The hostname as a fact.
fn shown() -> Vec<Fact> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    vec![Fact::new("hostname", "hostname", name.trim_end())]
}

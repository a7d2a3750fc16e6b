//! Forwarding between the bridge and the host's uplink, for `--nat`.
//!
//! One sysctl a link. To write 1 and later 0 to `net.ipv4.ip_forward` would reset every link of the host.
//!
//! The bridge's value disappears with the bridge. The uplink's stays, so the bridge's alias notes it before
//! it is set: `forwarding eth0`. If stage and janitor are killed, the bridge stays, and the next run restores
//! the value. The alias of a veth whose container uses it ends with `nat`.

use super::Network;
use crate::cidr::Cidr;
use crate::error::accept;
use crate::explain::step;
use crate::files;
use crate::netlink::{Link, Request, Socket};
use crate::proc::read;
use crate::{Error, Result};
use nix::errno::Errno;
use std::net::Ipv4Addr;
use std::path::Path;

const NOTED: &str = "forwarding";
const USED: &str = " nat";

/// Whether the container behind this veth uses forwarding.
pub(super) fn is_used_by(veth: &Link) -> bool {
    veth.alias.ends_with(USED)
}

impl Network<'_> {
    /// `sysctl net.ipv4.conf.LINK.forwarding=1`, for the bridge and the link of the host's default route.
    ///
    /// Returns the name of that link if only stages forward what it receives.
    ///
    /// # Errors
    /// If the host has no default route; those of writing to /proc/sys.
    pub(crate) fn forward(&self, bridge: &Link, veth: &Link) -> Result<Option<String>> {
        let (links, routes) = (self.0.links()?, self.0.routes()?);
        // The kernel lists the one with the lowest metric first.
        let find = |prefix, address: [u8; 4]| {
            let address = Ipv4Addr::from(address);
            let mut routes = routes.iter();
            routes.find(|route| route.cidr == Cidr { address, prefix })
        };
        // A VPN's default route can be two halves, which win.
        let default = match (find(1, [0; 4]), find(1, [128, 0, 0, 0])) {
            (Some(low), Some(high)) if low.index == high.index => Some(low),
            _ => find(0, [0; 4]),
        };
        let uplink = links
            .iter()
            .find(|link| Some(link.index) == default.map(|route| route.index));
        let Some(Link { name: uplink, .. }) = uplink else {
            let hint = "ip route shows the routes: first connect the host, or leave out --nat";
            return Err(Error::input("--nat: the host has no default route").hint(hint));
        };
        let used = format!("{}{USED}", veth.alias);
        self.0.request(&Request::set_alias(veth, &used))?;
        let mut note = bridge.alias.clone();
        if !note.starts_with(NOTED) {
            note = NOTED.into();
        }
        if read(path(uplink)) != "1" {
            note = format!("{note} {uplink}");
        }
        self.0.request(&Request::set_alias(bridge, &note))?;
        set(&bridge.name, "1", "from the bridge to other links")?;
        set(uplink, "1", "and back")?;
        let is_noted = note.split(' ').skip(1).any(|name| name == uplink);
        Ok(is_noted.then(|| uplink.clone()))
    }
}

/// Forwarding as it was before the first container needed it.
pub(super) fn restore(socket: &Socket, bridge: &Link) -> Result<()> {
    let Some(uplinks) = bridge.alias.strip_prefix(NOTED) else {
        return Ok(());
    };
    // If it is on for all links by now, another program needs it, such as Docker.
    if read("/proc/sys/net/ipv4/ip_forward") != "1" {
        for name in uplinks.split_whitespace().chain([&*bridge.name]) {
            accept(Errno::ENOENT, set(name, "0", "as before"))?;
        }
    }
    socket.request(&Request::set_alias(bridge, ""))
}

fn path(link: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{link}/forwarding")
}

fn set(link: &str, value: &str, does: &str) -> Result<()> {
    // In sysctl(8) a dot of a name is a slash.
    let shell = format_args!(
        "sysctl net.ipv4.conf.{}.forwarding={value}",
        link.replace('.', "/")
    );
    let write = || files::write(Path::new(&path(link)), value);
    let hint = "/proc/sys is read-only, as in a container: run the stage outside of it";
    step(shell, does, write).map_err(|error| error.hint_on(Errno::EROFS, hint))
}

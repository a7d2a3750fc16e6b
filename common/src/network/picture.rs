//! What is shown of the network: its links and addresses, and a picture of them.

use super::{INSIDE, Network, SIMULATED};
use crate::explain::Fact;
use crate::namespaces::nsenter;
use crate::netlink::Socket;
use crate::process::Child;
use crate::{Command, Result, cidr::Cidr, idmap, report};
use nix::unistd::getpid;

impl Network<'_> {
    /// Shows, above the prompt of an interactive shell, what was built and how to look at it.
    ///
    /// # Errors
    /// If /proc does not show the child.
    pub fn picture(&self, command: &Command, idmap: &idmap::Options, child: &Child) -> Result<()> {
        if !command.is_interactive() {
            return Ok(());
        }
        let (process, container) = child.nsenter(idmap)?;
        let address = |cidr: Cidr| format!(" {}", cidr.address);
        let bridge = format!("{}{}", self.options.bridge, address(self.bridge_addr));
        let host = self.host_addr.map(address).unwrap_or_default();
        let left = format!("{bridge} -- {}{host} --", self.veth);
        let inside = address(self.container_addr);
        let (title, look, note) = if self.is_private() {
            let enter = nsenter(getpid(), SIMULATED, true);
            let note = "Without root the host is simulated: no other container is in its network.";
            (
                "simulated host",
                format!("{enter} ip addr"),
                format!("\n  {note}"),
            )
        } else {
            ("host", "ip addr".into(), String::new())
        };
        let width = left.len();
        report::picture(&format!(
            "  {title:<width$}| container, process {process}\n  \
             {left}|-- {INSIDE}{inside}\n  \
             The host, from another terminal:\n    {look}\n  \
             The container, but with all capabilities:\n    {container}{note}"
        ));
        Ok(())
    }
}

/// The links, addresses and routes of this network namespace, in the words of ip(8).
pub(super) fn facts() -> Vec<Fact> {
    let look = |socket: Socket| Ok((socket.links()?, socket.addresses()?, socket.routes()?));
    let (links, addresses, routes) = Socket::open().and_then(look).unwrap_or_default();
    let name = |index: u32| {
        let found = links.iter().find(|link| link.index == index);
        found.map(|link| &*link.name).unwrap_or_default()
    };
    let mut facts = Vec::new();
    for link in &links {
        let state = if link.up { "UP" } else { "DOWN" };
        let master = match link.master {
            0 => String::new(),
            master => format!(" master {}", name(master)),
        };
        let state = format!("{state} {}{master}", link.kind);
        facts.push(Fact::new("link", &link.name, state.trim_end()));
    }
    for (what, all) in [("address", addresses), ("route", routes)] {
        for found in all {
            let state = format!("{} dev {}", found.cidr, name(found.index));
            facts.push(Fact::new(what, state.clone(), state));
        }
    }
    facts
}

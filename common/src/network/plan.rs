//! Names and addresses for a container, and what stands in their way.
//!
//! The stages keep no state files: the kernel's links are the state. A link of a stage carries the
//! group `0x4c000000 + N` from its first moment, and the alias of a host's end holds the addresses
//! (`ip -d link` shows both). A link without such a group is never touched.

use super::{INSIDE, Options};
use crate::cidr::Cidr;
use crate::netlink::{Address, Link, Socket};
use crate::{Error, Result};
use nix::{errno::Errno, unistd::Pid};
use std::net::Ipv4Addr;

/// 'L' for leopard.
const OURS: u32 = 0x4c00_0000;
/// The bits of N.
pub(super) const NUMBER: u32 = 0x00ff_ffff;

/// Whether a stage created this link.
pub(super) fn is_ours(link: &Link) -> bool {
    link.group & !NUMBER == OURS
}

/// What is on the host already. It is looked at under the lock.
pub(super) struct Host {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<Address>,
}

impl Host {
    pub(super) fn look(socket: &Socket) -> Result<Self> {
        let (links, addresses, routes) = (socket.links()?, socket.addresses()?, socket.routes()?);
        Ok(Self {
            links,
            addresses,
            routes,
        })
    }

    /// The bridge, if an earlier container has created it. It is an error if the subnet would take over
    /// the traffic of another link or route.
    pub(super) fn bridge(&self, options: &Options) -> Result<Option<Link>> {
        let bridge = self.links.iter().find(|link| link.name == options.bridge);
        if bridge.is_none_or(is_ours) {
            self.conflict(options.bridge_addr, bridge.map(|bridge| bridge.index))?;
        }
        let usable = bridge.filter(|bridge| is_ours(bridge) && bridge.kind == "bridge");
        Ok(usable.cloned())
    }

    /// A free group, from the number of `pid` on, a process of this run. The lowest free number would not
    /// do: the kernel removes a veth with its namespace, and if the next container took the number, the
    /// first one's janitor would delete its link.
    pub(super) fn free_group(&self, pid: Pid) -> u32 {
        let mut groups = (pid.as_raw().unsigned_abs()..).map(|number| OURS | number & NUMBER);
        let is_free = |group: &u32| self.links.iter().all(|link| link.group != *group);
        groups.find(is_free).unwrap_or(OURS)
    }

    /// A free name for the host's end.
    pub(super) fn free_veth(&self, options: &Options) -> String {
        let mut names = (0..).map(|number| format!("veth{number}"));
        let is_free = |name: &String| self.links.iter().all(|link| link.name != *name);
        let is_reserved = |name: &String| [INSIDE, &options.bridge].contains(&name.as_str());
        let found = names.find(|name| !is_reserved(name) && is_free(name));
        found.unwrap_or_default()
    }

    /// The address of the host's end. Usually only the first container's has one.
    pub(super) fn host_addr(&self, options: &Options) -> Result<Option<Cidr>> {
        let default = options.host_address();
        match options.host_addr {
            Some(given) => self.must_be_free("--host-addr", given).map(Some),
            None => Ok(Some(default).filter(|cidr| !self.has(cidr.address))),
        }
    }

    /// The address inside.
    pub(super) fn container_addr(&self, options: &Options) -> Result<Cidr> {
        if let Some(given) = options.container_addr {
            return self.must_be_free("--container-addr", given);
        }
        let (bridge, host) = (options.bridge_addr, options.host_address());
        let is_free = |cidr: &Cidr| *cidr != host && !self.has(cidr.address);
        let full = || {
            let hint = "use a larger one, with a bridge of its own: \
                        --bridge br1 --bridge-addr 172.20.4.2/22";
            Error::input(format!("the subnet {} is full", bridge.subnet())).hint(hint)
        };
        bridge.others().find(is_free).ok_or_else(full)
    }

    /// Whether the host or a container has this address.
    fn has(&self, address: Ipv4Addr) -> bool {
        let text = address.to_string();
        let is_it = |found: &Address| found.cidr.address == address;
        let holds = |link: &Link| is_ours(link) && link.alias.split(' ').any(|word| word == text);
        self.addresses.iter().any(is_it) || self.links.iter().any(holds)
    }

    fn must_be_free(&self, option: &str, cidr: Cidr) -> Result<Cidr> {
        if !self.has(cidr.address) {
            return Ok(cidr);
        }
        let hint =
            "another container or the host has it: ip link shows the alias, ip addr the host's";
        Err(Error::new(format!("{option} {cidr}"), Errno::EADDRINUSE).hint(hint))
    }

    /// If another link or route has our subnet, the bridge takes over its traffic: a LAN's, perhaps. A default
    /// route loses none, since more specific routes win. A VPN's default route can be two halves, 0.0.0.0/1 and
    /// 128.0.0.0/1.
    fn conflict(&self, ours: Cidr, bridge: Option<u32>) -> Result<()> {
        let link = |index: u32| self.links.iter().find(|link| link.index == index);
        // On a link other than the bridge itself and its ports.
        let conflicts = |found: &&Address| {
            let ports_master = link(found.index).map(|link| link.master);
            let belongs = bridge.is_some() && [Some(found.index), ports_master].contains(&bridge);
            !belongs && found.cidr.overlaps(ours)
        };
        let mut routes = self.routes.iter().filter(|route| route.cidr.prefix > 1);
        let (index, what) =
            if let Some(Address { index, cidr }) = self.addresses.iter().find(conflicts) {
                (*index, format!("the address {cidr}"))
            } else if let Some(Address { index, cidr }) = routes.find(conflicts) {
                (*index, format!("a route to {cidr}"))
            } else {
                return Ok(());
            };
        let link = link(index);
        let name = link.map(|link| &*link.name).unwrap_or_default();
        let hint = match link.is_some_and(is_ours) {
            true => format!(
                "the bridge of another stage, {name}, has {what}: share it (--bridge {name}), \
                 or take another subnet with --bridge-addr"
            ),
            false => format!(
                "the link {name} has {what}, and its traffic would go to the bridge: \
                 take another subnet with --bridge-addr, or --net private"
            ),
        };
        Err(Error::new(format!("--bridge-addr {ours}"), Errno::EADDRINUSE).hint(hint))
    }
}

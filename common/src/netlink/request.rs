//! Requests, and how they are encoded. The bytes are those of `ip`, attribute for attribute; a test
//! compares them.

use super::Link;
use crate::cidr::Cidr;
use nix::{errno::Errno, libc};
use std::fmt::{self, Display};
use std::net::Ipv4Addr;

/// A constant of `linux/rtnetlink.h`, `linux/if_link.h` or `linux/if_addr.h`: its name, and its value.
type Name = (&'static str, u16);

macro_rules! names {
    ($($name:ident)*) => { $(const $name: Name = (stringify!($name), libc::$name);)* };
}

names! { RTM_NEWLINK RTM_GETLINK RTM_DELLINK RTM_NEWADDR RTM_GETADDR RTM_NEWROUTE RTM_GETROUTE }
names! { IFLA_ADDRESS IFLA_AF_SPEC IFLA_EXT_MASK IFLA_GROUP IFLA_IFALIAS IFLA_IFNAME IFLA_MASTER }
names! { IFLA_LINKINFO IFLA_INFO_DATA IFLA_INFO_KIND IFLA_NET_NS_PID IFA_ADDRESS IFA_LOCAL RTA_GATEWAY }
const AF_INET6: Name = ("AF_INET6", 10);
const IFLA_INET6_ADDR_GEN_MODE: Name = ("IFLA_INET6_ADDR_GEN_MODE", 8);
const VETH_INFO_PEER: Name = ("VETH_INFO_PEER", 1);

const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3; // answers without the counters
const AF_INET: u8 = 2; // ifa_family and rtm_family are one byte
/// The length of `nlmsghdr`.
pub(super) const HEADER: usize = 16;

const LIST: u16 = 0x301; // NLM_F_REQUEST | NLM_F_DUMP
const CHANGE: u16 = 0x005; // NLM_F_REQUEST | NLM_F_ACK
const CREATE: u16 = 0x605; // NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE

/// A request: its type, its flags, and its body as bytes and as the text of explanations and errors.
pub(crate) struct Request {
    kind: Name,
    flags: u16,
    /// With room for the header.
    bytes: Vec<u8>,
    text: String,
}

impl Request {
    pub(crate) fn add_bridge(name: &str, group: u32, mac: [u8; 6]) -> Self {
        let text = mac.map(|byte| format!("{byte:02x}")).join(":");
        let info = Self::inside().word(IFLA_INFO_KIND, "bridge");
        Self::link(RTM_NEWLINK, CREATE, 0)
            .number(IFLA_GROUP, group)
            .attribute(IFLA_ADDRESS, text, &mac)
            .string(IFLA_IFNAME, name)
            .nested(IFLA_LINKINFO, &info)
    }

    /// A pair of links: one here, its peer in the network namespace of process `pid`.
    pub(crate) fn add_veth(name: &str, group: u32, peer: &str, pid: u32) -> Self {
        let peer = Self::inside()
            .ifinfomsg(0, 0)
            .number(IFLA_NET_NS_PID, pid)
            .string(IFLA_IFNAME, peer);
        let data = Self::inside().nested(VETH_INFO_PEER, &peer);
        let info = Self::inside().word(IFLA_INFO_KIND, "veth");
        Self::link(RTM_NEWLINK, CREATE, 0)
            .number(IFLA_GROUP, group)
            .string(IFLA_IFNAME, name)
            .nested(IFLA_LINKINFO, &info.nested(IFLA_INFO_DATA, &data))
    }

    pub(crate) fn add_address(link: &Link, Cidr { address, prefix }: Cidr) -> Self {
        Self::new(RTM_NEWADDR, CREATE)
            .ifaddrmsg(link.index, prefix)
            .attribute(IFA_LOCAL, address, &address.octets())
            .attribute(IFA_ADDRESS, address, &address.octets())
    }

    pub(crate) fn set_up(link: &Link) -> Self {
        Self::new(RTM_NEWLINK, CHANGE).ifinfomsg(link.index, libc::IFF_UP.cast_unsigned())
    }

    pub(crate) fn set_master(link: &Link, bridge: &Link) -> Self {
        Self::link(RTM_NEWLINK, CHANGE, link.index).number(IFLA_MASTER, bridge.index)
    }

    pub(crate) fn set_alias(link: &Link, text: &str) -> Self {
        Self::link(RTM_NEWLINK, CHANGE, link.index).word(IFLA_IFALIAS, text)
    }

    pub(crate) fn set_group(link: &Link, group: u32) -> Self {
        Self::link(RTM_NEWLINK, CHANGE, link.index).number(IFLA_GROUP, group)
    }

    /// The kernel chooses no IPv6 address for the link.
    pub(crate) fn no_ipv6_address(link: &Link) -> Self {
        let mode = IN6_ADDR_GEN_MODE_NONE;
        let ipv6 = Self::inside().attribute(IFLA_INET6_ADDR_GEN_MODE, mode, &[mode]);
        let families = Self::inside().nested(AF_INET6, &ipv6);
        Self::link(RTM_NEWLINK, CHANGE, link.index).nested(IFLA_AF_SPEC, &families)
    }

    pub(crate) fn delete(link: &Link) -> Self {
        Self::link(RTM_DELLINK, CHANGE, link.index)
    }

    /// Deletes all links of a group, in one RCU grace period.
    pub(crate) fn delete_group(group: u32) -> Self {
        Self::link(RTM_DELLINK, CHANGE, 0).number(IFLA_GROUP, group)
    }

    pub(super) fn get_link(name: &str) -> Self {
        Self::link(RTM_GETLINK, CHANGE, 0)
            .number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
            .string(IFLA_IFNAME, name)
    }

    pub(super) fn get_links() -> Self {
        Self::link(RTM_GETLINK, LIST, 0).number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    }

    /// All IPv4 addresses.
    pub(super) fn get_addresses() -> Self {
        Self::new(RTM_GETADDR, LIST).ifaddrmsg(0, 0)
    }

    /// The kernel finds the link by the gateway's address.
    pub(crate) fn add_default_route(gateway: Ipv4Addr) -> Self {
        let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_BOOT);
        Self::new(RTM_NEWROUTE, CREATE)
            .rtmsg([table, protocol, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST])
            .attribute(RTA_GATEWAY, gateway, &gateway.octets())
    }

    /// All IPv4 routes.
    pub(super) fn get_routes() -> Self {
        Self::new(RTM_GETROUTE, LIST).rtmsg([0; 4])
    }

    /// The bytes to send. `EMSGSIZE` if an attribute's length could need more than its 16 bits.
    pub(super) fn encode(&self) -> nix::Result<Vec<u8>> {
        let length = u16::try_from(self.bytes.len()).map_err(|_| Errno::EMSGSIZE)?;
        let mut bytes = self.bytes.clone();
        // One request at a time, so it needs no sequence number. The kernel fills in the port.
        bytes[0..4].copy_from_slice(&u32::from(length).to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.kind.1.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.flags.to_ne_bytes());
        Ok(bytes)
    }

    fn new(kind: Name, flags: u16) -> Self {
        Self {
            kind,
            flags,
            bytes: vec![0; HEADER],
            text: String::new(),
        }
    }

    /// What is inside an attribute.
    fn inside() -> Self {
        Self::new(("", 0), 0)
    }

    /// About the link with this index or, where it is 0, the one that the attributes name.
    fn link(kind: Name, flags: u16, index: u32) -> Self {
        Self::new(kind, flags).ifinfomsg(index, 0)
    }

    /// A link's index, and the flags to set.
    fn ifinfomsg(mut self, index: u32, flags: u32) -> Self {
        let numbers = [0, index, flags, flags].map(u32::to_ne_bytes);
        self.bytes.extend(numbers.as_flattened());
        if index != 0 {
            self.show(format_args!("index={index}"));
        }
        if flags != 0 {
            self.show("IFF_UP");
        }
        self
    }

    /// An IPv4 address of a link or, where the index is 0, all.
    fn ifaddrmsg(mut self, index: u32, prefix: u8) -> Self {
        self.bytes.extend([AF_INET, prefix, 0, 0]); // no flags, scope universe
        self.bytes.extend(index.to_ne_bytes());
        if index != 0 {
            self.show(format_args!("index={index}, prefixlen={prefix}"));
        }
        self
    }

    /// A route to every address: its table, protocol, scope and type.
    fn rtmsg(mut self, kind: [u8; 4]) -> Self {
        self.bytes.extend([AF_INET, 0, 0, 0]); // no prefix, so all destinations
        self.bytes.extend(kind);
        self.bytes.extend([0; 4]); // no flags
        self
    }

    /// A string with a NUL byte at its end.
    fn string(self, name: Name, text: &str) -> Self {
        let bytes = [text.as_bytes(), &[0]].concat();
        self.attribute(name, format_args!("{text:?}"), &bytes)
    }

    /// A string without.
    fn word(self, name: Name, text: &str) -> Self {
        self.attribute(name, format_args!("{text:?}"), text.as_bytes())
    }

    fn number(self, name: Name, number: u32) -> Self {
        self.attribute(name, number, &number.to_ne_bytes())
    }

    /// An attribute with further attributes inside.
    fn nested(self, name: Name, inside: &Self) -> Self {
        let text = format!("{{{}}}", inside.text);
        self.attribute(name, text, &inside.bytes[HEADER..])
    }

    fn attribute(mut self, name: Name, text: impl Display, value: &[u8]) -> Self {
        self.show(format_args!("{}={text}", name.0));
        // If it is too long, so is the request, which is not sent then.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        let header = [length, name.1].map(u16::to_ne_bytes);
        self.bytes.extend(header.as_flattened());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn show(&mut self, part: impl Display) {
        let comma = if self.text.is_empty() { "" } else { ", " };
        self.text += &format!("{comma}{part}");
    }
}

impl Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.kind.0, self.text)
    }
}

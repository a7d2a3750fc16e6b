//! Route netlink: what `ip` says to the kernel, written out. See [netlink(7)] and [rtnetlink(7)].
//!
//! A request is a header, a fixed part (which link, which address), and attributes, some with
//! further attributes in them:
//!
//! ```text
//! nlmsghdr            length, type (RTM_NEWLINK…), flags, sequence number, port
//! ifinfomsg           or ifaddrmsg
//! rtattr  IFLA_IFNAME     length, type, then "veth0\0", padded to 4 bytes
//! rtattr  IFLA_LINKINFO   length, type, then
//!   rtattr  IFLA_INFO_KIND    length, type, "veth"
//! ```
//!
//! The bytes are those of `ip`, attribute for attribute; a test compares them.
//!
//! [netlink(7)]: https://man7.org/linux/man-pages/man7/netlink.7.html
//! [rtnetlink(7)]: https://man7.org/linux/man-pages/man7/rtnetlink.7.html

use crate::{
    Error, Result,
    process::retry,
    step::{Returned, step},
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvmsg, send, socket,
    },
};
use std::{
    fmt,
    io::IoSliceMut,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// `VETH_INFO_PEER` of `linux/veth.h`: the other end, in the form of a request of its own.
const VETH_INFO_PEER: u16 = 1;
/// `NLMSGERR_ATTR_MSG` of `linux/netlink.h`.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// `RTM_NEWLINKPROP` of `linux/rtnetlink.h`.
const RTM_NEWLINKPROP: u16 = 108;
/// `IFLA_INET6_ADDR_GEN_MODE` of `linux/if_link.h`.
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE` of `linux/if_link.h`.
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// `RTEXT_FILTER_SKIP_STATS` of `linux/rtnetlink.h`: answers without the counters.
const SKIP_STATS: u32 = 1 << 3;
/// The parts of a message's type, of `linux/netfilter/nfnetlink.h` and `nf_tables.h`.
const NFNL_SUBSYS_NFTABLES: u16 = 10 << 8;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;
/// Attributes of a chain, of `linux/netfilter/nf_tables.h`.
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_HOOK_HOOKNUM: u16 = 1;
/// `ifa_family` is one byte.
#[expect(clippy::cast_possible_truncation, reason = "2")]
const AF_INET: u8 = libc::AF_INET as u8;
/// As the number of an attribute.
#[expect(clippy::cast_possible_truncation, reason = "10")]
const AF_INET6: u16 = libc::AF_INET6 as u16;
const HEADER: usize = 16;

/// The fixed part of a request: what it is about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Subject {
    /// A link by index (0: by its attributes), with `IFF_UP` to be set or as it is. `ifinfomsg`.
    Link { index: u32, up: bool },
    /// An IPv4 address of a link. `ifaddrmsg`.
    Address { index: u32, prefix: u8 },
    /// The packet filter's rules for IPv4. `nfgenmsg`.
    Filter,
}

/// An attribute: its name and number of `linux/if_link.h` and its like, and its value.
#[derive(Clone, Debug, PartialEq)]
struct Attribute {
    name: &'static str,
    kind: u16,
    value: Value,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    /// A string, with the NUL byte that ends it.
    Text(String),
    /// A string without.
    Word(&'static str),
    /// A number in the machine's byte order.
    Number(u32),
    Byte(u8),
    Ipv4(Ipv4Addr),
    Mac([u8; 6]),
    Nested(Vec<Attribute>),
    /// As in `VETH_INFO_PEER`: first an `ifinfomsg`, here of zeros.
    Link(Vec<Attribute>),
}

/// A request: its type and flags of `linux/rtnetlink.h`, what it is about, and its attributes.
/// Displayed, it is the text of explanations and errors.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    name: &'static str,
    kind: u16,
    flags: u16,
    subject: Subject,
    attributes: Vec<Attribute>,
    /// The `ip` command that does the same; see [`Shell`].
    shell: &'static str,
    /// What it changes, in a few words.
    does: &'static str,
    /// The name of the link that it is about.
    device: String,
}

macro_rules! attribute {
    ($kind:ident, $value:ident($content:expr)) => {
        Attribute { name: stringify!($kind), kind: attribute!($kind), value: Value::$value($content) }
    };
    (VETH_INFO_PEER) => {
        VETH_INFO_PEER
    };
    (IFLA_INET6_ADDR_GEN_MODE) => {
        IFLA_INET6_ADDR_GEN_MODE
    };
    (AF_INET6) => {
        AF_INET6
    };
    (IFLA_PROP_LIST) => {
        libc::IFLA_PROP_LIST | NLA_F_NESTED
    };
    ($kind:ident) => {
        libc::$kind
    };
}

/// `NLA_F_NESTED` of `linux/netlink.h`, which newer requests ask for.
const NLA_F_NESTED: u16 = 1 << 15;
/// Make it, and let it be new.
const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const NO_LINK: Subject = Subject::Link { index: 0, up: false };

impl Request {
    fn new(name: &'static str, kind: u16, flags: i32, subject: Subject, attributes: Vec<Attribute>) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "nlmsg_flags has 16 bits")]
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        Self { name, kind, flags, subject, attributes, shell: "", does: "", device: String::new() }
    }

    fn new_link(flags: i32, subject: Subject, attributes: Vec<Attribute>) -> Self {
        Self::new("RTM_NEWLINK", libc::RTM_NEWLINK, libc::NLM_F_ACK | flags, subject, attributes)
    }

    /// Adds the command that does the same, in which `$dev` stands for `device` and the name of an
    /// attribute for its value.
    fn told(self, device: &str, shell: &'static str, does: &'static str) -> Self {
        Self { device: device.into(), shell, does, ..self }
    }

    /// A new bridge.
    pub fn add_bridge(name: &str, group: u32, mac: [u8; 6]) -> Self {
        let attributes = vec![
            attribute!(IFLA_GROUP, Number(group)),
            attribute!(IFLA_ADDRESS, Mac(mac)),
            attribute!(IFLA_IFNAME, Text(name.into())),
            attribute!(IFLA_LINKINFO, Nested(vec![attribute!(IFLA_INFO_KIND, Word("bridge"))])),
        ];
        let request = Self::new_link(NEW, NO_LINK, attributes);
        request.told(name, "brctl addbr $dev", "a switch without ports; its group marks it as ours")
    }

    /// A new pair of links: one here, attached to the bridge and up, its peer in another process's
    /// network namespace.
    pub fn add_veth(name: &str, index: u32, bridge: &Device, group: u32, peer: &str, pid: u32) -> Self {
        let peer_info =
            vec![attribute!(IFLA_NET_NS_PID, Number(pid)), attribute!(IFLA_IFNAME, Text(peer.into()))];
        let info = vec![
            attribute!(IFLA_INFO_KIND, Word("veth")),
            attribute!(IFLA_INFO_DATA, Nested(vec![attribute!(VETH_INFO_PEER, Link(peer_info))])),
        ];
        let attributes = vec![
            attribute!(IFLA_MASTER, Number(bridge.index)),
            attribute!(IFLA_GROUP, Number(group)),
            attribute!(IFLA_IFNAME, Text(name.into())),
            attribute!(IFLA_LINKINFO, Nested(info)),
        ];
        let shell = "ip link add $IFLA_IFNAME type veth peer name $peer; ip link set $peer netns $pid; \
                     ip link set $IFLA_IFNAME master $dev; ip link set $IFLA_IFNAME up";
        let request = Self::new_link(NEW, Subject::Link { index, up: true }, attributes);
        request.told(&bridge.name, shell, "a cable: what goes in at one end comes out at the other")
    }

    /// A new address of a link.
    pub fn add_address(device: &Device, address: Ipv4Addr, prefix: u8) -> Self {
        let attributes = vec![attribute!(IFA_LOCAL, Ipv4(address)), attribute!(IFA_ADDRESS, Ipv4(address))];
        let (flags, subject) = (libc::NLM_F_ACK | NEW, Subject::Address { index: device.index, prefix });
        let request = Self::new("RTM_NEWADDR", libc::RTM_NEWADDR, flags, subject, attributes);
        request.told(
            &device.name,
            "ip addr add $IFA_LOCAL/$prefix dev $dev",
            "an address, and a route to its subnet",
        )
    }

    /// A second name for a link, which no other link may have.
    pub fn add_altname(device: &Device, name: &str) -> Self {
        let names = vec![attribute!(IFLA_ALT_IFNAME, Text(name.into()))];
        let flags = libc::NLM_F_ACK | NEW | libc::NLM_F_APPEND;
        let subject = Subject::Link { index: device.index, up: false };
        let attributes = vec![attribute!(IFLA_PROP_LIST, Nested(names))];
        let request = Self::new("RTM_NEWLINKPROP", RTM_NEWLINKPROP, flags, subject, attributes);
        let shell = "ip link property add dev $dev altname $IFLA_ALT_IFNAME";
        request.told(&device.name, shell, "a name is unique: so nobody else takes the address")
    }

    /// Brings a link up.
    pub fn set_up(device: &Device) -> Self {
        let request = Self::new_link(0, Subject::Link { index: device.index, up: true }, vec![]);
        request.told(&device.name, "ip link set $dev up", "")
    }

    /// Brings a link up, and leaves it without an IPv6 address.
    pub fn set_up_without_ipv6(device: &Device) -> Self {
        let mode = vec![attribute!(IFLA_INET6_ADDR_GEN_MODE, Byte(IN6_ADDR_GEN_MODE_NONE))];
        let family = vec![attribute!(AF_INET6, Nested(mode))];
        let attributes = vec![attribute!(IFLA_AF_SPEC, Nested(family))];
        let request = Self::new_link(0, Subject::Link { index: device.index, up: true }, attributes);
        request.told(&device.name, "ip link set $dev up", "packets can pass; IPv6 is left out")
    }

    /// Moves a link into a group.
    pub fn set_group(device: &Device, group: u32) -> Self {
        let subject = Subject::Link { index: device.index, up: false };
        let request = Self::new_link(0, subject, vec![attribute!(IFLA_GROUP, Number(group))]);
        request.told(
            &device.name,
            "ip link set dev $dev group $IFLA_GROUP",
            "the bridge bears the number of who did this last",
        )
    }

    /// Asks for a link by its name.
    pub fn get_link(name: &str) -> Self {
        let request = Self::get(0, NO_LINK, vec![attribute!(IFLA_IFNAME, Text(name.into()))]);
        request.told(name, "ip link show dev $dev", "is it there, and what is its number?")
    }

    /// Asks for a link by its index.
    pub fn get_index(index: u32) -> Self {
        let request = Self::get(0, Subject::Link { index, up: false }, vec![]);
        request.told("", "", "what is its name?")
    }

    /// Asks for the ports of a bridge.
    pub fn get_ports(bridge: &Device) -> Self {
        let request =
            Self::get(libc::NLM_F_DUMP, NO_LINK, vec![attribute!(IFLA_MASTER, Number(bridge.index))]);
        request.told(&bridge.name, "ip link show master $dev", "are we the last one?")
    }

    fn get(flags: i32, subject: Subject, attributes: Vec<Attribute>) -> Self {
        let attributes = [vec![attribute!(IFLA_EXT_MASK, Number(SKIP_STATS))], attributes].concat();
        let flags = if flags == 0 { libc::NLM_F_ACK } else { flags };
        Self::new("RTM_GETLINK", libc::RTM_GETLINK, flags, subject, attributes)
    }

    /// Asks for all IPv4 addresses.
    pub fn get_addresses() -> Self {
        let subject = Subject::Address { index: 0, prefix: 0 };
        let request = Self::new("RTM_GETADDR", libc::RTM_GETADDR, libc::NLM_F_DUMP, subject, vec![]);
        request.told("", "ip -4 addr show", "is the subnet anybody's?")
    }

    /// Asks for the chains of the packet filter, on a socket of its own protocol.
    pub fn get_chains() -> Self {
        let kind = NFNL_SUBSYS_NFTABLES | NFT_MSG_GETCHAIN;
        let request = Self::new("NFT_MSG_GETCHAIN", kind, libc::NLM_F_DUMP, Subject::Filter, vec![]);
        request.told("", "nft list chains", "does it drop what is forwarded?")
    }

    /// Removes a link.
    pub fn delete(device: &Device) -> Self {
        let subject = Subject::Link { index: device.index, up: false };
        let request = Self::new("RTM_DELLINK", libc::RTM_DELLINK, libc::NLM_F_ACK, subject, vec![]);
        request.told(&device.name, "ip link del $dev", "both ends, wherever they are")
    }

    /// Removes all links of a group, in one wait for the kernel's grace period.
    pub fn delete_group(group: u32) -> Self {
        let attributes = vec![attribute!(IFLA_GROUP, Number(group))];
        let request = Self::new("RTM_DELLINK", libc::RTM_DELLINK, libc::NLM_F_ACK, NO_LINK, attributes);
        request.told("", "ip link del group $IFLA_GROUP", "the pair and the bridge, and nothing else")
    }

    /// The request's bytes, as they are sent.
    ///
    /// # Errors
    /// If an attribute is longer than the 16 bits for its length can say.
    pub fn encode(&self, sequence: u32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; HEADER];
        match self.subject {
            Subject::Link { index, up } => {
                let up = if up { libc::IFF_UP.cast_unsigned() } else { 0 };
                bytes.extend_from_slice(&[0; 4]); // AF_UNSPEC, padding, any type of hardware
                for number in [index, up, up] {
                    bytes.extend_from_slice(&number.to_ne_bytes());
                }
            }
            Subject::Address { index, prefix } => {
                bytes.extend_from_slice(&[AF_INET, prefix, 0, 0]); // no flags, scope universe
                bytes.extend_from_slice(&index.to_ne_bytes());
            }
            Subject::Filter => bytes.extend_from_slice(&[AF_INET, 0, 0, 0]), // version 0, no resource
        }
        encode(&self.attributes, &mut bytes)?;
        let length = u32::try_from(bytes.len()).map_err(|_| Error::input(format!("{self}: too long")))?;
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes()); // the port, 0, is the kernel's to fill in
        Ok(bytes)
    }
}

/// The `ip` command that does the same as a request, filled in when it is wanted.
struct Shell<'a>(&'a Request);

impl fmt::Display for Shell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { shell, device, attributes, subject, .. } = self.0;
        let mut rest = *shell;
        while let Some((text, variable)) = rest.split_once('$') {
            f.write_str(text)?;
            let end = variable.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(variable.len());
            let (name, after) = variable.split_at(end);
            let peer = |name| match value_of(attributes, "VETH_INFO_PEER") {
                Some(Value::Link(inner)) => value_of(inner, name),
                _ => None,
            };
            let value = match (name, subject) {
                ("dev", _) => Some(Value::Text(device.clone())),
                ("prefix", Subject::Address { prefix, .. }) => Some(Value::Byte(*prefix)),
                ("peer", _) => peer("IFLA_IFNAME").cloned(),
                ("pid", _) => peer("IFLA_NET_NS_PID").cloned(),
                (name, _) => value_of(attributes, name).cloned(),
            };
            match value {
                Some(Value::Text(text)) => f.write_str(&text)?,
                value => value.iter().try_for_each(|value| write!(f, "{value}"))?,
            }
            rest = after;
        }
        f.write_str(rest)
    }
}

fn encode(attributes: &[Attribute], bytes: &mut Vec<u8>) -> Result<()> {
    for attribute in attributes {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        match &attribute.value {
            Value::Text(text) => {
                bytes.extend_from_slice(text.as_bytes());
                bytes.push(0);
            }
            Value::Word(word) => bytes.extend_from_slice(word.as_bytes()),
            Value::Number(number) => bytes.extend_from_slice(&number.to_ne_bytes()),
            Value::Byte(byte) => bytes.push(*byte),
            Value::Ipv4(address) => bytes.extend_from_slice(&address.octets()),
            Value::Mac(address) => bytes.extend_from_slice(address),
            Value::Nested(inner) => encode(inner, bytes)?,
            Value::Link(inner) => {
                bytes.extend_from_slice(&[0; 16]);
                encode(inner, bytes)?;
            }
        }
        let length = u16::try_from(bytes.len() - start)
            .map_err(|_| Error::input(format!("{}: too long", attribute.name)))?;
        bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        bytes[start + 2..start + 4].copy_from_slice(&attribute.kind.to_ne_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Ok(())
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.subject {
            Subject::Link { index, .. } | Subject::Address { index, .. } if index != 0 => {
                parts.push(format!("index={index}"));
            }
            _ => {}
        }
        match self.subject {
            Subject::Link { up: true, .. } => parts.push("IFF_UP".into()),
            Subject::Address { prefix, .. } if prefix != 0 => parts.push(format!("prefixlen={prefix}")),
            _ => {}
        }
        parts.extend(self.attributes.iter().map(ToString::to_string));
        write!(f, "{}({})", self.name, parts.join(", "))
    }
}

/// The value of the first attribute of this name, at this level or below.
fn value_of<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a Value> {
    let here = attributes.iter().find(|attribute| attribute.name == name);
    here.map(|attribute| &attribute.value).or_else(|| {
        attributes.iter().find_map(|attribute| match &attribute.value {
            Value::Nested(inner) | Value::Link(inner) => value_of(inner, name),
            _ => None,
        })
    })
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Word(word) => write!(f, "{word:?}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Byte(byte) => write!(f, "{byte}"),
            Value::Ipv4(address) => write!(f, "{address}"),
            Value::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
            Value::Nested(inner) | Value::Link(inner) => {
                let inner = inner.iter().map(ToString::to_string).collect::<Vec<_>>();
                write!(f, "{{{}}}", inner.join(", "))
            }
        }
    }
}

/// A link of this network namespace, by its index, and its name as far as it matters to a reader.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// What the kernel says of a link. See rtnetlink(7), `RTM_NEWLINK`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// Its index in this network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind, such as `bridge`; empty for hardware.
    pub kind: String,
    /// Its group: 0 unless somebody has set one.
    pub group: u32,
    /// Whether packets pass: its operational state of RFC 2863 is up.
    pub up: bool,
}

/// An IPv4 address of a link. See rtnetlink(7), `RTM_NEWADDR`.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// The link's index in this network namespace.
    pub index: u32,
    /// The address itself.
    pub address: Ipv4Addr,
    /// The length of the subnet's prefix, in bits.
    pub prefix: u8,
}

/// A message of the kernel's.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// That was all.
    Done,
    /// The request was refused, for this reason and, from newer kernels, in these words.
    Refused(Errno, Option<String>),
    /// The list changed while it was read, and may lack something.
    Interrupted,
    /// A link.
    Link(Link),
    /// An address.
    Address(Address),
    /// A chain of the packet filter: whether it drops, by policy, what is forwarded.
    Chain(bool),
}

impl Returned for Vec<Reply> {
    fn show(&self) -> Option<String> {
        Some("0".into())
    }
}

impl Returned for bool {
    fn show(&self) -> Option<String> {
        Some("0".into())
    }
}

/// Reads the messages of a datagram, each with the number of the request that it answers; 0 if
/// none, but an event.
///
/// # Errors
/// `EBADMSG` if they are cut short or contradict themselves.
pub fn decode(datagram: &[u8]) -> nix::Result<Vec<(u32, Reply)>> {
    let mut replies = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = usize::try_from(u32_at(rest, 0)?).map_err(|_| Errno::EBADMSG)?;
        let message = rest.get(..length).filter(|_| length >= HEADER).ok_or(Errno::EBADMSG)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let (kind, flags) = (i32::from(u16_at(message, 4)?), i32::from(u16_at(message, 6)?));
        let sequence = u32_at(message, 8)?;
        let body = &message[HEADER..];
        if flags & libc::NLM_F_DUMP_INTR != 0 {
            replies.push((sequence, Reply::Interrupted));
        }
        if kind == libc::NLMSG_ERROR || kind == libc::NLMSG_DONE {
            replies.push((sequence, acknowledgement(kind, flags, body)?));
        } else if kind == i32::from(libc::RTM_NEWLINK) {
            replies.push((sequence, Reply::Link(link(body)?)));
        } else if kind == i32::from(NFNL_SUBSYS_NFTABLES | NFT_MSG_NEWCHAIN) {
            replies.push((sequence, Reply::Chain(drops_forwarded(body)?)));
        } else if kind == i32::from(libc::RTM_NEWADDR) {
            replies.extend(address(body)?.map(|address| (sequence, Reply::Address(address))));
        }
    }
    Ok(replies)
}

fn acknowledgement(kind: i32, flags: i32, body: &[u8]) -> nix::Result<Reply> {
    let errno = u32_at(body, 0)?.cast_signed();
    if errno == 0 || kind == libc::NLMSG_DONE && errno > 0 {
        return Ok(Reply::Done);
    }
    // After an error the request comes back, its header at least, before the kernel's words.
    let echoed = match kind {
        libc::NLMSG_DONE => 0,
        _ if flags & libc::NLM_F_CAPPED != 0 => HEADER,
        _ => usize::try_from(u32_at(body, 4)?).map_err(|_| Errno::EBADMSG)?,
    };
    let words = body.get(echoed.next_multiple_of(4).saturating_add(4)..);
    let words = words.filter(|_| flags & libc::NLM_F_ACK_TLVS != 0).unwrap_or_default();
    let words = find(words, NLMSGERR_ATTR_MSG)?.map(text);
    Ok(Reply::Refused(Errno::from_raw(errno.checked_neg().ok_or(Errno::EBADMSG)?), words))
}

fn link(body: &[u8]) -> nix::Result<Link> {
    let attributes = body.get(16..).ok_or(Errno::EBADMSG)?;
    let number = |kind| find(attributes, kind)?.map(|value| u32_at(value, 0)).transpose();
    let kind = match find(attributes, libc::IFLA_LINKINFO)? {
        Some(info) => find(info, libc::IFLA_INFO_KIND)?,
        None => None,
    };
    Ok(Link {
        index: u32_at(body, 4)?,
        name: find(attributes, libc::IFLA_IFNAME)?.map(text).unwrap_or_default(),
        kind: kind.map(text).unwrap_or_default(),
        group: number(libc::IFLA_GROUP)?.unwrap_or(0),
        up: find(attributes, libc::IFLA_OPERSTATE)?.and_then(<[u8]>::first) == Some(&IF_OPER_UP),
    })
}

/// `IFLA_OPERSTATE` is one byte.
#[expect(clippy::cast_possible_truncation, reason = "6")]
const IF_OPER_UP: u8 = libc::IF_OPER_UP as u8;

fn address(body: &[u8]) -> nix::Result<Option<Address>> {
    let attributes = body.get(8..).ok_or(Errno::EBADMSG)?;
    let [family, prefix] = bytes_at(body, 0)?;
    Ok(match find(attributes, libc::IFA_LOCAL)? {
        Some(local) if family == AF_INET => {
            let address = Ipv4Addr::from(bytes_at::<4>(local, 0)?);
            Some(Address { index: u32_at(body, 4)?, address, prefix })
        }
        _ => None,
    })
}

/// Numbers of the packet filter are in network byte order. `NF_INET_FORWARD` is 2, `NF_DROP` 0.
fn drops_forwarded(body: &[u8]) -> nix::Result<bool> {
    let attributes = body.get(4..).ok_or(Errno::EBADMSG)?;
    let hook = match find(attributes, NFTA_CHAIN_HOOK)? {
        Some(hook) => find(hook, NFTA_HOOK_HOOKNUM)?,
        None => None,
    };
    Ok(hook == Some(&[0, 0, 0, 2]) && find(attributes, NFTA_CHAIN_POLICY)? == Some(&[0; 4]))
}

/// The value of the first attribute of this kind.
fn find(attributes: &[u8], kind: u16) -> nix::Result<Option<&[u8]>> {
    let mut rest = attributes;
    while !rest.is_empty() {
        let length = usize::from(u16_at(rest, 0)?);
        let attribute = rest.get(..length).filter(|_| length >= 4).ok_or(Errno::EBADMSG)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        if u16_at(attribute, 2)? & !NLA_F_NESTED == kind {
            return Ok(Some(&attribute[4..]));
        }
    }
    Ok(None)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|&byte| byte == 0).next().unwrap_or_default()).into()
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> nix::Result<[u8; N]> {
    bytes.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::EBADMSG)
}

fn u32_at(bytes: &[u8], at: usize) -> nix::Result<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> nix::Result<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

/// A route netlink socket, which speaks for the network namespace that it was opened in.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
    /// Whether the kernel has answered the last request, and be it with a refusal.
    answered: bool,
}

/// For poll(2).
impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Socket {
    /// Opens one for requests.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` from a kernel without netlink.
    pub fn open() -> Result<Self> {
        let call = format_args!("socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE)");
        Self::open_for(SockProtocol::NetlinkRoute, call, "ip speaks to the kernel through one")
    }

    /// Opens one for the packet filter.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` from a kernel without it.
    pub fn open_filter() -> Result<Self> {
        let call = format_args!("socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_NETFILTER)");
        Self::open_for(SockProtocol::NetlinkNetFilter, call, "nft speaks to the kernel through one")
    }

    fn open_for(protocol: SockProtocol, call: fmt::Arguments<'_>, does: &str) -> Result<Self> {
        let descriptor = step(call, format_args!(""), does, || {
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
        })?;
        // The kernel's own words beside the errno of a refused request; before Linux 4.12 there are
        // none, which does not matter. nix has no such option.
        let on: libc::c_int = 1;
        let size = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(0);
        let (level, option) = (libc::SOL_NETLINK, libc::NETLINK_EXT_ACK);
        // SAFETY: the kernel reads `size` bytes of `on`.
        let _ =
            unsafe { libc::setsockopt(descriptor.as_raw_fd(), level, option, (&raw const on).cast(), size) };
        Ok(Self { descriptor, sequence: 0, answered: false })
    }

    /// Opens one for what happens to links: `ip monitor link`.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn open_events() -> Result<Self> {
        let socket = Self::open()?;
        let groups = libc::RTMGRP_LINK.cast_unsigned();
        let does = "to hear when packets can pass";
        step(format_args!("bind(RTMGRP_LINK)"), format_args!("ip monitor link"), does, || {
            bind(socket.descriptor.as_raw_fd(), &NetlinkAddr::new(0, groups))
        })?;
        Ok(socket)
    }

    /// Sends `request` and waits for the kernel's answer: the links or addresses that it asks for.
    ///
    /// # Errors
    /// What the kernel says, in the words of its own where it gives any.
    pub fn request(&mut self, request: &Request) -> Result<Vec<Reply>> {
        let mut words = None;
        step(format_args!("{request}"), format_args!("{}", Shell(request)), request.does, || {
            loop {
                self.sequence += 1;
                let bytes = request.encode(self.sequence).map_err(|_| Errno::EMSGSIZE)?;
                self.answered = false;
                retry(|| send(self.descriptor.as_raw_fd(), &bytes, MsgFlags::empty()))?;
                // A list that was interrupted by a change is asked for again.
                if let Some(answer) = self.answer(&mut words)? {
                    return Ok(answer);
                }
            }
        })
        .map_err(|error| match words {
            Some(words) => error.hint(format!("the kernel says: {words}")),
            None => error,
        })
    }

    /// Whether the kernel has answered the last request: if not, it may have done what it was asked for
    /// although the request has failed.
    pub fn was_answered(&self) -> bool {
        self.answered
    }

    /// One link.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn link(&mut self, request: &Request) -> Result<Link> {
        let found = self.request(request)?.into_iter().find_map(|reply| match reply {
            Reply::Link(link) => Some(link),
            _ => None,
        });
        found.ok_or_else(|| Error::new(request.to_string(), Errno::ENODEV))
    }

    fn answer(&mut self, words: &mut Option<String>) -> nix::Result<Option<Vec<Reply>>> {
        let (mut answer, mut whole) = (Vec::new(), true);
        loop {
            for (sequence, reply) in self.receive()? {
                self.answered |= sequence == self.sequence;
                match reply {
                    _ if sequence != self.sequence => {} // of a request whose wait was given up
                    Reply::Done => return Ok(whole.then_some(answer)),
                    Reply::Refused(errno, text) => {
                        *words = text;
                        return Err(errno);
                    }
                    Reply::Interrupted => whole = false,
                    reply => answer.push(reply),
                }
            }
        }
    }

    /// Whether the list that `request` asks for has a link that `wanted` wants. It is not read
    /// further than that, and the socket not used any more: the rest would be in the way.
    ///
    /// # Errors
    /// As [`Socket::request`].
    pub fn any(mut self, request: &Request, wanted: impl Fn(&Link) -> bool) -> Result<bool> {
        self.sequence += 1;
        let bytes = request.encode(self.sequence)?;
        step(format_args!("{request}"), format_args!("{}", Shell(request)), request.does, || {
            retry(|| send(self.descriptor.as_raw_fd(), &bytes, MsgFlags::empty()))?;
            loop {
                for (_, reply) in self.receive()? {
                    match reply {
                        Reply::Link(link) if wanted(&link) => return Ok(true),
                        Reply::Refused(errno, _) => return Err(errno),
                        Reply::Done => return Ok(false),
                        _ => {}
                    }
                }
            }
        })
    }

    /// The messages of the next datagram.
    ///
    /// # Errors
    /// `ENOBUFS` if some were lost.
    pub fn receive(&self) -> nix::Result<Vec<(u32, Reply)>> {
        // The kernel fills at most 32 KiB: `netlink_dump` of net/netlink/af_netlink.c.
        let mut buffer = vec![0; 32 << 10];
        let (length, sender, flags) = retry(|| {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let received =
                recvmsg::<NetlinkAddr>(self.descriptor.as_raw_fd(), &mut parts, None, MsgFlags::empty())?;
            Ok((received.bytes, received.address, received.flags))
        })?;
        if sender.is_none_or(|sender| sender.pid() != 0) {
            return Ok(vec![]); // another process may write to this socket, and is not the kernel
        }
        if flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(Errno::EMSGSIZE);
        }
        decode(&buffer[..length])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes in hexadecimal, as a trace of the system calls of ip(8) from iproute2 6.1 shows them.
    fn bytes(hexadecimal: &str) -> Vec<u8> {
        let digits = hexadecimal.split_whitespace();
        digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
    }

    fn device(index: u32) -> Device {
        Device { index, name: "br0".into() }
    }

    /// The number of the request in those traces.
    const SEQUENCE: u32 = 0x6b05_47f5;

    #[test]
    #[cfg(target_endian = "little")]
    fn requests_are_those_of_ip() {
        let cases = [
            // ip link add name br0 group 1275068416 address 02:6c:ac:14:01:02 type bridge
            (
                Request::add_bridge("br0", 0x4c00_0000, [2, 0x6c, 172, 20, 1, 2]),
                "4c 00 00 00 10 00 05 06  f5 47 05 6b 00 00 00 00 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
                 08 00 1b 00 00 00 00 4c  0a 00 01 00 02 6c ac 14 01 02 00 00 08 00 03 00  62 72 30 00 10 00 12 00
                 0a 00 01 00 62 72 69 64  67 65 00 00",
            ),
            // ip address add 172.20.1.2/24 dev br0
            (
                Request::add_address(&device(2), Ipv4Addr::new(172, 20, 1, 2), 24),
                "28 00 00 00 14 00 05 06  f5 47 05 6b 00 00 00 00 02 18 00 00 02 00 00 00  08 00 02 00 ac 14 01 02
                 08 00 01 00 ac 14 01 02",
            ),
            // ip link add name veth0 index 7 master br0 group 1275068423 up type veth peer name veth1 netns 17885
            (
                Request::add_veth("veth0", 7, &device(2), 0x4c00_0007, "veth1", 17885),
                "74 00 00 00 10 00 05 06  f5 47 05 6b 00 00 00 00 00 00 00 00 07 00 00 00  01 00 00 00 01 00 00 00
                 08 00 0a 00 02 00 00 00  08 00 1b 00 07 00 00 4c 0a 00 03 00 76 65 74 68  30 00 00 00 38 00 12 00
                 08 00 01 00 76 65 74 68  2c 00 02 00 28 00 01 00 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
                 08 00 13 00 dd 45 00 00  0a 00 03 00 76 65 74 68 31 00 00 00",
            ),
            // ip link property add dev veth0 altname 172.20.1.4
            (
                Request::add_altname(&device(7), "172.20.1.4"),
                "34 00 00 00 6c 00 05 0e  f5 47 05 6b 00 00 00 00 00 00 00 00 07 00 00 00  00 00 00 00 00 00 00 00
                 14 00 34 80 0f 00 35 00  31 37 32 2e 32 30 2e 31 2e 34 00 00",
            ),
            // ip link set dev br0 group 1275068423
            (
                Request::set_group(&device(2), 0x4c00_0007),
                "28 00 00 00 10 00 05 00  f5 47 05 6b 00 00 00 00 00 00 00 00 02 00 00 00  00 00 00 00 00 00 00 00
                 08 00 1b 00 07 00 00 4c",
            ),
            // ip link set dev br0 up
            (
                Request::set_up(&device(2)),
                "20 00 00 00 10 00 05 00  f5 47 05 6b 00 00 00 00 00 00 00 00 02 00 00 00  01 00 00 00 01 00 00 00",
            ),
            // ip link set dev veth1 addrgenmode none up
            (
                Request::set_up_without_ipv6(&device(2)),
                "30 00 00 00 10 00 05 00  f5 47 05 6b 00 00 00 00 00 00 00 00 02 00 00 00  01 00 00 00 01 00 00 00
                 10 00 1a 00 0c 00 0a 00  05 00 08 00 01 00 00 00",
            ),
            // ip link delete dev veth0
            (
                Request::delete(&device(7)),
                "20 00 00 00 11 00 05 00  f5 47 05 6b 00 00 00 00 00 00 00 00 07 00 00 00  00 00 00 00 00 00 00 00",
            ),
            // ip link delete group 1275068423
            (
                Request::delete_group(0x4c00_0007),
                "28 00 00 00 11 00 05 00  f5 47 05 6b 00 00 00 00 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
                 08 00 1b 00 07 00 00 4c",
            ),
        ];
        for (request, traced) in cases {
            assert_eq!(request.encode(SEQUENCE).unwrap(), bytes(traced), "{request}");
        }
        // ip asks for its first look at a link without an acknowledgement, and with more filters.
        let traced = "30 00 00 00 12 00 01 00  f5 47 05 6b 00 00 00 00 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
                      08 00 1d 00 09 00 00 00  08 00 03 00 62 72 30 00";
        let mut expected = bytes(traced);
        expected[6] |= 4; // NLM_F_ACK
        expected[36] &= !1; // RTEXT_FILTER_VF
        assert_eq!(Request::get_link("br0").encode(SEQUENCE).unwrap(), expected);
    }

    #[test]
    fn a_request_in_words() {
        let request = Request::add_veth("veth0", 7, &device(2), 5, "veth1", 99);
        let words = "RTM_NEWLINK(index=7, IFF_UP, IFLA_MASTER=2, IFLA_GROUP=5, IFLA_IFNAME=\"veth0\", \
                     IFLA_LINKINFO={IFLA_INFO_KIND=\"veth\", IFLA_INFO_DATA={VETH_INFO_PEER=\
                     {IFLA_NET_NS_PID=99, IFLA_IFNAME=\"veth1\"}}})";
        assert_eq!(request.to_string(), words);
        let command = "ip link add veth0 type veth peer name veth1; ip link set veth1 netns 99; \
                       ip link set veth0 master br0; ip link set veth0 up";
        assert_eq!(Shell(&request).to_string(), command);
        let request = Request::add_address(&device(2), Ipv4Addr::new(172, 20, 1, 2), 24);
        assert_eq!(Shell(&request).to_string(), "ip addr add 172.20.1.2/24 dev br0");
        let long = Request::get_link(&"x".repeat(1 << 16));
        assert!(long.encode(1).is_err());
    }

    /// A refusal with the kernel's words, a link, the end of a list: what a kernel would send.
    fn message(kind: i32, flags: i32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let (kind, flags) = (u16::try_from(kind).unwrap(), u16::try_from(flags).unwrap());
        let header = [
            &length.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &flags.to_ne_bytes(),
            &7_u32.to_ne_bytes(),
            &[0; 4],
        ];
        let mut bytes = [&header.concat(), body].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn refusal() -> Vec<u8> {
        let mut words = Vec::new();
        let text = Value::Text("Device is unwilling".into());
        encode(&[Attribute { name: "", kind: NLMSGERR_ATTR_MSG, value: text }], &mut words).unwrap();
        let body = [&(-95_i32).to_ne_bytes()[..], &[16, 0, 0, 0], &[0; 12], &words].concat();
        message(libc::NLMSG_ERROR, libc::NLM_F_CAPPED | libc::NLM_F_ACK_TLVS, &body)
    }

    fn link_message() -> Vec<u8> {
        let mut body = Request::add_bridge("br0", 5, [2; 6]).encode(7).unwrap().split_off(HEADER);
        body[4] = 9;
        message(libc::RTM_NEWLINK.into(), libc::NLM_F_MULTI, &body)
    }

    #[test]
    fn replies() {
        let link = Link { index: 9, name: "br0".into(), kind: "bridge".into(), group: 5, up: false };
        let done = message(libc::NLMSG_DONE, libc::NLM_F_MULTI, &[0; 4]);
        let datagram = [link_message(), done.clone()].concat();
        assert_eq!(decode(&datagram).unwrap(), [(7, Reply::Link(link)), (7, Reply::Done)]);
        let refused = Reply::Refused(Errno::EOPNOTSUPP, Some("Device is unwilling".into()));
        assert_eq!(decode(&refusal()).unwrap(), [(7, refused)]);
        let interrupted = message(libc::NLMSG_DONE, libc::NLM_F_MULTI | libc::NLM_F_DUMP_INTR, &[0; 4]);
        assert_eq!(decode(&interrupted).unwrap(), [(7, Reply::Interrupted), (7, Reply::Done)]);
        for short in 1..done.len() {
            assert_eq!(decode(&done[..short]), Err(Errno::EBADMSG), "{short}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Whatever comes, it is read to an end, without a panic.
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        /// Bytes that look like messages, with some of them changed and the end cut off.
        #[test]
        fn changed_messages(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), cut in any::<prop::sample::Index>()) {
            let address = message(libc::RTM_NEWADDR.into(), 0, &[2; 24]);
            let chain = message((NFNL_SUBSYS_NFTABLES | NFT_MSG_NEWCHAIN).into(), 0, &[4; 24]);
            let mut bytes = [link_message(), refusal(), address, chain].concat();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len()));
            let _ = decode(&bytes);
        }
    }
}

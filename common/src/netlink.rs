//! Route netlink: what `ip` says to the kernel, written out. See netlink(7) and rtnetlink(7).
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

use crate::{Error, Result, process::retry, step::step};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};
use std::{
    fmt,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
};

/// `VETH_INFO_PEER` of `linux/veth.h`: the other end, in the form of a request of its own.
const VETH_INFO_PEER: u16 = 1;
/// `NLMSGERR_ATTR_MSG` of `linux/netlink.h`.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// `ifa_family` is one byte.
#[expect(clippy::cast_possible_truncation, reason = "2")]
const AF_INET: u8 = libc::AF_INET as u8;
const HEADER: usize = 16;

/// The fixed part of a request: what it is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject {
    /// A link, by index (0: by its name, or a new one), to be up or as it is. `ifinfomsg`.
    Link {
        /// Its index in this network namespace.
        index: u32,
        /// Whether to set `IFF_UP`.
        up: bool,
    },
    /// An IPv4 address of a link. `ifaddrmsg`.
    Address {
        /// The link's index in this network namespace.
        index: u32,
        /// The length of the subnet's prefix, in bits.
        prefix: u8,
    },
}

/// An attribute: its name and number of `linux/if_link.h` and its like, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    name: &'static str,
    kind: u16,
    value: Value,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    /// A string, with the NUL byte that ends it.
    Text(String),
    /// A number in the machine's byte order.
    Number(u32),
    Address(Ipv4Addr),
    Nested(Vec<Attribute>),
    /// As in `VETH_INFO_PEER`: first an `ifinfomsg`, here of zeros.
    Link(Vec<Attribute>),
}

/// A request: its type and flags of `linux/rtnetlink.h`, what it is about, and its attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    name: &'static str,
    kind: u16,
    flags: u16,
    subject: Subject,
    attributes: Vec<Attribute>,
}

macro_rules! attribute {
    ($kind:ident, $value:ident($content:expr)) => {
        Attribute { name: stringify!($kind), kind: attribute!($kind), value: Value::$value($content) }
    };
    (VETH_INFO_PEER) => {
        VETH_INFO_PEER
    };
    ($kind:ident) => {
        libc::$kind
    };
}

/// The bits of `nlmsg_flags` that go with a request of this kind.
const MAKE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

impl Request {
    fn new(name: &'static str, kind: u16, flags: i32, subject: Subject, attributes: Vec<Attribute>) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "nlmsg_flags has 16 bits")]
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        Self { name, kind, flags, subject, attributes }
    }

    /// `ip link add NAME group GROUP up type bridge`
    pub fn add_bridge(name: &str, group: u32) -> Self {
        let kind = vec![attribute!(IFLA_INFO_KIND, Text("bridge".into()))];
        let attributes = vec![
            attribute!(IFLA_IFNAME, Text(name.into())),
            attribute!(IFLA_GROUP, Number(group)),
            attribute!(IFLA_LINKINFO, Nested(kind)),
        ];
        Self::new("RTM_NEWLINK", libc::RTM_NEWLINK, MAKE, Subject::Link { index: 0, up: true }, attributes)
    }

    /// `ip link add NAME master BRIDGE group GROUP up type veth peer name PEER netns PID`
    pub fn add_veth(name: &str, bridge: u32, group: u32, peer: &str, pid: u32) -> Self {
        let peer = vec![attribute!(IFLA_IFNAME, Text(peer.into())), attribute!(IFLA_NET_NS_PID, Number(pid))];
        let info = vec![
            attribute!(IFLA_INFO_KIND, Text("veth".into())),
            attribute!(IFLA_INFO_DATA, Nested(vec![attribute!(VETH_INFO_PEER, Link(peer))])),
        ];
        let attributes = vec![
            attribute!(IFLA_IFNAME, Text(name.into())),
            attribute!(IFLA_MASTER, Number(bridge)),
            attribute!(IFLA_GROUP, Number(group)),
            attribute!(IFLA_LINKINFO, Nested(info)),
        ];
        Self::new("RTM_NEWLINK", libc::RTM_NEWLINK, MAKE, Subject::Link { index: 0, up: true }, attributes)
    }

    /// `ip addr add ADDRESS/PREFIX dev INDEX`
    pub fn add_address(index: u32, address: Ipv4Addr, prefix: u8) -> Self {
        let attributes =
            vec![attribute!(IFA_LOCAL, Address(address)), attribute!(IFA_ADDRESS, Address(address))];
        Self::new("RTM_NEWADDR", libc::RTM_NEWADDR, MAKE, Subject::Address { index, prefix }, attributes)
    }

    /// `ip link set INDEX up`
    pub fn set_up(index: u32) -> Self {
        Self::new("RTM_NEWLINK", libc::RTM_NEWLINK, 0, Subject::Link { index, up: true }, vec![])
    }

    /// `ip link show NAME`
    pub fn get_link(name: &str) -> Self {
        let subject = Subject::Link { index: 0, up: false };
        Self::new(
            "RTM_GETLINK",
            libc::RTM_GETLINK,
            0,
            subject,
            vec![attribute!(IFLA_IFNAME, Text(name.into()))],
        )
    }

    /// `ip link del group GROUP`: all links of the group, in one wait for the kernel's grace period.
    pub fn delete_group(group: u32) -> Self {
        let subject = Subject::Link { index: 0, up: false };
        Self::new("RTM_DELLINK", libc::RTM_DELLINK, 0, subject, vec![attribute!(IFLA_GROUP, Number(group))])
    }

    /// The request's bytes, as they are sent.
    ///
    /// # Errors
    /// If the attributes are longer than the 16 bits for their length can say.
    pub fn encode(&self, sequence: u32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; HEADER];
        match self.subject {
            Subject::Link { index, up } => {
                let up = if up { libc::IFF_UP.cast_unsigned() } else { 0 };
                bytes.extend_from_slice(&[0; 4]); // AF_UNSPEC, padding, ARPHRD type
                for number in [index, up, up] {
                    bytes.extend_from_slice(&number.to_ne_bytes());
                }
            }
            Subject::Address { index, prefix } => {
                bytes.extend_from_slice(&[AF_INET, prefix, 0, 0]); // no flags, scope universe
                bytes.extend_from_slice(&index.to_ne_bytes());
            }
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

fn encode(attributes: &[Attribute], bytes: &mut Vec<u8>) -> Result<()> {
    for attribute in attributes {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        match &attribute.value {
            Value::Text(text) => {
                bytes.extend_from_slice(text.as_bytes());
                bytes.push(0);
            }
            Value::Number(number) => bytes.extend_from_slice(&number.to_ne_bytes()),
            Value::Address(address) => bytes.extend_from_slice(&address.octets()),
            Value::Nested(inner) => encode(inner, bytes)?,
            Value::Link(inner) => {
                bytes.extend_from_slice(&[0; 16]);
                encode(inner, bytes)?;
            }
        }
        let length =
            u16::try_from(bytes.len() - start).map_err(|_| Error::input(format!("{attribute}: too long")))?;
        bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        bytes[start + 2..start + 4].copy_from_slice(&attribute.kind.to_ne_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Ok(())
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = Vec::new();
        match self.subject {
            Subject::Link { index: 0, up: true } => list.push("IFF_UP".into()),
            Subject::Link { index: 0, up: false } => {}
            Subject::Link { index, up } => {
                list.push(format!("link {index}{}", if up { ", IFF_UP" } else { "" }))
            }
            Subject::Address { index, prefix } => list.push(format!("link {index}, prefix {prefix}")),
        }
        list.extend(self.attributes.iter().map(ToString::to_string));
        write!(f, "{}({})", self.name, list.join(", "))
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.name)?;
        match &self.value {
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Address(address) => write!(f, "{address}"),
            Value::Nested(inner) | Value::Link(inner) => {
                let inner = inner.iter().map(ToString::to_string).collect::<Vec<_>>();
                write!(f, "{{{}}}", inner.join(", "))
            }
        }
    }
}

/// What the kernel says of a link.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// Its index in this network namespace.
    pub index: u32,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// It was refused, for this reason and, from newer kernels, in these words.
    Refused(Errno, Option<String>),
    /// A link that was asked for.
    Link(Link),
}

/// Reads the messages of a datagram that answer the request with the number `sequence`.
///
/// # Errors
/// `EBADMSG` if they are cut short or contradict themselves.
pub fn decode(datagram: &[u8], sequence: u32) -> nix::Result<Vec<Reply>> {
    let mut replies = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = usize::try_from(u32_at(rest, 0)?).map_err(|_| Errno::EBADMSG)?;
        let message = rest.get(..length).filter(|_| length >= HEADER).ok_or(Errno::EBADMSG)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        if u32_at(message, 8)? != sequence {
            continue; // the answer to an earlier request, whose wait was given up
        }
        let (kind, flags) = (i32::from(u16_at(message, 4)?), i32::from(u16_at(message, 6)?));
        let body = &message[HEADER..];
        if kind == libc::NLMSG_ERROR {
            replies.push(match u32_at(body, 0)?.cast_signed() {
                0 => Reply::Done,
                // The request comes back, its header at least, before the kernel's words.
                errno => {
                    let echoed = match flags & libc::NLM_F_CAPPED {
                        0 => usize::try_from(u32_at(body, 4)?).map_err(|_| Errno::EBADMSG)?,
                        _ => HEADER,
                    };
                    let words = body
                        .get(4 + echoed.next_multiple_of(4)..)
                        .filter(|_| flags & libc::NLM_F_ACK_TLVS != 0);
                    Reply::Refused(Errno::from_raw(-errno), words.map(message_text).transpose()?.flatten())
                }
            });
        } else if kind == i32::from(libc::RTM_NEWLINK) {
            replies.push(Reply::Link(Link { index: u32_at(body, 4)? }));
        }
    }
    Ok(replies)
}

fn message_text(attributes: &[u8]) -> nix::Result<Option<String>> {
    let mut rest = attributes;
    while !rest.is_empty() {
        let length = usize::from(u16_at(rest, 0)?);
        let attribute = rest.get(..length).filter(|_| length >= 4).ok_or(Errno::EBADMSG)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        if u16_at(attribute, 2)? == NLMSGERR_ATTR_MSG {
            return Ok(Some(String::from_utf8_lossy(&attribute[4..]).trim_end_matches('\0').into()));
        }
    }
    Ok(None)
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
}

impl Socket {
    /// Opens it.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` from a kernel without netlink.
    pub fn open() -> Result<Self> {
        let descriptor =
            step(format_args!("socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE)"), || {
                socket(
                    AddressFamily::Netlink,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    SockProtocol::NetlinkRoute,
                )
            })?;
        extended_acknowledgements(&descriptor);
        Ok(Self { descriptor, sequence: 0 })
    }

    /// Sends `request` and waits for the kernel's answer: the links that it asked for.
    ///
    /// # Errors
    /// What the kernel says, in the words of its own where it gives any.
    pub fn request(&mut self, request: &Request) -> Result<Vec<Link>> {
        self.sequence += 1;
        let bytes = request.encode(self.sequence)?;
        let mut words = None;
        step(format_args!("{request}"), || self.exchange(&bytes, &mut words)).map_err(|error| match words {
            Some(words) => error.hint(format!("the kernel says: {words}")),
            None => error,
        })
    }

    fn exchange(&self, bytes: &[u8], words: &mut Option<String>) -> nix::Result<Vec<Link>> {
        let descriptor = self.descriptor.as_raw_fd();
        retry(|| send(descriptor, bytes, MsgFlags::empty()))?;
        let mut links = Vec::new();
        loop {
            // An answer is at most a page or 32 KiB long, if it is a dump: NLMSG_GOODSIZE.
            let mut buffer = [0; 32 << 10];
            let length = retry(|| recv(descriptor, &mut buffer, MsgFlags::MSG_TRUNC))?;
            let datagram = buffer.get(..length).ok_or(Errno::EMSGSIZE)?;
            for reply in decode(datagram, self.sequence)? {
                match reply {
                    Reply::Done => return Ok(links),
                    Reply::Refused(errno, text) => {
                        *words = text;
                        return Err(errno);
                    }
                    Reply::Link(link) => links.push(link),
                }
            }
        }
    }
}

/// Asks for the kernel's own words beside the errno of a refused request. Before Linux 4.12 there
/// are none, which does not matter.
fn extended_acknowledgements(socket: &OwnedFd) {
    let on: libc::c_int = 1;
    let Ok(size) = libc::socklen_t::try_from(size_of_val(&on)) else { return };
    // SAFETY: the kernel reads `size` bytes of `on`. (nix has no such socket option.)
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_EXT_ACK,
            (&raw const on).cast(),
            size,
        )
    };
}

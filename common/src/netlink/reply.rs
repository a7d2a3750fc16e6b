//! What the kernel answers, and how it is decoded.

use super::request::HEADER;
use crate::cidr::Cidr;
use nix::errno::Errno;
use nix::libc::{IFA_LOCAL, IFLA_GROUP, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO};
use nix::libc::{IFF_UP, IFLA_MASTER, RT_TABLE_MAIN, RTA_DST, RTA_OIF, RTN_UNICAST};

// Of `linux/netlink.h`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLA_F_NESTED: u16 = 1 << 15; // a bit of an attribute's number

/// A link of this network namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Such as `bridge`; empty for hardware.
    pub(crate) kind: String,
    pub(crate) group: u32,
    /// The index of the bridge to which it is attached, or 0.
    pub(crate) master: u32,
    pub(crate) alias: String,
    pub(crate) up: bool,
}

/// An IPv4 address of a link, or the destination of a route that leaves by it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Address {
    /// The link's index.
    pub(crate) index: u32,
    /// A default route has prefix 0.
    pub(crate) cidr: Cidr,
}

/// A message from the kernel.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    /// The request was carried out, or the list has ended.
    Done,
    /// The request was refused, for this reason and, by newer kernels, in these words.
    Refused(Errno, String),
    /// The list changed while it was read, and may be incomplete.
    Interrupted,
    /// The body of a message about a link, an address or a route, whichever was asked for.
    Entry(Vec<u8>),
}

/// Decodes the messages of a datagram. `None` if one is cut short.
pub(super) fn decode(datagram: &[u8]) -> Option<Vec<Reply>> {
    let (mut replies, mut rest) = (Vec::new(), datagram);
    while !rest.is_empty() {
        let (message, after) = split(rest, u32_at(rest, 0)? as usize)?;
        let (kind, flags) = (u16_at(message, 4)?, u16_at(message, 6)?);
        let body = message.get(HEADER..)?;
        if flags & NLM_F_DUMP_INTR != 0 {
            replies.push(Reply::Interrupted);
        }
        replies.push(match kind {
            NLMSG_DONE => acknowledgement(body, 0)?,
            NLMSG_ERROR => acknowledgement(body, u32_at(body, 4)? as usize)?,
            _ => Reply::Entry(body.into()),
        });
        rest = after;
    }
    Some(replies)
}

/// An errno, the request once more, of this length, and the kernel's own words.
fn acknowledgement(body: &[u8], repeated: usize) -> Option<Reply> {
    let errno = u32_at(body, 0)?.cast_signed();
    if errno >= 0 {
        return Some(Reply::Done);
    }
    let words = body[4..].get(repeated..).unwrap_or_default();
    let (errno, words) = (errno.saturating_neg(), string(words, NLMSGERR_ATTR_MSG));
    Some(Reply::Refused(Errno::from_raw(errno), words))
}

/// `ifinfomsg`: family, type of hardware, index, flags.
pub(super) fn link(body: &[u8]) -> Option<Link> {
    let attributes = body.get(16..)?;
    Some(Link {
        index: u32_at(body, 4)?,
        name: string(attributes, IFLA_IFNAME),
        kind: string(find(attributes, IFLA_LINKINFO), IFLA_INFO_KIND),
        group: number(attributes, IFLA_GROUP),
        master: number(attributes, IFLA_MASTER),
        alias: string(attributes, IFLA_IFALIAS),
        up: u32_at(body, 8)? & IFF_UP.cast_unsigned() != 0,
    })
}

/// `ifaddrmsg`: family, prefix, flags, scope, index.
pub(super) fn address(body: &[u8]) -> Option<Address> {
    let address = u32::from_be(number(body.get(8..)?, IFA_LOCAL)).into();
    let (index, prefix) = (u32_at(body, 4)?, body[1]);
    let cidr = Cidr { address, prefix };
    Some(Address { index, cidr })
}

/// `rtmsg`: family, destination's prefix, source's, type of service, table, protocol, scope, type, flags.
/// `None` if it is not an ordinary route of the main table.
pub(super) fn route(body: &[u8]) -> Option<Address> {
    let [_, prefix, _, _, RT_TABLE_MAIN, _, _, RTN_UNICAST] = bytes_at(body, 0)? else {
        return None;
    };
    let attributes = body.get(12..)?;
    let (index, address) = (number(attributes, RTA_OIF), number(attributes, RTA_DST));
    let address = u32::from_be(address).into();
    let cidr = Cidr { address, prefix };
    Some(Address { index, cidr })
}

/// The value of the first attribute with this number; empty if there is none.
fn find(attributes: &[u8], wanted: u16) -> &[u8] {
    let mut rest = attributes;
    while let Some(length) = u16_at(rest, 0)
        && let Some((attribute, after)) = split(rest, length.into())
        && let Some(number) = u16_at(attribute, 2)
    {
        if number & !NLA_F_NESTED == wanted {
            return &attribute[4..];
        }
        rest = after;
    }
    &[]
}

fn number(attributes: &[u8], wanted: u16) -> u32 {
    u32_at(find(attributes, wanted), 0).unwrap_or(0)
}

fn string(attributes: &[u8], wanted: u16) -> String {
    let text = find(attributes, wanted).split(|byte| *byte == 0).next();
    String::from_utf8_lossy(text.unwrap_or_default()).into()
}

/// The first `length` bytes, and what comes after the padding to 4 bytes.
fn split(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let first = bytes.get(..length)?;
    let after = bytes.get(length.next_multiple_of(4)..);
    Some((first, after.unwrap_or_default()))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

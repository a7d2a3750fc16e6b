//! Route netlink: what `ip` sends to the kernel. See [netlink(7)] and [rtnetlink(7)].
//!
//! A request is a header, a fixed part (which link, which address), and attributes, some with
//! further attributes inside:
//!
//! ```text
//! nlmsghdr            length, type (RTM_NEWLINK…), flags, sequence number, port
//! ifinfomsg           or ifaddrmsg
//! rtattr  IFLA_IFNAME     length, type, then "veth0\0", padded to 4 bytes
//! rtattr  IFLA_LINKINFO   length, type, then
//!   rtattr  IFLA_INFO_KIND    length, type, "veth"
//! ```
//!
//! [netlink(7)]: https://man7.org/linux/man-pages/man7/netlink.7.html
//! [rtnetlink(7)]: https://man7.org/linux/man-pages/man7/rtnetlink.7.html

mod reply;
mod request;

pub(crate) use reply::Address;
pub use reply::Link;
pub(crate) use request::Request;

use crate::explain::{Returned, call};
use crate::{Error, Result, sys};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType};
use nix::sys::socket::{MsgFlags, recvfrom, send, socket};
use reply::Reply;
use std::cell::Cell;
use std::os::fd::{AsRawFd, OwnedFd};

/// A route netlink socket. It belongs to the network namespace in which it was opened.
pub(crate) struct Socket {
    descriptor: OwnedFd,
    /// The kernel's own words about a refused request.
    words: Cell<String>,
}

impl Returned for Vec<Vec<u8>> {}

impl Socket {
    pub(crate) fn open() -> Result<Self> {
        let text = "socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE)";
        let (flags, protocol) = (SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        let open = || socket(AddressFamily::Netlink, SockType::Raw, flags, protocol);
        let (descriptor, words) = (call(text, open)?, Cell::default());
        sys::ask_for_words(&descriptor);
        Ok(Self { descriptor, words })
    }

    /// Sends `request` and waits until the kernel has carried it out. In an error the kernel's own words
    /// are the hint.
    pub(crate) fn request(&self, request: &Request) -> Result<()> {
        self.list(request, |_| None::<()>).map(drop)
    }

    /// The link of this name. `ENODEV` if there is none.
    pub(crate) fn link(&self, name: &str) -> Result<Link> {
        let request = Request::get_link(name);
        let found = self.list(&request, reply::link)?.pop();
        found.ok_or_else(|| Error::new(request.to_string(), Errno::ENODEV))
    }

    pub(crate) fn links(&self) -> Result<Vec<Link>> {
        self.list(&Request::get_links(), reply::link)
    }

    pub(crate) fn addresses(&self) -> Result<Vec<Address>> {
        self.list(&Request::get_addresses(), reply::address)
    }

    pub(crate) fn routes(&self) -> Result<Vec<Address>> {
        self.list(&Request::get_routes(), reply::route)
    }

    fn list<T>(&self, request: &Request, decode: fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        let answer = call(request, || self.exchange(request));
        let entries = answer.map_err(|error| match self.words.take() {
            words if words.is_empty() => error,
            words => error.hint(format!("the kernel says: {words}")),
        })?;
        Ok(entries.iter().filter_map(|entry| decode(entry)).collect())
    }

    fn exchange(&self, request: &Request) -> nix::Result<Vec<Vec<u8>>> {
        let bytes = request.encode()?;
        send(self.descriptor.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let (mut entries, mut complete) = (Vec::new(), true);
        loop {
            for reply in self.receive()? {
                match reply {
                    Reply::Done if complete => return Ok(entries),
                    // A list that changed while it was read may be incomplete: ask again.
                    Reply::Done => return self.exchange(request),
                    Reply::Refused(errno, words) => {
                        self.words.set(words);
                        return Err(errno);
                    }
                    Reply::Interrupted => complete = false,
                    Reply::Entry(entry) => entries.push(entry),
                }
            }
        }
    }

    /// The messages of the next datagram.
    fn receive(&self) -> nix::Result<Vec<Reply>> {
        // The kernel fills at most 32 KiB: `netlink_dump` of net/netlink/af_netlink.c. What is longer
        // is cut short, and cannot be decoded.
        let mut buffer = vec![0; 32 << 10];
        let (length, sender) = recvfrom::<NetlinkAddr>(self.descriptor.as_raw_fd(), &mut buffer)?;
        if sender.is_none_or(|sender| sender.pid() != 0) {
            return Ok(vec![]); // from another process, which may write to this socket
        }
        reply::decode(&buffer[..length]).ok_or(Errno::EBADMSG)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::reply::{address, decode, link, route};
    use super::request::HEADER;
    use super::*;
    use nix::libc;
    use proptest::prelude::*;

    /// Bytes in hexadecimal, as a trace of the system calls of ip(8) from iproute2 6.1 shows them, but
    /// without the sequence number.
    fn bytes(hexadecimal: &str) -> Vec<u8> {
        let digits = hexadecimal.split_whitespace();
        let digits = digits.map(|digits| u8::from_str_radix(digits, 16).unwrap());
        digits.collect()
    }

    fn numbered(index: u32) -> Link {
        Link {
            index,
            ..Default::default()
        }
    }

    fn compare(request: &Request, traced: &str) {
        let encoded = request.encode().unwrap();
        assert_eq!(encoded, bytes(traced), "{request}");
    }

    // ip link add name br0 group 1275068416 address 02:6c:ac:14:01:02 type bridge
    const ADD_BRIDGE: &str = "
        4c 00 00 00 10 00 05 06  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        08 00 1b 00 00 00 00 4c  0a 00 01 00 02 6c ac 14  01 02 00 00 08 00 03 00  62 72 30 00 10 00 12 00
        0a 00 01 00 62 72 69 64  67 65 00 00";
    // ip link add name veth0 group 1275068423 type veth peer name veth1 netns 14747
    const ADD_VETH: &str = "
        6c 00 00 00 10 00 05 06  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        08 00 1b 00 07 00 00 4c  0a 00 03 00 76 65 74 68  30 00 00 00 38 00 12 00  08 00 01 00 76 65 74 68
        2c 00 02 00 28 00 01 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  08 00 13 00 9b 39 00 00
        0a 00 03 00 76 65 74 68  31 00 00 00";
    // ip address add 172.20.1.2/24 dev br0
    const ADD_ADDRESS: &str = "
        28 00 00 00 14 00 05 06  00 00 00 00 00 00 00 00  02 18 00 00 02 00 00 00  08 00 02 00 ac 14 01 02
        08 00 01 00 ac 14 01 02";
    // ip link set dev veth0 master br0
    const SET_MASTER: &str = "
        28 00 00 00 10 00 05 00  00 00 00 00 00 00 00 00  00 00 00 00 03 00 00 00  00 00 00 00 00 00 00 00
        08 00 0a 00 02 00 00 00";
    // ip link set dev veth0 alias '172.20.1.4 172.20.1.3'
    const SET_ALIAS: &str = "
        3c 00 00 00 10 00 05 00  00 00 00 00 00 00 00 00  00 00 00 00 03 00 00 00  00 00 00 00 00 00 00 00
        19 00 14 00 31 37 32 2e  32 30 2e 31 2e 34 20 31  37 32 2e 32 30 2e 31 2e  33 00 00 00";
    // ip link set dev veth0 addrgenmode none
    const NO_IPV6_ADDRESS: &str = "
        30 00 00 00 10 00 05 00  00 00 00 00 00 00 00 00  00 00 00 00 03 00 00 00  00 00 00 00 00 00 00 00
        10 00 1a 00 0c 00 0a 00  05 00 08 00 01 00 00 00";
    // ip link set dev br0 up
    const SET_UP: &str = "
        20 00 00 00 10 00 05 00  00 00 00 00 00 00 00 00  00 00 00 00 02 00 00 00  01 00 00 00 01 00 00 00";
    // ip link set dev br0 group 1275068423
    const SET_GROUP: &str = "
        28 00 00 00 10 00 05 00  00 00 00 00 00 00 00 00  00 00 00 00 02 00 00 00  00 00 00 00 00 00 00 00
        08 00 1b 00 07 00 00 4c";
    // ip link delete dev veth0
    const DELETE: &str = "
        20 00 00 00 11 00 05 00  00 00 00 00 00 00 00 00  00 00 00 00 07 00 00 00  00 00 00 00 00 00 00 00";
    // ip link delete group 1275068423
    const DELETE_GROUP: &str = "
        28 00 00 00 11 00 05 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        08 00 1b 00 07 00 00 4c";
    // ip's first look at a link, but with an acknowledgement (05), and without RTEXT_FILTER_VF (08)
    const GET_LINK: &str = "
        30 00 00 00 12 00 05 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        08 00 1d 00 08 00 00 00  08 00 03 00 62 72 30 00";
    // ip link show, but of any family (00), and with RTEXT_FILTER_SKIP_STATS (08)
    const GET_LINKS: &str = "
        28 00 00 00 12 00 01 03  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        08 00 1d 00 08 00 00 00";
    // ip -4 address show, without the zeros after the message
    const GET_ADDRESSES: &str = "
        18 00 00 00 16 00 01 03  00 00 00 00 00 00 00 00  02 00 00 00 00 00 00 00";
    // ip -4 route show, but of every table
    const GET_ROUTES: &str = "
        1c 00 00 00 1a 00 01 03  00 00 00 00 00 00 00 00  02 00 00 00 00 00 00 00  00 00 00 00";

    // ip route add default via 172.20.1.2
    const ADD_DEFAULT_ROUTE: &str = "
        24 00 00 00 18 00 05 06  00 00 00 00 00 00 00 00  02 00 00 00 fe 03 00 01  00 00 00 00 08 00 05 00
        ac 14 01 02";

    #[test]
    #[cfg(target_endian = "little")]
    fn requests_are_those_of_ip() {
        let (br0, veth0, group) = (numbered(2), numbered(3), 0x4c00_0007);
        let mac = [2, 0x6c, 172, 20, 1, 2];
        compare(&Request::add_bridge("br0", 0x4c00_0000, mac), ADD_BRIDGE);
        compare(&Request::add_veth("veth0", group, "veth1", 14747), ADD_VETH);
        let address = "172.20.1.2/24".parse().unwrap();
        compare(&Request::add_address(&br0, address), ADD_ADDRESS);
        compare(&Request::set_master(&veth0, &br0), SET_MASTER);
        let alias = "172.20.1.4 172.20.1.3";
        compare(&Request::set_alias(&veth0, alias), SET_ALIAS);
        compare(&Request::no_ipv6_address(&veth0), NO_IPV6_ADDRESS);
        compare(&Request::set_up(&br0), SET_UP);
        compare(&Request::set_group(&br0, group), SET_GROUP);
        compare(&Request::delete(&numbered(7)), DELETE);
        compare(&Request::delete_group(group), DELETE_GROUP);
        compare(&Request::get_link("br0"), GET_LINK);
        compare(&Request::get_links(), GET_LINKS);
        compare(&Request::get_addresses(), GET_ADDRESSES);
        compare(&Request::get_routes(), GET_ROUTES);
        let gateway = [172, 20, 1, 2].into();
        compare(&Request::add_default_route(gateway), ADD_DEFAULT_ROUTE);
    }

    #[test]
    fn requests_in_words() {
        let veth = Request::add_veth("veth0", 5, "veth1", 99);
        let expected = "RTM_NEWLINK(IFLA_GROUP=5, IFLA_IFNAME=\"veth0\", \
                        IFLA_LINKINFO={IFLA_INFO_KIND=\"veth\", IFLA_INFO_DATA={VETH_INFO_PEER=\
                        {IFLA_NET_NS_PID=99, IFLA_IFNAME=\"veth1\"}}})";
        assert_eq!(veth.to_string(), expected);
        let br0 = numbered(2);
        let address = Request::add_address(&br0, "172.20.1.2/24".parse().unwrap());
        let expected =
            "RTM_NEWADDR(index=2, prefixlen=24, IFA_LOCAL=172.20.1.2, IFA_ADDRESS=172.20.1.2)";
        assert_eq!(address.to_string(), expected);
        let bridge = Request::add_bridge("br0", 5, [2, 0x6c, 172, 20, 1, 2]);
        let expected = "RTM_NEWLINK(IFLA_GROUP=5, IFLA_ADDRESS=02:6c:ac:14:01:02, \
                        IFLA_IFNAME=\"br0\", IFLA_LINKINFO={IFLA_INFO_KIND=\"bridge\"})";
        assert_eq!(bridge.to_string(), expected);
        let up = Request::set_up(&br0).to_string();
        assert_eq!(up, "RTM_NEWLINK(index=2, IFF_UP)");
        let mode = Request::no_ipv6_address(&br0).to_string();
        let expected = "RTM_NEWLINK(index=2, IFLA_AF_SPEC={AF_INET6={IFLA_INET6_ADDR_GEN_MODE=1}})";
        assert_eq!(mode, expected);
        assert_eq!(Request::get_routes().to_string(), "RTM_GETROUTE()");
    }

    #[test]
    fn a_request_that_is_too_long_is_not_sent() {
        let name = "x".repeat(1 << 16);
        assert_eq!(Request::get_link(&name).encode(), Err(Errno::EMSGSIZE));
    }

    /// Where the cause is known, there is another hint than the kernel's words.
    #[test]
    fn the_kernels_own_words() {
        let name = "a-link-has-at-most-15";
        let refused = Socket::open().unwrap().link(name).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::ERANGE));
        let words = refused.hint.unwrap();
        assert!(words.starts_with("the kernel says: "), "{words}");
        let unknown = Error::new("RTM_NEWLINK()", Errno::EOPNOTSUPP).hint(words);
        let hint = crate::hints::link(unknown).hint.unwrap();
        assert!(hint.starts_with("this kernel has no bridge"), "{hint}");
    }

    /// A message as a kernel would send it.
    fn message(kind: i32, flags: i32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let kind_and_flags = [kind, flags].map(|half| u16::try_from(half).unwrap().to_ne_bytes());
        let numbers = [0; 8];
        let length = length.to_ne_bytes();
        let header = [&length[..], kind_and_flags.as_flattened(), &numbers];
        let mut bytes = [&header.concat(), body].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A refusal with the kernel's words, after the refused request.
    fn refusal() -> Vec<u8> {
        let request = Request::delete_group(5).encode().unwrap();
        let mut words = [24_u16, 1].map(u16::to_ne_bytes).concat(); // length, NLMSGERR_ATTR_MSG
        words.extend(b"Device is unwilling\0");
        let body = [&(-95_i32).to_ne_bytes()[..], &request, &words].concat();
        message(libc::NLMSG_ERROR, libc::NLM_F_ACK_TLVS, &body)
    }

    fn link_message() -> Vec<u8> {
        let request = Request::add_bridge("br0", 5, [2; 6]).encode().unwrap();
        let mut body = request[HEADER..].to_vec();
        body[4..8].copy_from_slice(&9_u32.to_ne_bytes());
        message(libc::RTM_NEWLINK.into(), libc::NLM_F_MULTI, &body)
    }

    fn address_message() -> Vec<u8> {
        let link = numbered(9);
        let request = Request::add_address(&link, "172.20.1.2/24".parse().unwrap());
        let request = request.encode().unwrap();
        message(libc::RTM_NEWADDR.into(), 0, &request[HEADER..])
    }

    /// The default route: without RTA_DST.
    fn route_message() -> Vec<u8> {
        let (table, kind) = (libc::RT_TABLE_MAIN, libc::RTN_UNICAST);
        let mut body = vec![2, 0, 0, 0, table, 0, 0, kind, 0, 0, 0, 0];
        body.extend([8_u16, libc::RTA_OIF].map(u16::to_ne_bytes).as_flattened());
        body.extend(9_u32.to_ne_bytes());
        message(libc::RTM_NEWROUTE.into(), 0, &body)
    }

    /// The body of the only entry of a datagram.
    fn entry(datagram: &[u8]) -> Vec<u8> {
        match &decode(datagram).unwrap()[..] {
            [Reply::Entry(body)] => body.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn entries() {
        let (name, kind) = ("br0".into(), "bridge".into());
        let (index, group) = (9, 5);
        let expected = Link {
            index,
            name,
            kind,
            group,
            ..Default::default()
        };
        assert_eq!(link(&entry(&link_message())), Some(expected));
        let cidr = "172.20.1.2/24".parse().unwrap();
        let expected = Address { index, cidr };
        assert_eq!(address(&entry(&address_message())), Some(expected));
        let (address, prefix) = ([0; 4].into(), 0);
        let cidr = crate::cidr::Cidr { address, prefix };
        let expected = Address { index, cidr };
        assert_eq!(route(&entry(&route_message())), Some(expected));
    }

    #[test]
    fn replies() {
        let done = message(libc::NLMSG_DONE, libc::NLM_F_MULTI, &[0; 4]);
        let datagram = [link_message(), done.clone()].concat();
        let expected = [Reply::Entry(entry(&link_message())), Reply::Done];
        assert_eq!(decode(&datagram).unwrap(), expected);
        let refused = Reply::Refused(Errno::EOPNOTSUPP, "Device is unwilling".into());
        assert_eq!(decode(&refusal()).unwrap(), [refused]);
        let cut_short = message(libc::NLMSG_DONE, 0, &(-105_i32).to_ne_bytes());
        let expected = [Reply::Refused(Errno::ENOBUFS, String::new())];
        assert_eq!(decode(&cut_short).unwrap(), expected);
        let flags = libc::NLM_F_MULTI | libc::NLM_F_DUMP_INTR;
        let interrupted = message(libc::NLMSG_DONE, flags, &[0; 4]);
        let expected = [Reply::Interrupted, Reply::Done];
        assert_eq!(decode(&interrupted).unwrap(), expected);
        for short in 1..done.len() {
            assert_eq!(decode(&done[..short]), None, "{short}");
        }
    }

    fn decode_all(bytes: &[u8]) {
        for reply in decode(bytes).unwrap_or_default() {
            if let Reply::Entry(body) = reply {
                let _ = (link(&body), address(&body), route(&body));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Whatever comes, it is read to an end, without a panic.
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode_all(&bytes);
        }

        /// Bytes that look like messages, with some of them changed and the end cut off.
        #[test]
        fn changed_messages(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let messages = [link_message(), refusal(), address_message(), route_message()];
            let mut bytes = messages.concat();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len()));
            decode_all(&bytes);
        }
    }
}

//! The network: a bridge on the host, and a pair of links that leads into the container. See
//! network_namespaces(7), veth(4) and bridge(8).
//!
//! ```text
//!  host                                      │ container
//!  br0 172.20.1.2 ── veth0 172.20.1.3 ───────┼─────── veth1 172.20.1.4      lo 127.0.0.1
//! ```

use crate::{
    Error, Result, cli, idmap,
    netlink::{Request, Socket},
    process::{Child, clone_hint},
    step::step,
};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// The container's end of the pair: the talk's name, free in every new network namespace.
const INSIDE: &str = "veth1";
/// The host's end.
const OUTSIDE: &str = "veth0";

/// An IPv4 address and the length of its subnet's prefix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            Some(Self { address: address.parse().ok()?, prefix: prefix.parse().ok()? })
        });
        match parsed {
            Some(cidr) if cidr.prefix > 30 => {
                Err(format!("a subnet /{} has no room for three addresses: 30 is the limit", cidr.prefix))
            }
            Some(cidr)
                if cidr.address == cidr.subnet() || cidr.address.to_bits() | cidr.mask() == u32::MAX =>
            {
                Err(format!(
                    "the first and the last address of {}/{} are not a machine's",
                    cidr.subnet(),
                    cidr.prefix
                ))
            }
            Some(cidr)
                if cidr.address.is_loopback()
                    || cidr.address.is_multicast()
                    || cidr.address.octets()[0] == 0 =>
            {
                Err(format!("{} is not a machine's address", cidr.address))
            }
            Some(cidr) => Ok(cidr),
            None => Err("an address looks like 172.20.1.2/24".into()),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    fn subnet(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & self.mask())
    }
}

/// In which network namespace the bridge is.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Net {
    /// The host's own, as in the talk; takes root. The default for root.
    Host,
    /// One that plays the host, and goes with the container; the real host is not touched.
    Private,
}

/// The network's options: the talk's values.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the bridge is: host or private [default: host for root]
    #[arg(long, value_enum, hide_possible_values = true)]
    net: Option<Net>,
    /// The bridge on the host
    #[arg(long, value_name = "NAME", default_value = "br0", value_parser = link_name)]
    bridge: String,
    /// The bridge's address
    #[arg(long, value_name = "CIDR", default_value = "172.20.1.2/24")]
    bridge_addr: Cidr,
    /// The address of veth0, the host's end
    #[arg(long, value_name = "CIDR", default_value = "172.20.1.3/24")]
    host_addr: Cidr,
    /// The address of veth1, the container's end
    #[arg(long, value_name = "CIDR", default_value = "172.20.1.4/24")]
    container_addr: Cidr,
}

/// A link's name: at most 15 bytes, no slash, no white space; `dev_valid_name` of `net/core/dev.c`.
fn link_name(name: &str) -> std::result::Result<String, String> {
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte == b'%' || byte.is_ascii_whitespace();
    match name {
        "" | "." | ".." => Err("a link needs a name".into()),
        _ if name.len() > 15 => Err(format!("a link's name has at most 15 bytes, this one {}", name.len())),
        _ if name.bytes().any(bad) => Err("a link's name has no '/', ':', '%' or white space in it".into()),
        OUTSIDE => Err(format!("{OUTSIDE} is the name of the host's end of the pair")),
        _ => Ok(name.into()),
    }
}

impl Options {
    /// # Errors
    /// If the three addresses cannot be in one network.
    fn check(&self) -> Result<()> {
        let (bridge, host, container) = (self.bridge_addr, self.host_addr, self.container_addr);
        for (name, other) in [("--host-addr", host), ("--container-addr", container)] {
            if (other.subnet(), other.prefix) != (bridge.subnet(), bridge.prefix) {
                return Err(Error::input(format!(
                    "{name} {other} is not in the subnet of --bridge-addr {bridge}"
                )));
            }
        }
        match bridge.address == host.address
            || bridge.address == container.address
            || host.address == container.address
        {
            true => Err(Error::input(format!(
                "--bridge-addr {bridge}, --host-addr {host} and --container-addr {container} must differ"
            ))),
            false => Ok(()),
        }
    }

    /// Goes where the bridge will be: nowhere with `--net host`; with `--net private` into a user
    /// and a network namespace that play the host: `unshare --map-current-user --keep-caps -Un`.
    ///
    /// # Errors
    /// If the addresses do not go together; those of unshare(2).
    pub fn enter(&self) -> Result<()> {
        self.check()?;
        let net = self.net.unwrap_or(if geteuid().is_root() { Net::Host } else { Net::Private });
        if net == Net::Host {
            return Ok(());
        }
        let caller = idmap::Outer::current();
        let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET;
        step(format_args!("unshare(CLONE_NEWUSER|CLONE_NEWNET)"), || unshare(flags))
            .map_err(|error| clone_hint(error, flags))?;
        caller.map_current_user()
    }
}

/// The host's side of the network. Dropped, it removes what it made.
#[derive(Debug)]
pub struct Network {
    socket: Socket,
    /// All that it made, and nothing else, is in this group: one request removes it.
    group: u32,
    made: bool,
}

/// The talk's bridge and pair: `brctl addbr br0`, `ip addr add`, `ip link set up`; then
/// `ip link add veth0 type veth peer name veth1`, the peer in the child's network namespace at once,
/// veth0 attached to the bridge.
///
/// # Errors
/// `EEXIST` if a link of that name is there already: it is not ours, and stays as it is.
pub fn connect(options: &Options, child: &Child) -> Result<Network> {
    let pid = child.pid().as_raw().unsigned_abs();
    let mut network = Network { socket: Socket::open()?, group: pid | 1 << 30, made: false };
    let bridge = network.add(
        &Request::add_bridge(&options.bridge, network.group),
        &options.bridge,
        options.bridge_addr,
    )?;
    network.add(
        &Request::add_veth(OUTSIDE, bridge, network.group, INSIDE, pid),
        OUTSIDE,
        options.host_addr,
    )?;
    Ok(network)
}

impl Network {
    /// Makes a link and gives it its address; returns its index.
    fn add(&mut self, link: &Request, name: &str, address: Cidr) -> Result<u32> {
        self.socket.request(link).map_err(|error| hint(error, name))?;
        self.made = true;
        let index = index_of(&mut self.socket, name)?;
        self.socket.request(&Request::add_address(index, address.address, address.prefix))?;
        Ok(index)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if self.made
            && let Err(error) = self.socket.request(&Request::delete_group(self.group))
        {
            cli::report(&error);
        }
    }
}

fn hint(error: Error, name: &str) -> Error {
    error
        .hint_on(Errno::EEXIST, || format!("there is a link {name} already, which this stage did not make and leaves alone: ip -d link show {name}; for another bridge name there is --bridge, for a network of its own --net private"))
        .hint_on(Errno::EOPNOTSUPP, || "this kernel has no bridge or no veth: modprobe bridge veth, or a kernel with CONFIG_BRIDGE and CONFIG_VETH".to_string())
        .hint_on(Errno::EPERM, || "links of the host take root (CAP_NET_ADMIN): --net private does without".to_string())
}

fn index_of(socket: &mut Socket, name: &str) -> Result<u32> {
    let request = Request::get_link(name);
    let links = socket.request(&request)?;
    links.first().map(|link| link.index).ok_or_else(|| Error::new(request.to_string(), Errno::ENODEV))
}

/// The container's side: `ip link set lo up`, `ip addr add 172.20.1.4/24 dev veth1`,
/// `ip link set veth1 up`.
///
/// # Errors
/// Those of rtnetlink(7).
pub fn up(options: &Options) -> Result<()> {
    let mut socket = Socket::open()?;
    let address = options.container_addr;
    let lo = index_of(&mut socket, "lo")?;
    socket.request(&Request::set_up(lo))?;
    let inside = index_of(&mut socket, INSIDE)?;
    socket.request(&Request::add_address(inside, address.address, address.prefix))?;
    socket.request(&Request::set_up(inside))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        let subnet = |text: &str| text.parse::<Cidr>().map(|cidr| cidr.subnet().to_string());
        assert_eq!(subnet("172.20.1.2/24").unwrap(), "172.20.1.0");
        assert_eq!(subnet("172.20.6.2/22").unwrap(), "172.20.4.0");
        assert_eq!(subnet("172.20.1.130/25").unwrap(), "172.20.1.128");
        assert_eq!(subnet("10.0.0.1/1").unwrap(), "0.0.0.0");
        assert!(subnet("172.20.1.2/0").is_ok());
        assert!(subnet("172.20.1.2/31").is_err() && subnet("172.20.1.3/30").is_err() && subnet("x").is_err());
    }
}

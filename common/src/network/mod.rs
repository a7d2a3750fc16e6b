//! The network: a bridge on the host, and a pair of links that leads into the container. See
//! [network_namespaces(7)], [veth(4)] and [bridge(8)].
//!
//! ```text
//!  host                                      │ container
//!  br0 172.20.1.2 ── veth0 172.20.1.3 ───────┼─────── veth1 172.20.1.4      lo 127.0.0.1
//! ```
//!
//! In [stage 5](../../stage5_net/index.html). Several containers share the bridge. Looking at what is
//! there and adding to it happens under a lock.
//!
//! [bridge(8)]: https://man7.org/linux/man-pages/man8/bridge.8.html
//! [network_namespaces(7)]: https://man7.org/linux/man-pages/man7/network_namespaces.7.html
//! [veth(4)]: https://man7.org/linux/man-pages/man4/veth.4.html

mod forwarding;
mod lock;
mod options;
mod picture;
mod plan;
mod removal;

use crate::cidr::Cidr;
pub use options::{Net, Options};

use crate::capabilities::Capabilities;
use crate::error::accept;
use crate::explain::{self, Fact, call, change, heading, step};
use crate::janitor::Janitor;
use crate::namespaces::{NEWNET, NEWUSER, pidfd};
use crate::netlink::{Link, Request, Socket};
use crate::{Result, hints, idmap};
use lock::Lock;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, getpid};
use picture::facts;
use plan::{Host, is_ours};
use std::{fmt::Display, ops::Deref, os::fd::AsRawFd};

/// The container's end of the pair: the talk's name, free in every new network namespace.
const INSIDE: &str = "veth1";

/// The namespaces of the simulated host.
const SIMULATED: CloneFlags = NEWUSER.union(NEWNET);

/// A network namespace in which links can be changed.
pub struct Links(Socket);

impl Links {
    /// The link of this name.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn link(&self, name: &str) -> Result<Link> {
        self.0.link(name)
    }

    /// `ip addr add ADDRESS dev LINK`, if there is an address. It may be there already.
    pub fn add_address(&self, link: &Link, address: impl Into<Option<Cidr>>) -> Result<()> {
        let Some(cidr) = address.into() else {
            return Ok(());
        };
        let shell = format_args!("ip addr add {cidr} dev {}", link.name);
        let request = Request::add_address(link, cidr);
        let added = self.step(shell, "an address, and a route", &request);
        accept(Errno::EEXIST, added)
    }

    /// `ip link set LINK up`.
    pub fn set_up(&self, link: &Link) -> Result<()> {
        let shell = format_args!("ip link set {} up", link.name);
        self.step(shell, "packets can pass", &Request::set_up(link))
    }

    /// `ip link set LINK addrgenmode none`: the kernel gives the link no IPv6 address of its own. The
    /// talk does not use IPv6, and the announcements of a thousand such addresses delay the first
    /// pings. A kernel without IPv6 has nothing to refuse.
    pub fn no_ipv6(&self, link: &Link) -> Result<()> {
        let done = self.0.request(&Request::no_ipv6_address(link));
        accept(Errno::EAFNOSUPPORT, done)
    }

    /// `ip route add default via GATEWAY`: where packets to all other addresses go.
    pub fn add_default_route(&self, gateway: Cidr) -> Result<()> {
        let shell = format_args!("ip route add default via {}", gateway.address);
        let request = Request::add_default_route(gateway.address);
        self.step(shell, "the way to all other addresses", &request)
    }

    /// A step that consists of one request.
    fn step(&self, shell: impl Display, does: &str, request: &Request) -> Result<()> {
        step(shell, does, || change(facts, || self.0.request(request)))
    }
}

/// The host's network, and what a container gets of it. Dropped at the stage's end, it lets the janitor
/// remove its links.
pub struct Network<'a> {
    options: &'a Options,
    links: Links,
    /// The group of the container's links.
    group: u32,
    /// The bridge, if an earlier container has created it.
    bridge: Option<Link>,
    /// The name of the host's end of the pair.
    veth: String,
    /// The address of the bridge.
    pub bridge_addr: Cidr,
    /// The address of the host's end of the pair, if it has one.
    pub host_addr: Option<Cidr>,
    /// The address of the end inside.
    pub container_addr: Cidr,
    // Dropped in this order: the janitor needs the lock. A simulated host has neither.
    lock: Option<Lock>,
    janitor: Option<Janitor>,
}

impl Deref for Network<'_> {
    type Target = Links;

    fn deref(&self) -> &Links {
        &self.links
    }
}

/// Opens the host's network. With `--net private` this process first moves into a user and a network
/// namespace that simulate the host: `unshare --map-current-user --keep-caps -Un`. Otherwise it
/// forks the janitor, and locks the network until [`Network::unlock`].
///
/// # Errors
/// If the addresses do not fit together or are in use; those of unshare(2).
pub fn open<'a>(options: &'a Options, idmap: &idmap::Options) -> Result<Network<'a>> {
    options.check()?;
    let (janitor, lock) = if options.is_private() {
        simulate_host(idmap)?;
        (None, None)
    } else {
        // It can only change links.
        let janitor = Janitor::start(Capabilities::NET_ADMIN, removal::remove_links)?;
        (Some(janitor), Some(lock::take()?))
    };
    let socket = Socket::open()?;
    let host = Host::look(&socket)?;
    let bridge = host.bridge(options)?;
    let pid = janitor.as_ref().map_or_else(getpid, Janitor::pid);
    let group = host.free_group(pid);
    let (host_addr, container_addr) = (host.host_addr(options)?, host.container_addr(options)?);
    if let Some(janitor) = &janitor {
        janitor.remove_at_end(&format!("{group} {}", options.bridge))?;
    }
    Ok(Network {
        options,
        links: Links(socket),
        group,
        bridge,
        veth: host.free_veth(options),
        bridge_addr: options.bridge_addr,
        host_addr,
        container_addr,
        lock,
        janitor,
    })
}

fn simulate_host(idmap: &idmap::Options) -> Result<()> {
    heading("simulated host");
    let caller = idmap::Outer::current();
    let namespaces = || Fact::namespaces("self", SIMULATED);
    if let Some(holder) = idmap.between(SIMULATED)? {
        let shell = format!("nsenter -t {} -U -n --preserve-credentials", holder.pid());
        let does = "a network that simulates the host";
        step(shell, does, || {
            let process = pidfd(holder.pid())?;
            let number = process.as_raw_fd();
            let text = format_args!("setns({number}, CLONE_NEWUSER|CLONE_NEWNET)");
            change(namespaces, || call(text, || setns(&process, SIMULATED)))
        })?;
        explain::moved(SIMULATED);
        return Ok(());
    }
    let shell = "unshare --map-current-user --keep-caps -Un";
    step(shell, "a network that simulates the host", || {
        let text = "unshare(CLONE_NEWUSER|CLONE_NEWNET)";
        change(namespaces, || call(text, || unshare(SIMULATED)))
            .map_err(|error| hints::new_namespaces(error, SIMULATED))
    })?;
    explain::moved(SIMULATED);
    caller.map_current_user()
}

impl Network<'_> {
    /// `brctl addbr br0`, unless a container before has created it. The bridge gets a hardware address of
    /// its own: otherwise it takes the lowest one of its ports, and changes it as they come and go.
    ///
    /// # Errors
    /// `EEXIST` if the name belongs to a link that no stage has created: it stays as it is.
    pub fn add_bridge(&self) -> Result<Link> {
        heading("network of the host");
        if let Some(bridge) = &self.bridge {
            return Ok(bridge.clone());
        }
        let name = &self.options.bridge;
        let [a, b, c, d] = self.bridge_addr.address.octets();
        let mac = [0x02, b'l', a, b, c, d]; // 02: locally administered
        let request = Request::add_bridge(name, self.group, mac);
        let shell = format_args!("brctl addbr {name}");
        let added = self.step(shell, "a switch without ports", &request);
        let exists = format!(
            "a link {name} exists, which no stage has created and no stage touches \
             (ip -d link show {name}): choose another name with --bridge, or --net private"
        );
        added.map_err(|error| match error.errno() {
            Some(Errno::EEXIST) => error.hint(exists),
            _ => hints::link(error),
        })?;
        self.link(name)
    }

    /// `ip link add veth0 type veth peer name veth1 netns PID`: a pair of links, one here, its peer in the
    /// container's network namespace. Created there at once, since moving it costs an RCU grace period.
    /// Its alias says which addresses are taken.
    pub fn add_veth(&self, container: Pid) -> Result<Link> {
        let name = &self.veth;
        let pid = container.as_raw().unsigned_abs();
        let request = Request::add_veth(name, self.group, INSIDE, pid);
        let shell = format_args!("ip link add {name} type veth peer name {INSIDE} netns {pid}");
        let added = self.step(shell, "a cable into the container", &request);
        added.map_err(hints::link)?;
        if explain::is_on() {
            let peer = format!("{INSIDE} netns {pid}"); // this process cannot look at it there
            explain::changed(&[], &[Fact::new("peer", name, peer)]);
        }
        let mut link = self.link(name)?;
        let container_addr = self.container_addr.address;
        link.alias = match self.host_addr {
            Some(host_addr) => format!("{container_addr} {}", host_addr.address),
            None => container_addr.to_string(),
        };
        self.0.request(&Request::set_alias(&link, &link.alias))?;
        Ok(link)
    }

    /// `ip link set veth0 master br0`: plugs the cable into the bridge.
    ///
    /// # Errors
    /// `EXFULL` if the bridge has 1023 ports already.
    pub fn set_master(&self, link: &Link, bridge: &Link) -> Result<()> {
        let shell = format_args!("ip link set {} master {}", link.name, bridge.name);
        let request = Request::set_master(link, bridge);
        let set = self.step(shell, "plugs it into the bridge", &request);
        set.map_err(hints::link)
    }

    /// Whether the host is simulated.
    pub(crate) fn is_private(&self) -> bool {
        self.janitor.is_none()
    }

    /// A number that no other container of this host has.
    pub(crate) fn number(&self) -> u32 {
        self.group & plan::NUMBER
    }

    /// Lets the next stage change the host's network.
    pub fn unlock(&self) {
        if let Some(lock) = &self.lock {
            lock.release();
        }
    }

    /// The network namespace of the container, in the child.
    pub fn inside(&self) -> Result<Links> {
        heading("network inside");
        Socket::open().map(Links)
    }

    /// Waits, in the child, until packets pass, so that the first ping is answered.
    ///
    /// Once a second the kernel handles what happened to the carrier of links; asking for a link makes
    /// it do so at once (since Linux 6.8). The child still has the host's socket.
    pub fn wait_for_carrier(&self, inside: &Links) -> Result<()> {
        inside.link(INSIDE)?;
        self.link(&self.veth)?;
        self.link(&self.options.bridge).map(drop)
    }
}

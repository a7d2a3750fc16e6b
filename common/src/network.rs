//! The network: a bridge on the host, and a pair of links that leads into the container. See
//! [network_namespaces(7)], [veth(4)] and [bridge(8)].
//!
//! ```text
//!  host                                      │ container
//!  br0 172.20.1.2 ── veth0 172.20.1.3 ───────┼─────── veth1 172.20.1.4      lo 127.0.0.1
//! ```
//!
//! In [stage 5](../../stage5_net/index.html).
//!
//! [bridge(8)]: https://man7.org/linux/man-pages/man8/bridge.8.html
//! [network_namespaces(7)]: https://man7.org/linux/man-pages/man7/network_namespaces.7.html
//! [veth(4)]: https://man7.org/linux/man-pages/man4/veth.4.html

use crate::{
    Error, Result, cli, confine, idmap,
    netlink::{Address, Device, Reply, Request, Socket},
    process::{Child, Nsenter, changes, clone_hint, fork_keeper, give_back, namespaces, retry},
    step::{awaits, beside, is_told, moved, picture, step},
};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::Signal,
        socket::{AddressFamily, SockFlag, SockType, socketpair},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, geteuid, getppid, pipe2, read, write},
};
use std::{
    cell::Cell,
    fmt, fs,
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    str::FromStr,
    time::{Duration, Instant},
};

/// The container's end of the pair: the talk's name, free in every new network namespace.
const INSIDE: &str = "veth1";
/// With `--net private`: what plays the host.
const PRIVATE: CloneFlags = CloneFlags::CLONE_NEWUSER.union(CloneFlags::CLONE_NEWNET);

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

    /// How many machines the subnet has room for.
    fn room(self) -> u32 {
        !self.mask() - 1
    }

    /// The machine's address at this distance in the subnet, which is a circle.
    fn next(self, distance: u32) -> Self {
        let here = u64::from(self.address.to_bits() & !self.mask()) - 1;
        let there = (here + u64::from(distance)) % u64::from(self.room()) + 1;
        let bits = self.subnet().to_bits() | u32::try_from(there).unwrap_or(1);
        Self { address: Ipv4Addr::from_bits(bits), ..self }
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
    /// The address of veth0, the host's end [default: the bridge's next]
    #[arg(long, value_name = "CIDR")]
    host_addr: Option<Cidr>,
    /// The address of veth1, the container's end [default: the next free]
    #[arg(long, value_name = "CIDR")]
    container_addr: Option<Cidr>,
}

/// A link's name: at most 15 bytes, no slash, no white space; `dev_valid_name` of `net/core/dev.c`.
fn link_name(name: &str) -> std::result::Result<String, String> {
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte == b'%' || byte.is_ascii_whitespace();
    match name {
        "" | "." | ".." => Err("a link needs a name".into()),
        _ if name.len() > 15 => Err(format!("a link's name has at most 15 bytes, this one {}", name.len())),
        _ if name.bytes().any(bad) => Err("a link's name has no '/', ':', '%' or white space in it".into()),
        _ => Ok(name.into()),
    }
}

impl Options {
    /// # Errors
    /// If the addresses cannot be in one network.
    fn check(&self) -> Result<()> {
        let bridge = self.bridge_addr;
        let [host, container] =
            [("--host-addr", Some(self.host_address())), ("--container-addr", self.container_addr)];
        let mut before = vec![("--bridge-addr", bridge)];
        for (name, cidr) in [host, container] {
            let Some(cidr) = cidr else { continue };
            if (cidr.subnet(), cidr.prefix) != (bridge.subnet(), bridge.prefix) {
                return Err(Error::input(format!(
                    "{name} {cidr} is not in the subnet of --bridge-addr {bridge}"
                )));
            }
            if let Some((other, _)) = before.iter().find(|(_, earlier)| earlier.address == cidr.address) {
                return Err(Error::input(format!("{other} and {name} must differ: both are {cidr}")));
            }
            before.push((name, cidr));
        }
        Ok(())
    }

    fn host_address(&self) -> Cidr {
        self.host_addr.unwrap_or(self.bridge_addr.next(1))
    }

    /// The addresses that a container may have: in turn all that are not the host's.
    fn container_addresses(&self) -> impl Iterator<Item = Cidr> {
        let host = [self.bridge_addr, self.host_address()];
        let all = (2..=self.bridge_addr.room()).map(|distance| self.bridge_addr.next(distance));
        all.filter(move |cidr| !host.contains(cidr))
    }
}

/// The network of a container to be: its options, and where they are carried out.
pub struct Network<'a> {
    options: &'a Options,
    private: bool,
    /// Through which the container learns its address, and that packets pass.
    told: OwnedFd,
    tell: Cell<Option<OwnedFd>>,
    /// Whether the bridge was made in this run.
    new_bridge: Cell<bool>,
}

/// Goes where the bridge will be: nowhere with `--net host`; with `--net private` into a user and a
/// network namespace that play the host: `unshare --map-current-user --keep-caps -Un`.
///
/// # Errors
/// If the addresses do not go together; those of unshare(2).
pub fn enter(options: &Options) -> Result<Network<'_>> {
    options.check()?;
    let default = if geteuid().is_root() { Net::Host } else { Net::Private };
    let private = options.net.unwrap_or(default) == Net::Private;
    if private {
        let caller = idmap::Outer::current();
        let before = is_told().then(|| namespaces("self", PRIVATE));
        let shell = format_args!("unshare --map-current-user --keep-caps -Un");
        let does = "what plays the host from here on";
        step(format_args!("unshare(CLONE_NEWUSER|CLONE_NEWNET)"), shell, does, || unshare(PRIVATE))
            .map_err(|error| clone_hint(error, PRIVATE))?;
        if let Some(before) = before {
            changes(&before, &namespaces("self", PRIVATE));
        }
        moved(PRIVATE);
        caller.map_current_user()?;
    }
    let does = "through it the container learns its address";
    let (told, tell) =
        step(format_args!("pipe2(O_CLOEXEC)"), format_args!(""), does, || pipe2(OFlag::O_CLOEXEC))?;
    Ok(Network { options, private, told, tell: Cell::new(Some(tell)), new_bridge: Cell::new(false) })
}

/// The host's side while the container runs. Dropped, it waits until its part of the network has gone.
#[derive(Debug)]
pub struct Connection {
    keeper: Pid,
    made: Made,
    /// Closed, also by our death, it lets the keeper remove what it made.
    lifeline: Option<OwnedFd>,
}

/// What belongs to one container on the host, by index.
#[derive(Clone, Debug)]
struct Made {
    bridge: Device,
    veth: Device,
    /// Whether packets pass the bridge already.
    up: bool,
}

impl Network<'_> {
    /// The talk's bridge and pair: `brctl addbr br0`, `ip addr add`, `ip link set up`; then
    /// `ip link add veth0 type veth peer name veth1`, the peer in the child's network namespace at
    /// once, veth0 attached to the bridge.
    ///
    /// A process of its own does that, the keeper, and removes it again when the stage has ended,
    /// however it ended: the kernel removes the pair with the container's network namespace, but
    /// knows of no reason to remove a bridge. With `--net private` it knows one, and the keeper ends
    /// once packets pass.
    ///
    /// # Errors
    /// `EEXIST` if the bridge's name belongs to a link that is not ours, and stays as it is.
    pub fn connect(&self, child: &Child) -> Result<Connection> {
        let call = "socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC)";
        let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC);
        let (lifeline, stage) = pair.map_err(|errno| Error::new(call, errno))?;
        let lifeline = Cell::new(Some(lifeline));
        let keeper = fork_keeper(child, || {
            drop(lifeline.take()); // kept open, it would hide the stage's death
            beside(&stage);
            self.keep(child, &stage)
        })?;
        drop((stage, self.tell.take()));
        let lifeline = lifeline.take();
        let mut made = [0; MADE];
        let answer = lifeline.as_ref().map_or(Ok(0), |lifeline| retry(|| read(lifeline, &mut made)));
        if answer != Ok(MADE) {
            drop(lifeline); // the keeper removes what it may have made
            return Err(match (answer, retry(|| waitpid(keeper, None))) {
                (Err(errno), _) => Error::new("read(socketpair)", errno),
                (_, Ok(WaitStatus::Signaled(_, signal, _))) => {
                    let lost =
                        Error::input(format!("the process that makes the network was ended by {signal}"));
                    lost.hint("if a bridge of ours is left, the next run removes it")
                }
                (_, Ok(WaitStatus::Exited(_, status))) => Error::reported(u8::try_from(status).unwrap_or(1)),
                _ => Error::reported(1),
            });
        }
        let number = |at: usize| u32::from_ne_bytes([made[at], made[at + 1], made[at + 2], made[at + 3]]);
        let device = |at: usize| Device { index: number(at), name: String::new() };
        let made = Made { bridge: device(0), veth: device(4), up: true };
        if self.private {
            child.also_reap(keeper);
        }
        Ok(Connection { keeper, made, lifeline })
    }

    /// The keeper's life.
    fn keep(&self, child: &Child, stage: &OwnedFd) -> Result<()> {
        if self.private {
            // There is nothing to remove, and it would keep the namespace from going.
            let text = format_args!("prctl(PR_SET_PDEATHSIG, SIGKILL)");
            step(text, format_args!(""), "it goes with the stage", || set_pdeathsig(Signal::SIGKILL))?;
        }
        confine::keeper()?;
        let mut socket = Socket::open()?;
        let events = Socket::open_events()?;
        let (made, address, number) = match self.make(&mut socket, child) {
            Err(error) => {
                self.leave_no_bridge(child);
                return Err(if child.is_gone() { Error::reported(1) } else { error });
            }
            made => made?,
        };
        if number > 0 && forwarding_drops() {
            let bridge = &self.options.bridge;
            cli::say(&format!(
                "packets between containers pass the rules for forwarding here (net.bridge.bridge-nf-call-iptables \
                 is 1), whose policy is to drop them, as Docker sets it up\nhint: iptables -I FORWARD -i {bridge} -o {bridge} \
                 -j ACCEPT lets them pass, and with -D instead of -I it is undone"
            ));
        }
        let ours = [made.bridge.index.to_ne_bytes(), made.veth.index.to_ne_bytes()].concat();
        let told = [&address.address.octets()[..], &[address.prefix]].concat();
        let Some(tell) = self.tell.take() else { return Ok(()) };
        if let Err(error) = send(&tell, &told).and_then(|()| send(stage, &ours)) {
            remove(&mut socket, &made)?;
            return Err(error);
        }
        until_up(&events, stage, &made);
        picture(|| self.picture(child, &made, address, number));
        drop(tell); // says so
        drop(events); // the kernel would copy every event of every link to it
        if self.private {
            return Ok(());
        }
        give_back();
        let _ = persist(|| read(stage, &mut [0])); // until the stage has ended
        remove(&mut socket, &made)
    }

    /// Makes this container's part of the network, and the bridge where there is none.
    ///
    /// Many do so at the same time, and others leave: the bridge that was found may be gone in the
    /// next moment. So it is a loop, of as many rounds as others have luck.
    fn make(&self, socket: &mut Socket, child: &Child) -> Result<(Made, Cidr, usize)> {
        let pid = child.pid().as_raw().unsigned_abs();
        for _ in 0..1000 {
            let Some((bridge, up)) = self.bridge(socket)? else { continue };
            let Some(veth) = add_veth(socket, &bridge, pid, self.new_bridge.get())? else { continue };
            // The claim: whoever leaves as the last one removes only what has his own mark.
            match socket.request(&Request::set_group(&bridge, mark(&veth))) {
                Err(error) if error.errno() == Some(Errno::ENODEV) => {
                    socket.request(&Request::delete(&veth))?;
                }
                Err(error) => {
                    let _ = remove(socket, &Made { bridge, veth, up });
                    return Err(error);
                }
                Ok(_) => {
                    let mut made = Made { bridge, veth, up };
                    return match self.addresses(socket, &mut made.veth) {
                        Ok((address, number)) => Ok((made, address, number)),
                        Err(error) => {
                            let _ = remove(socket, &made);
                            Err(error)
                        }
                    };
                }
            }
        }
        Err(Error::input(format!("{}: it comes and goes, a thousand times", self.options.bridge)))
    }

    /// `brctl addbr br0`, unless there is one, and it is ours; and whether packets pass it. `None` if
    /// it has gone meanwhile.
    fn bridge(&self, socket: &mut Socket) -> Result<Option<(Device, bool)>> {
        let (name, Cidr { address, prefix }) = (&self.options.bridge, self.options.bridge_addr);
        let show = Request::get_link(name);
        let link = match socket.link(&show) {
            Ok(link) if link.kind == "bridge" && link.group & !INDEX_BITS == MARK => link,
            // The kernel is asked all the same, and it says no.
            Ok(_) => {
                let made = socket.request(&Request::add_bridge(name, MARK, mac(address)));
                self.new_bridge.set(made.is_ok()); // the other one has gone meanwhile
                return made.map(|_| None).map_err(|error| {
                    error.hint_on(Errno::EEXIST, || {
                        format!(
                            "there is a link {name} already, which this stage did not make and leaves alone \
                             (ip -d link show {name}): take another name with --bridge, or --net private"
                        )
                    })
                });
            }
            Err(error) if error.errno() == Some(Errno::ENODEV) => {
                self.subnet_is_free(socket)?;
                let made = socket.request(&Request::add_bridge(name, MARK, mac(address)));
                self.new_bridge.set(made.is_ok() || !socket.was_answered());
                match made {
                    Err(error) if error.errno() == Some(Errno::EEXIST) => return Ok(None),
                    made => made.map_err(link_hint)?,
                };
                match socket.link(&show) {
                    Ok(link) => link,
                    Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let bridge = Device { index: link.index, name: name.clone() };
        for request in [Request::add_address(&bridge, address, prefix), Request::set_up(&bridge)] {
            match socket.request(&request) {
                Err(error) if error.errno() == Some(Errno::EEXIST) => {} // it has the address
                Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(None),
                done => done.map(drop)?,
            }
        }
        Ok(Some((bridge, link.up)))
    }

    /// After a failure half-way: the bridge that this run has made goes, unless others use it by now.
    fn leave_no_bridge(&self, child: &Child) {
        if self.new_bridge.get()
            && let Ok(mut socket) = Socket::open()
            && let Ok(link) = socket.link(&Request::get_link(&self.options.bridge))
        {
            let bridge = Device { index: link.index, name: link.name };
            // A mark of our own takes a number that no link has.
            let veth = Device { index: 1 << 23 | child.pid().as_raw().unsigned_abs(), name: String::new() };
            let _ = remove(&mut socket, &Made { bridge, veth, up: false });
        }
    }

    /// Another link with our subnet would lose its traffic to the bridge: somebody's LAN perhaps.
    fn subnet_is_free(&self, socket: &mut Socket) -> Result<()> {
        let ours = self.options.bridge_addr;
        for reply in socket.request(&Request::get_addresses())? {
            let Reply::Address(Address { index, address, prefix }) = reply else { continue };
            let theirs = Cidr { address, prefix };
            let mask = ours.mask() & theirs.mask();
            if (ours.address.to_bits() ^ address.to_bits()) & mask != 0 {
                continue;
            }
            match socket.link(&Request::get_index(index)) {
                Ok(link) if link.group & !INDEX_BITS != MARK => {
                    return Err(Error::new(format!("--bridge-addr {ours}"), Errno::EADDRINUSE).hint(format!(
                        "the link {} has {theirs}, whose traffic would go to the bridge: take another subnet with \
                         --bridge-addr, or --net private",
                        link.name
                    )));
                }
                _ => {} // of a container that is just leaving
            }
        }
        Ok(())
    }

    /// `ip addr add` for the host's end, in the first container; and the container's address, which
    /// it adds itself. A link's alternative name is unique in the kernel, and goes with the link: so
    /// an address that is one belongs to one container. Returns it, and the number in the link's name.
    fn addresses(&self, socket: &mut Socket, veth: &mut Device) -> Result<(Cidr, usize)> {
        veth.name = socket.link(&Request::get_index(veth.index))?.name;
        let number =
            veth.name.strip_prefix("veth").and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
        // None, or why it cannot be had: another container has it.
        let mut claim =
            |cidr: Cidr| match socket.request(&Request::add_altname(veth, &cidr.address.to_string())) {
                Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(Some(error)),
                claimed => claimed.map(|_| None),
            };
        let must = |cidr: Cidr, claimed: Option<Error>| match claimed {
            Some(error) => Err(error.hint(format!(
                "another container has {}: ip link show dev {} tells which",
                cidr.address, cidr.address
            ))),
            None => Ok(cidr),
        };
        let host = self.options.host_address();
        let host = match self.options.host_addr {
            Some(_) => Some(must(host, claim(host)?)?),
            None => (number == 0 && claim(host)?.is_none()).then_some(host),
        };
        let container = match self.options.container_addr {
            Some(given) => must(given, claim(given)?)?,
            // The next free one is likely the one with the link's number.
            None => {
                let all = self.options.container_addresses();
                let (before, after): (Vec<_>, Vec<_>) =
                    all.take(MOST_PORTS + 1).enumerate().partition(|(at, _)| *at < number);
                let mut free = None;
                for (_, cidr) in after.into_iter().chain(before) {
                    if claim(cidr)?.is_none() {
                        free = Some(cidr);
                        break;
                    }
                }
                free.ok_or_else(|| {
                    let bridge = self.options.bridge_addr;
                    Error::input(format!("the subnet {}/{} is full", bridge.subnet(), bridge.prefix)).hint(
                        "a larger one: --bridge-addr 172.20.4.2/22, with a bridge of its own: --bridge br1",
                    )
                })?
            }
        };
        if let Some(Cidr { address, prefix }) = host {
            socket.request(&Request::add_address(veth, address, prefix))?;
        }
        Ok((container, number))
    }

    /// What was made, and how to look at it.
    fn picture(&self, child: &Child, made: &Made, container: Cidr, number: usize) -> String {
        let (bridge, veth, pid) = (&self.options.bridge, &made.veth.name, child.pid());
        let host = match number {
            0 => format!(" {}", self.options.host_address()),
            _ => self.options.host_addr.map(|host| format!(" {host}")).unwrap_or_default(),
        };
        let left = format!("{bridge} {} -- {veth}{host} ", self.options.bridge_addr);
        let look = match self.private {
            true => format!("{} ip addr", Nsenter(getppid(), PRIVATE)),
            false => "ip addr".into(),
        };
        format!(
            "  {:<width$}| container, process {pid}\n  {left}--|-- {INSIDE} {container}, lo 127.0.0.1/8\n  \
             look from another terminal: {look}\n    inside: {} ip addr",
            if self.private { "what plays the host" } else { "host" },
            child.nsenter(),
            width = left.len() + 2
        )
    }

    /// The container's side: `ip link set lo up`, `ip addr add 172.20.1.4/24 dev veth1`,
    /// `ip link set veth1 up`.
    ///
    /// # Errors
    /// Those of rtnetlink(7).
    pub fn up(&self) -> Result<()> {
        drop(self.tell.take());
        let mut told = [0; 5];
        let text = format_args!("read(pipe)");
        let does = "the address, which the host has chosen";
        if awaits(text, does, || retry(|| read(&self.told, &mut told)))? != told.len() {
            return Err(Error::reported(1)); // by the keeper
        }
        let [a, b, c, d, prefix] = told;
        let mut socket = Socket::open()?;
        let mut device = |name: &str| {
            let index = socket.link(&Request::get_link(name))?.index;
            Ok(Device { index, name: name.into() })
        };
        let (lo, inside) = (device("lo")?, device(INSIDE)?);
        socket.request(&Request::set_up(&lo))?;
        socket.request(&Request::add_address(&inside, Ipv4Addr::new(a, b, c, d), prefix))?;
        // Of IPv6 the talk says nothing; the announcements of an address of its own would go to all
        // neighbours, and of a thousand of them drown the first pings.
        socket.request(&Request::set_up_without_ipv6(&inside))?;
        // A link that is up passes packets a moment later. The first ping should be answered.
        let does = "the host has seen that packets pass";
        awaits(text, does, || retry(|| read(&self.told, &mut [0])))?;
        Ok(())
    }
}

/// write(2), of all of it.
fn send(to: &OwnedFd, bytes: &[u8]) -> Result<()> {
    match write(to, bytes) {
        Ok(length) if length == bytes.len() => Ok(()),
        Ok(length) => Err(Error::input(format!("write(pipe) = {length}: a short write"))),
        Err(Errno::EPIPE) => Err(Error::reported(1)), // whoever has gone had a reason, and told it
        Err(errno) => Err(Error::new("write(pipe)", errno)),
    }
}

/// How the indices of bridge and veth are told: two numbers of four bytes.
const MADE: usize = 8;

/// The group of a link that is ours: 'L' for leopard, and the index of a container's veth. `ip link`
/// shows it, and it is there from the link's first moment on, which an alias would not be.
const MARK: u32 = 0x4c00_0000;
const INDEX_BITS: u32 = 0x00ff_ffff;

fn mark(veth: &Device) -> u32 {
    MARK | veth.index & INDEX_BITS
}

/// A bridge without an address of its own takes the lowest one of its ports, and changes it as they
/// come and go: its neighbours would lose it each time.
fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, b'l', a, b, c, d] // 0x02: locally administered
}

/// `BR_MAX_PORTS` of `net/bridge/br_private.h`, without port 0.
const MOST_PORTS: usize = 1023;

/// `ip link add veth0 type veth peer name veth1 netns PID`, attached to the bridge: veth0, or the
/// next free name. Returns its index; `None` if the bridge has gone.
///
/// The index is ours to choose (`ip link add … index N`), and unique: so the link bears its mark
/// from the beginning, and need not be looked for. The kernel counts its own from 1, so that nobody else's
/// link has this one after ours has gone.
///
/// The talk's name is asked for by the one who has made the bridge. For a name that is taken the kernel has
/// made the peer already, and waits until nobody can be using it any more: some 30 ms (RCU).
fn add_veth(socket: &mut Socket, bridge: &Device, pid: u32, first: bool) -> Result<Option<Device>> {
    for more in 0..1000 {
        let name = if first && more == 0 { "veth0" } else { "veth%d" };
        let index = (1 << 22) + (pid + more * 977) % (1 << 22);
        let veth = Device { index, name: name.into() };
        let request = Request::add_veth(name, index, bridge, mark(&veth), INSIDE, pid);
        match socket.request(&request) {
            Ok(_) => return Ok(Some(veth)),
            Err(error) => match error.errno() {
                Some(Errno::EEXIST | Errno::EBUSY) => {} // the name or the index
                Some(Errno::EINVAL) if socket.link(&Request::get_index(bridge.index)).is_err() => {
                    return Ok(None);
                }
                _ => {
                    if !socket.was_answered() {
                        let _ = socket.request(&Request::delete(&veth));
                    }
                    return Err(link_hint(error));
                }
            },
        }
    }
    Err(Error::input("a thousand numbers for a link were taken"))
}

/// Waits until the container's end is up and packets pass, which events tell; not for more than a second or
/// ten, with many events of others, and not when the stage has ended.
fn until_up(events: &Socket, stage: &OwnedFd, made: &Made) {
    let (mut veth, mut bridge) = (false, made.up);
    let begin = Instant::now();
    while !(veth && bridge) && begin.elapsed() < Duration::from_secs(10) {
        let mut waited = [events.as_fd(), stage.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match retry(|| poll(&mut waited, PollTimeout::from(1000_u16))) {
            Ok(1..) if !waited[1].any().unwrap_or(true) => {}
            _ => return,
        }
        let Ok(replies) = events.receive() else { return };
        for (_, reply) in replies {
            let Reply::Link(link) = reply else { continue };
            veth |= link.up && link.index == made.veth.index;
            bridge |= link.up && link.index == made.bridge.index;
        }
    }
}

/// Tries again what fails for a passing reason, such as too little memory: nobody else would do it.
fn persist<T, E>(mut attempt: impl FnMut() -> std::result::Result<T, E>) -> std::result::Result<T, E> {
    attempt().or_else(|_| attempt()).or_else(|_| attempt())
}

/// Removes a container's veth, and with the last one the bridge.
///
/// Whoever comes attaches his veth first and marks the bridge then; whoever leaves marks it first and
/// looks for others then. So if he sees none, either nobody comes, or the mark changes: and the
/// kernel removes what has the mark in the same request, or leaves it.
fn remove(socket: &mut Socket, made: &Made) -> Result<()> {
    persist(|| try_remove(socket, made))
}

fn try_remove(socket: &mut Socket, Made { bridge, veth, .. }: &Made) -> Result<()> {
    let gone = |result: Result<Vec<Reply>>| match result {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(vec![]),
        other => other,
    };
    let alone = |socket: &mut Socket| -> Result<bool> {
        gone(socket.request(&Request::set_group(bridge, mark(veth))))?;
        Ok(!Socket::open()?.any(&Request::get_ports(bridge), |port| port.index != veth.index)?)
    };
    if alone(socket)? {
        return gone(socket.request(&Request::delete_group(mark(veth)))).map(drop);
    }
    gone(socket.request(&Request::delete(veth)))?;
    // The others may have left meanwhile, and each have seen the other.
    if alone(socket)? {
        gone(socket.request(&Request::delete_group(mark(veth))))?;
    }
    Ok(())
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        if let Ok(WaitStatus::Signaled(..)) = retry(|| waitpid(self.keeper, None)) {
            // Somebody has killed it.
            if let Err(error) = Socket::open().and_then(|mut socket| remove(&mut socket, &self.made)) {
                cli::report(&error);
            }
        }
    }
}

/// Whether what the bridge forwards passes the packet filter, and is dropped there.
fn forwarding_drops() -> bool {
    let on = |path: &str| fs::read_to_string(path).is_ok_and(|value| value.trim() == "1");
    let drops = || Socket::open_filter()?.request(&Request::get_chains());
    on("/proc/sys/net/bridge/bridge-nf-call-iptables")
        && drops().is_ok_and(|chains| chains.contains(&Reply::Chain(true)))
}

fn link_hint(error: Error) -> Error {
    let exfull = Errno::from_raw(libc::EXFULL);
    error
        .hint_on(Errno::EOPNOTSUPP, || {
            "this kernel has no bridge or no veth: modprobe bridge veth, or one with CONFIG_BRIDGE and CONFIG_VETH".to_string()
        })
        .hint_on(Errno::EPERM, || "links of the host take root (CAP_NET_ADMIN): --net private does without".to_string())
        .hint_on(exfull, || format!("a bridge has at most {MOST_PORTS} ports: another one, --bridge br1, with a subnet of its own"))
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

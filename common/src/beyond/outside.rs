//! `--nat` and `--publish`: out to the world, and back in. IPv4 only.
//!
//! ```text
//!  world ── uplink │ host │ br0 172.20.1.2 ── veth0 │ veth1 172.20.1.4
//!                    forwards, and replaces the container's address by the uplink's
//! ```
//!
//! An ordinary user's simulated host has no uplink. There pasta(1) creates one, and passes on what arrives
//! at it, as for Podman.

use super::helper::{Helper, Program};
use super::publish::Port;
use crate::capabilities;
use crate::explain::{heading, step};
use crate::namespaces::number_in_proc;
use crate::netlink::Link;
use crate::network::{self, Links, Network};
use crate::proc::read;
use crate::{Error, Result, report};
use nix::unistd::{geteuid, getpid};
use std::{net::Ipv4Addr, os::fd::OwnedFd};

/// Where pasta answers requests for names, by the host's servers: an address that no machine has.
const PASTAS_SERVER: &str = "169.254.1.1";

/// The options of the way out and in.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Connect the container to the outside (IPv4)
    #[arg(long, conflicts_with = "bare")]
    nat: bool,
    #[arg(
        long,
        value_name = "PORTS",
        conflicts_with = "bare",
        help = "Let connections in: [ADDRESS:]HOST:INSIDE"
    )]
    publish: Vec<Port>,
}

/// What serves the container while it runs. Dropped, it ends.
pub struct Outside<'a> {
    options: &'a Options,
    pasta: Option<Program>,
    nft: Option<Program>,
    /// The link whose packets the host forwards only because of stages.
    uplink: Option<String>,
    listeners: Vec<OwnedFd>,
    proxies: Vec<Helper>,
}

impl Options {
    /// The first step, before the stage leaves the host's network, if it does: binds the ports of
    /// `--publish`, and forks the process that will be pasta(1).
    ///
    /// # Errors
    /// Those of bind(2); for root with `--net private`.
    pub fn open(&self, network: &network::Options) -> Result<Outside<'_>> {
        heading("outside");
        let listeners = self.publish.iter().map(Port::listen);
        let listeners = listeners.collect::<Result<_>>()?;
        let pasta = match self.nat && network.is_private() {
            true if geteuid().is_root() => {
                let what = "--nat: pasta connects a simulated host for an ordinary user only";
                return Err(Error::input(what).hint("leave out --net private"));
            }
            true => Some(fork_pasta()?),
            false => None,
        };
        Ok(Outside {
            options: self,
            pasta,
            nft: None,
            uplink: None,
            listeners,
            proxies: vec![],
        })
    }

    /// `ip route add default via 172.20.1.2`, inside: to all other addresses over the bridge.
    pub fn default_route(&self, inside: &Links, net: &Network<'_>) -> Result<()> {
        match self.nat {
            true => inside.add_default_route(net.bridge_addr),
            false => Ok(()),
        }
    }

    /// The text of /etc/resolv.conf inside, with `--nat`.
    pub(super) fn resolv_conf(&self, net: &Network<'_>) -> Option<String> {
        self.nat.then(|| resolv_conf(net.is_private()))
    }
}

/// It has the host's name servers, without those that cannot be reached from inside: there 127.0.0.53 is
/// the container itself. With pasta, which asks the host's, it has pasta's.
fn resolv_conf(is_private: bool) -> String {
    let (host, behind_stub) = (
        read("/etc/resolv.conf"),
        read("/run/systemd/resolve/resolv.conf"),
    );
    let is_server = |line: &&str| line.starts_with("nameserver");
    let is_reached = |line: &&str| {
        let address = line.split_whitespace().nth(1).map(str::parse::<Ipv4Addr>);
        address.is_some_and(|found| found.is_ok_and(|address| !address.is_loopback()))
    };
    let servers = |text: &str| {
        let servers = text.lines().filter(is_server).filter(is_reached);
        servers.map(|line| format!("{line}\n")).collect::<String>()
    };
    let mut text = match (is_private, servers(&host)) {
        (true, _) => format!("nameserver {PASTAS_SERVER}\n"),
        (false, none) if none.is_empty() => servers(&behind_stub),
        (false, servers) => servers,
    };
    if text.is_empty() {
        report::warning(
            "/etc/resolv.conf names no server that the container can reach: names do not resolve inside",
        );
    }
    for line in host.lines().filter(|line| !is_server(line)) {
        text += &format!("{line}\n");
    }
    text
}

/// The process that will be pasta(1). It must be forked in the host's own namespaces, and enters those of
/// the simulated host from there.
fn fork_pasta() -> Result<Program> {
    let stage = number_in_proc(getpid())?;
    // No port of one side is open on the other, nor does the gateway lead to the host's 127.0.0.1. It
    // writes its process id when it is ready.
    let words = format!(
        "--netns /proc/{stage}/ns/net --userns /proc/{stage}/ns/user --config-net -4 --foreground --quiet \
         --no-map-gw -t none -u none -T none -U none --dns-forward {PASTAS_SERVER} --pid /proc/self/fd/1"
    );
    let shell = format_args!("pasta --netns /proc/{stage}/ns/net --config-net ... &");
    step(shell, "waits for the simulated host", || {
        Program::start("pasta", "passt", &words, |stdin| {
            match nix::unistd::read(stdin, &mut [0]) {
                Ok(1) => Ok(()),
                _ => Err(Error::already_reported(1)), // the stage has failed
            }
        })
    })
}

impl Outside<'_> {
    /// `sysctl net.ipv4.conf.br0.forwarding=1`, and the same for the link of the host's default route.
    ///
    /// # Errors
    /// If the host has no such route, or pasta(1) cannot create one.
    pub fn forward(&mut self, net: &Network<'_>, bridge: &Link, veth: &Link) -> Result<()> {
        if !self.options.nat {
            return Ok(());
        }
        heading("outside");
        if let Some(pasta) = &mut self.pasta {
            step("", "pasta gives the simulated host an uplink", || {
                pasta.write("\n")?;
                pasta.wait_for(|line| line.parse::<u32>().is_ok())
            })
            .map_err(pasta_hint)?;
        }
        self.uplink = net.forward(bridge, veth)?;
        Ok(())
    }

    /// `nft add rule ... masquerade`: packets that leave get the uplink's address.
    ///
    /// The rules are in a table of the container's own with the flag `owner`: it disappears with the socket
    /// that created it, even after `kill -9`, and no other program can change it. nft(8) holds that socket
    /// until its standard input ends.
    ///
    /// # Errors
    /// Those of nft(8).
    pub fn masquerade(&mut self, net: &Network<'_>, bridge: &Link) -> Result<()> {
        if !self.options.nat {
            return Ok(());
        }
        let (table, bridge) = (format!("stage5-{}", net.number()), &bridge.name);
        let container = net.container_addr.address;
        let rule = format!("ip saddr {container} oifname != \"{bridge}\" masquerade");
        // A neighbour of the host with a route to the subnet must not get in, nor through the host to its other
        // networks. What another program's dnat has let in may pass.
        let uplink = self.uplink.as_ref().map(|uplink| {
            format!(
                "add rule ip {table} forw iifname \"{uplink}\" oifname != \"{bridge}\" \
                 ct state new ct status & dnat == 0 drop; "
            )
        });
        let uplink = uplink.unwrap_or_default();
        // doctor.sh --nat sends to an address of documentation, to see whether packets get here, past the
        // rules of others.
        let rules = format!(
            "add table ip {table} {{ flags owner; }}; \
             add chain ip {table} post {{ type nat hook postrouting priority srcnat; }}; \
             add rule ip {table} post {rule}; \
             add chain ip {table} forw {{ type filter hook forward priority 1000; }}; \
             {uplink}\
             add rule ip {table} forw oifname \"{bridge}\" iifname != \"{bridge}\" ct state new drop; \
             add rule ip {table} forw iifname \"{bridge}\" ip daddr 192.0.2.1 \
             reject with icmp type prot-unreachable\n\
             list tables ip\n"
        );
        let shell = format_args!("nft add rule ip {table} post {rule}");
        step(shell, "leaves with the host's address", || {
            let mut nft = Program::start("nft", "nftables", "-i", |_| match geteuid().is_root() {
                true => Ok(()),
                false => capabilities::pass_on_net_admin(),
            })?;
            nft.write(&rules)?;
            nft.wait_for(|line| line == format!("table ip {table}"))?;
            self.nft = Some(nft);
            Ok(())
        })
    }

    /// `--publish`: a proxy for each port.
    pub fn publish(&mut self, net: &Network<'_>) -> Result<()> {
        heading("outside");
        let listeners = std::mem::take(&mut self.listeners);
        for (port, listener) in self.options.publish.iter().zip(listeners) {
            let proxy = port.serve(listener, net.container_addr.address)?;
            self.proxies.push(proxy);
        }
        Ok(())
    }
}

fn pasta_hint(error: Error) -> Error {
    let message = error.message();
    let hint = if message.contains("tun") {
        "pasta needs the device /dev/net/tun: sudo modprobe tun"
    } else if message.contains("interface") {
        "the host has no default route: ip route"
    } else {
        return error;
    };
    error.hint(hint)
}

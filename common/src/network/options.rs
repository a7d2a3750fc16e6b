//! The options of the network.

use crate::cidr::Cidr;
use crate::{Error, Result};
use nix::unistd::geteuid;

/// In which network namespace the bridge is.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Net {
    /// The host's, as in the talk; needs root. The default for root
    Host,
    /// One that simulates the host and disappears with the container
    Private,
}

/// The options of the network. The talk's values are the defaults.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Network: host or private [default for root: host]
    #[arg(long, value_enum, hide_possible_values = true)]
    pub(super) net: Option<Net>,
    /// Bridge on the host
    #[arg(long, value_name = "NAME", default_value = "br0", value_parser = link_name)]
    pub bridge: String,
    /// Address of the bridge
    #[arg(long, value_name = "CIDR", default_value = "172.20.1.2/24")]
    pub bridge_addr: Cidr,
    /// Address of veth0 on the host [default: the next]
    #[arg(long, value_name = "CIDR")]
    pub(super) host_addr: Option<Cidr>,
    /// Address of veth1 inside [default: the next free]
    #[arg(long, value_name = "CIDR")]
    pub(super) container_addr: Option<Cidr>,
}

/// A link's name: fewer than `dev_valid_name` of net/core/dev.c allows, since some are special in nft(8), and
/// `all` and `default` are names of sysctls.
fn link_name(name: &str) -> std::result::Result<String, String> {
    let length = name.len();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@".contains(&byte);
    let problem = match name {
        "" | "." | ".." => "a link needs a name".into(),
        "all" | "default" => format!("{name} means every link in /proc/sys/net"),
        _ if length > 15 => format!("a link's name has at most 15 bytes, this one {length}"),
        _ if name.starts_with('-') || !name.bytes().all(good) => {
            "use letters, digits, '.', '_', '+', '@', and '-', which is not the first".into()
        }
        _ => return Ok(name.into()),
    };
    Err(problem)
}

impl Options {
    /// Whether the host is simulated, as it is for an ordinary user.
    pub(crate) fn is_private(&self) -> bool {
        match self.net {
            Some(net) => net == Net::Private,
            None => !geteuid().is_root(),
        }
    }

    /// Fails if the addresses are not different ones of one subnet.
    pub(super) fn check(&self) -> Result<()> {
        let bridge = self.bridge_addr;
        let mut earlier = vec![("--bridge-addr", bridge)];
        let host = Some(("--host-addr", self.host_address()));
        let container = self.container_addr.map(|cidr| ("--container-addr", cidr));
        for (name, cidr) in host.into_iter().chain(container) {
            if cidr.subnet() != bridge.subnet() {
                let what = format!("{name} {cidr} is not in the subnet of --bridge-addr {bridge}");
                return Err(Error::input(what));
            }
            if let Some((other, _)) = earlier.iter().find(|(_, earlier)| *earlier == cidr) {
                let what = format!("{other} and {name} must differ: both are {cidr}");
                return Err(Error::input(what));
            }
            earlier.push((name, cidr));
        }
        Ok(())
    }

    /// The addresses of veth0 and veth1, where no other container is: for other runtimes.
    ///
    /// # Errors
    /// If they are not different ones of one subnet.
    pub fn addresses(&self) -> Result<(Cidr, Cidr)> {
        self.check()?;
        let host = self.host_address();
        let mut others = self.bridge_addr.others().filter(|other| *other != host);
        let container = self.container_addr.or_else(|| others.next());
        Ok((host, container.unwrap_or(host)))
    }

    pub(super) fn host_address(&self) -> Cidr {
        let next = self.bridge_addr.others().next();
        self.host_addr.or(next).unwrap_or(self.bridge_addr)
    }
}

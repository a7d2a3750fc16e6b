//! Addresses and subnets.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// An IPv4 address and the length of its subnet's prefix, in bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cidr {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let (address, prefix) = (address.parse().ok()?, prefix.parse().ok()?);
            Some(Self { address, prefix })
        });
        let cidr = parsed.ok_or("an address looks like 172.20.1.2/24")?;
        let Self { address, prefix } = cidr;
        let special = address.is_loopback() || address.is_multicast() || address.octets()[0] == 0;
        let subnet = cidr.subnet();
        let problem = if prefix > 30 {
            format!("a subnet /{prefix} has no room for three addresses: the limit is 30")
        } else if cidr == subnet || address.to_bits() | cidr.mask() == u32::MAX {
            format!("the first and the last address of {subnet} are reserved")
        } else if special {
            format!("{address} is not an address for a machine")
        } else {
            return Ok(cidr);
        };
        Err(problem)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    fn mask(self) -> u32 {
        let host_bits = 32_u32.saturating_sub(self.prefix.into());
        u32::MAX.checked_shl(host_bits).unwrap_or(0)
    }

    /// The subnet's first address, which stands for all of it.
    pub(crate) fn subnet(self) -> Self {
        let address = Ipv4Addr::from_bits(self.address.to_bits() & self.mask());
        Self { address, ..self }
    }

    /// Whether the two subnets have addresses in common.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        let difference = self.address.to_bits() ^ other.address.to_bits();
        difference & self.mask() & other.mask() == 0
    }

    /// The other addresses for machines in the subnet, from the next one on, in a circle.
    pub fn others(self) -> impl Iterator<Item = Self> {
        let room = u64::from(!self.mask() - 1);
        let here = u64::from(self.address.to_bits() & !self.mask()) - 1;
        (1..room).map(move |distance| {
            let there = u32::try_from((here + distance) % room + 1).unwrap_or(1);
            let address = Ipv4Addr::from_bits(self.subnet().address.to_bits() | there);
            Self { address, ..self }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn subnets() {
        let cases = [
            ("172.20.1.2/24", "172.20.1.0"),
            ("172.20.6.2/22", "172.20.4.0"),
            ("172.20.1.130/25", "172.20.1.128"),
            ("10.0.0.1/1", "0.0.0.0"),
            ("172.20.1.2/0", "0.0.0.0"),
        ];
        for (text, subnet) in cases {
            assert_eq!(cidr(text).subnet().address.to_string(), subnet);
        }
        for bad in [
            "172.20.1.2/31",
            "172.20.1.3/30",
            "x",
            "127.0.0.1/8",
            "224.0.0.1/24",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_other_addresses() {
        let others = cidr("172.20.1.5/29")
            .others()
            .map(|other| other.to_string());
        let last = [6, 1, 2, 3, 4].map(|last| format!("172.20.1.{last}/29"));
        assert_eq!(others.collect::<Vec<_>>(), last);
        assert_eq!(cidr("10.0.0.1/30").others().count(), 1);
    }

    #[test]
    fn subnets_that_overlap() {
        assert!(cidr("172.20.1.2/24").overlaps(cidr("172.20.0.1/16")));
        assert!(cidr("172.20.1.2/24").overlaps(cidr("172.20.1.130/25")));
        assert!(!cidr("172.20.1.2/24").overlaps(cidr("172.20.2.2/24")));
    }
}

//! Which IP addresses we connect to. A server name is a peer's text: without this guard anybody could make us send
//! requests into our own network (server-side request forgery). The guard looks at the very address that is about to
//! be connected to, so a name that resolves differently the second time gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Permits public unicast addresses, and the networks an operator allows besides.
#[derive(Clone, Debug, Default)]
pub struct AddressGuard {
    allowed: Vec<IpNet>,
}

impl AddressGuard {
    /// A guard that permits `allowed` besides public addresses, such as `10.0.0.0/8` for a private federation.
    #[must_use]
    pub const fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Whether we may connect to `address`. An IPv4 address inside an IPv6 one (mapped, NAT64) is judged as the IPv4
    /// address that the packets would reach.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = destination(address);
        self.allowed.iter().any(|network| network.contains(&address)) || is_public(address)
    }
}

/// The address that packets to `address` end up at.
fn destination(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => nat64_target(v6).map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// RFC 6052: the IPv4 address in the last 32 bits of `64:ff9b::/96`.
fn nat64_target(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else {
        return None;
    };
    Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|&(network, length)| in_v4(v4, network, length)),
        // Public unicast is 2000::/3 and nothing else; the list names the exceptions in it.
        IpAddr::V6(v6) => {
            in_v6(v6, [0x2000, 0, 0], 3) && !SPECIAL_V6.iter().any(|&(network, length)| in_v6(v6, network, length))
        }
    }
}

fn in_v4(address: Ipv4Addr, network: [u8; 4], length: u32) -> bool {
    let differing = address.to_bits() ^ Ipv4Addr::from(network).to_bits();
    differing.leading_zeros() >= length
}

fn in_v6(address: Ipv6Addr, network: [u16; 3], length: u32) -> bool {
    let [a, b, c] = network;
    let differing = address.to_bits() ^ Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_bits();
    differing.leading_zeros() >= length
}

/// IANA's registry of special-purpose IPv4 addresses, with multicast and the reserved top.
const SPECIAL_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),       // this network
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // carrier-grade NAT
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local, cloud metadata
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 88, 99, 0], 24),  // 6to4 relay
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // benchmarking
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, broadcast
];

/// What is not public inside `2000::/3`. Tunnels are refused whole: they carry an IPv4 address of the peer's choice.
const SPECIAL_V6: &[([u16; 3], u32)] = &[
    ([0x2001, 0, 0], 23),     // protocol assignments, Teredo
    ([0x2001, 0xdb8, 0], 32), // documentation
    ([0x2002, 0, 0], 16),     // 6to4
    ([0x3fff, 0, 0], 20),     // documentation
];

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(guard: &AddressGuard, address: &str) -> bool {
        guard.permits(address.parse().unwrap())
    }

    #[test]
    fn public_addresses_are_permitted() {
        let guard = AddressGuard::default();
        for address in [
            "1.1.1.1",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "2001:200::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(permits(&guard, address), "{address}");
        }
    }

    #[test]
    fn addresses_that_are_not_public_unicast_are_refused() {
        let guard = AddressGuard::default();
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::10.0.0.1",
            "::1.1.1.1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.1.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!permits(&guard, address), "{address}");
        }
    }

    #[test]
    fn an_allowed_network_is_permitted_also_in_its_mapped_form() {
        let guard = AddressGuard::new(vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        assert!(permits(&guard, "10.1.2.3"));
        assert!(permits(&guard, "::ffff:10.1.2.3"));
        assert!(permits(&guard, "fd00::5"));
        assert!(!permits(&guard, "10.2.0.1"));
        assert!(!permits(&guard, "fc00::5"));
        assert!(!permits(&guard, "127.0.0.1"));
    }
}

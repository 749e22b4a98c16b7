//! Which addresses a receiver may have.
//!
//! A refusal is by list, so what nobody thought of must fall on the refused side: in IPv6 only
//! `2000::/3` is open at all, and an address that carries an IPv4 one is judged by that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config;

/// Where receivers may be: the rules for public addresses, and what the operator changed of them.
#[derive(Clone, Debug)]
pub struct Rules {
    private_allowed: bool,
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
    ports: Vec<u16>,
}

/// Refused, but for those of [`PRIVATE_V4`] when the operator allows private networks.
const SPECIAL_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// Private, carrier-grade NAT, loopback.
const PRIVATE_V4: [Ipv4Net; 5] = [
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
];

/// Global unicast: all of IPv6 that a receiver may have.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// What is special within it: protocol assignments (Teredo and ORCHID among them), documentation,
/// 6to4, documentation again.
const SPECIAL_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    v6([0x2001, 0x0db8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

/// Loopback, unique local.
const PRIVATE_V6: [Ipv6Net; 2] =
    [v6([0, 0, 0, 0, 0, 0, 0, 1], 128), v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7)];

/// NAT64: the last 32 bits are the IPv4 address that is reached.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// Where machines learn their own credentials. No setting opens these.
const NEVER_V4: [Ipv4Net; 3] =
    [v4(169, 254, 0, 0, 16), v4(100, 100, 100, 200, 32), v4(168, 63, 129, 16, 32)];

/// The same in IPv6: link-local, and the metadata service within the unique local block.
const NEVER_V6: [Ipv6Net; 2] =
    [v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128)];

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(s: [u16; 8], bits: u8) -> Ipv6Net {
    let address = Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]);
    Ipv6Net::new_assert(address, bits)
}

impl Rules {
    /// The rules as the operator set them.
    pub fn new(settings: &config::Webhook) -> Self {
        Self {
            private_allowed: settings.allow_private_networks,
            allowed: settings.allow_cidrs.clone(),
            denied: settings.deny_cidrs.clone(),
            ports: settings.allowed_ports.clone(),
        }
    }

    /// Whether nothing may be sent there. What is denied wins over what is allowed.
    pub fn refuses(&self, ip: IpAddr) -> bool {
        let judged = inner(ip);
        // A network of the operator may also mean the outer form, as all of NAT64.
        let denied = |net: &IpNet| net.contains(&judged) || net.contains(&ip);
        if is_never(judged) || self.denied.iter().any(denied) {
            return true;
        }
        let allowed = is_open(judged)
            || (self.private_allowed && is_private(judged))
            || self.allowed.iter().any(|net| net.contains(&judged));
        !allowed
    }

    /// Whether anybody may reach that address, whatever the operator allows: only from there is an
    /// answer kept, since a tenant may read it.
    pub fn is_public(ip: IpAddr) -> bool {
        let judged = inner(ip);
        is_open(judged) && !is_never(judged)
    }

    /// Whether this port may be connected to.
    pub fn allows_port(&self, port: u16) -> bool {
        port != 0 && (self.ports.is_empty() || self.ports.contains(&port))
    }
}

/// The IPv4 address that an IPv6 one stands for, if it does.
fn inner(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(mapped) = v6.to_ipv4_mapped() {
        return mapped.into();
    }
    if NAT64.contains(&v6) {
        let [.., a, b, c, d] = v6.octets();
        return Ipv4Addr::new(a, b, c, d).into();
    }
    ip
}

fn is_open(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !SPECIAL_V4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) => {
            GLOBAL_V6.contains(&ip) && !SPECIAL_V6.iter().any(|net| net.contains(&ip))
        }
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => PRIVATE_V4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) => PRIVATE_V6.iter().any(|net| net.contains(&ip)),
    }
}

fn is_never(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => NEVER_V4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) => NEVER_V6.iter().any(|net| net.contains(&ip)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::egress::testing::settings;

    fn refused(rules: &Rules, addresses: &[&str]) {
        for text in addresses {
            assert!(rules.refuses(text.parse().unwrap()), "{text} must be refused");
        }
    }

    fn open(rules: &Rules, addresses: &[&str]) {
        for text in addresses {
            assert!(!rules.refuses(text.parse().unwrap()), "{text} must be open");
        }
    }

    fn strict() -> Rules {
        Rules::new(&settings())
    }

    #[test]
    fn the_first_and_last_address_of_every_special_block_is_refused() {
        let rules = strict();
        for net in SPECIAL_V4 {
            assert!(rules.refuses(net.network().into()), "{net}");
            assert!(rules.refuses(net.broadcast().into()), "{net}");
        }
        for net in SPECIAL_V6 {
            assert!(rules.refuses(net.network().into()), "{net}");
            assert!(rules.refuses(net.broadcast().into()), "{net}");
        }
    }

    #[test]
    fn the_neighbours_of_special_blocks_are_open() {
        open(
            &strict(),
            &[
                "1.0.0.0",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.0",
                "169.253.255.255",
                "169.255.0.0",
                "172.15.255.255",
                "172.32.0.0",
                "192.0.1.0",
                "192.0.3.0",
                "192.88.98.255",
                "192.88.100.0",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "198.51.99.255",
                "198.51.101.0",
                "203.0.112.255",
                "203.0.114.0",
                "223.255.255.255",
                "2000::",
                "2001:200::",
                "2001:db7:ffff::",
                "2001:db9::",
                "2001:ffff::",
                "2003::",
                "3ffe:ffff::",
                "3fff:1000::",
                "3fff:ffff::",
            ],
        );
    }

    #[test]
    fn hole_4_all_of_ipv6_but_global_unicast_is_refused() {
        refused(
            &strict(),
            &[
                "::",
                "::1",
                "::127.0.0.1",
                "::8.8.8.8",
                "100::1",
                "1fff:ffff::",
                "4000::",
                "2001::1",
                "2001:0:4136:e378:8000:63bf:3fff:fdd2",
                "2002:7f00:1::",
                "3fff::1",
                "fc00::1",
                "fd00::1",
                "fe80::1",
                "fec0::1",
                "ff02::1",
                "64:ff9b:1::1",
                "5f00::1",
            ],
        );
    }

    #[test]
    fn hole_3_mapped_and_translated_addresses_are_judged_by_the_ipv4_inside() {
        refused(
            &strict(),
            &["::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a00:1"],
        );
        open(&strict(), &["::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]);
        assert!(Rules::is_public("64:ff9b::8.8.8.8".parse().unwrap()));
        assert!(!Rules::is_public("::ffff:192.168.0.1".parse().unwrap()));
    }

    #[test]
    fn hole_11_private_networks_can_be_opened_but_never_metadata() {
        let rules = Rules::new(&config::Webhook { allow_private_networks: true, ..settings() });
        open(
            &rules,
            &["10.0.0.1", "127.0.0.1", "172.31.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd00::1"],
        );
        refused(&rules, &["0.0.0.0", "0.1.2.3", "192.0.2.1", "224.0.0.1", "255.255.255.255", "::"]);
        refused(&rules, &NEVER);
        let all = ["0.0.0.0/0", "::/0"].map(|net| net.parse().unwrap()).to_vec();
        let rules = Rules::new(&config::Webhook { allow_cidrs: all, ..settings() });
        open(&rules, &["10.0.0.1", "fd00::1", "fec0::1"]);
        refused(&rules, &NEVER);
    }

    const NEVER: [&str; 10] = [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "febf::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "::ffff:100.100.100.200",
    ];

    #[test]
    fn metadata_in_public_space_is_not_public() {
        assert!(!Rules::is_public("168.63.129.16".parse().unwrap()));
    }

    #[test]
    fn what_is_denied_wins_over_what_is_allowed() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let rules = Rules::new(&config::Webhook {
            allow_cidrs: nets(&["10.0.0.0/8"]),
            deny_cidrs: nets(&["10.1.0.0/16", "8.8.8.8/32", "64:ff9b::/96"]),
            ..settings()
        });
        open(&rules, &["10.0.0.1", "::ffff:10.0.0.1", "8.8.4.4"]);
        refused(&rules, &["10.1.0.1", "8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.4.4", "11::1"]);
    }

    proptest! {
        #[test]
        fn every_form_of_an_ipv4_address_gets_the_same_verdict(bits: u32, private: bool) {
            let rules =
                Rules::new(&config::Webhook { allow_private_networks: private, ..settings() });
            let plain = Ipv4Addr::from(bits);
            let verdict = rules.refuses(plain.into());
            prop_assert_eq!(rules.refuses(plain.to_ipv6_mapped().into()), verdict);
            let translated = (0x64_ff9b_u128 << 96) | u128::from(bits);
            prop_assert_eq!(rules.refuses(Ipv6Addr::from(translated).into()), verdict);
            // An address that is only compatible is never open, whatever is inside.
            let compatible = Ipv6Addr::from(u128::from(bits));
            prop_assert!(rules.refuses(compatible.into()) || compatible.is_loopback());
        }

        #[test]
        fn what_the_standard_library_calls_special_is_refused(bits: u32) {
            let ip = Ipv4Addr::from(bits);
            let special = ip.is_private() || ip.is_loopback() || ip.is_link_local()
                || ip.is_broadcast() || ip.is_documentation() || ip.is_unspecified()
                || ip.is_multicast();
            prop_assert!(!special || strict().refuses(ip.into()));
        }

        #[test]
        fn no_setting_opens_an_address_that_is_never_open(host: u16, tail: u64) {
            let all = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
            let rules = Rules::new(&config::Webhook {
                allow_private_networks: true, allow_cidrs: all, ..settings()
            });
            let [a, b] = host.to_be_bytes();
            prop_assert!(rules.refuses(Ipv4Addr::new(169, 254, a, b).into()));
            let link_local = (0xfe80_u128 << 112) | u128::from(tail);
            prop_assert!(rules.refuses(Ipv6Addr::from(link_local).into()));
        }
    }
}

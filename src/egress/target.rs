//! Where a delivery goes: a URL of the form we accept, parsed once.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::Rules;

/// Longest URL, in bytes.
pub const MAX_URL: usize = 2048;

/// A URL that was checked. Its path and query may hold a secret, so it prints as its host.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
}

/// Which rule a URL breaks, as half a sentence to go behind the field's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(pub &'static str);

impl Target {
    /// Checks a URL that somebody hands in: its form, its port, and the address if it names one.
    ///
    /// A host that is a name passes; what it resolves to is checked before each connection.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn parse(text: &str, rules: &Rules) -> Result<Self, BadUrl> {
        let target = Self::parse_stored(text)?;
        if !rules.allows_port(target.port()) {
            return Err(BadUrl("a port that deliveries may go to"));
        }
        if target.address().is_some_and(|ip| rules.refuses(ip)) {
            return Err(BadUrl("not an address that is private, local or reserved"));
        }
        Ok(target)
    }

    /// Checks the form alone: for a URL that was accepted before, perhaps under other settings.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn parse_stored(text: &str) -> Result<Self, BadUrl> {
        if text.len() > MAX_URL {
            return Err(BadUrl("at most 2048 bytes"));
        }
        // The parser drops some of these and reads others as `/`: another reader of the same text
        // would see another host.
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(BadUrl("no white space, control character or backslash"));
        }
        let Ok(url) = Url::parse(text) else { return Err(BadUrl("not a URL")) };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadUrl("http or https"));
        }
        // The parser also forgives `http:host` and `http:///host`.
        let authority = text[url.scheme().len()..].strip_prefix("://").unwrap_or_default();
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || url.host().is_none() {
            return Err(BadUrl("a host is needed"));
        }
        if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
            return Err(BadUrl("no user or password"));
        }
        if url.port() == Some(0) {
            return Err(BadUrl("port 1 to 65535"));
        }
        Ok(Self { url })
    }

    /// Scheme, host and port, without a port that goes without saying: what a destination is.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The host, lower-case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.url.host_str().expect("a URL without a host was refused")
    }

    /// The port, given or implied.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().expect("http and https have a port")
    }

    /// The address, when the URL names one: no resolver will see it.
    pub fn address(&self) -> Option<IpAddr> {
        match self.url.host()? {
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
            Host::Domain(_) => None,
        }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.host())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config;
    use crate::egress::testing::settings;

    fn strict() -> Rules {
        Rules::new(&settings())
    }

    fn why(text: &str) -> &'static str {
        match Target::parse(text, &strict()) {
            Ok(target) => panic!("accepted {text} as {}", target.origin()),
            Err(BadUrl(why)) => why,
        }
    }

    const ADDRESS: &str = "not an address that is private, local or reserved";

    #[test]
    fn hole_1_bracketed_addresses_are_refused() {
        for host in ["[::1]", "[fd00::1]", "[fe80::1]", "[::]", "[::ffff:10.0.0.1]"] {
            assert_eq!(why(&format!("http://{host}/")), ADDRESS, "{host}");
            assert_eq!(why(&format!("https://{host}:8443/hook?a=b")), ADDRESS, "{host}");
        }
        assert!(Target::parse("http://[2606:4700::1111]:8080/", &strict()).is_ok());
    }

    #[test]
    fn hole_3_an_address_in_any_spelling_is_refused() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "127.0.0.1.",
            "①②⑦.⓪.⓪.①",
            "127。0。0。1",
            "%31%32%37.0.0.1",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "0",
            "0x0",
            "[0:0:0:0:0:0:0:1]",
            "169.254.169.254",
            "0xa9fea9fe",
            "3232235777",
        ] {
            assert_eq!(why(&format!("http://{host}/")), ADDRESS, "{host}");
        }
    }

    #[test]
    fn hole_19_a_text_that_others_may_read_differently_is_refused() {
        for (text, rule) in [
            ("http://user@a.example/", "no user or password"),
            ("http://:pass@a.example/", "no user or password"),
            ("http://@a.example/", "no user or password"),
            ("http://good.example@evil.example/", "no user or password"),
            (
                "http://good.example\\@evil.example/",
                "no white space, control character or backslash",
            ),
            ("http://a.example\\b", "no white space, control character or backslash"),
            ("http://a.exa\tmple/", "no white space, control character or backslash"),
            ("http://a.example/x y", "no white space, control character or backslash"),
            (" http://a.example/", "no white space, control character or backslash"),
            ("http://a.example/\u{a0}", "no white space, control character or backslash"),
            ("http://a.example/\r\nHost: b", "no white space, control character or backslash"),
            ("http://a.example/\u{7f}", "no white space, control character or backslash"),
            ("http:///a.example/", "a host is needed"),
            ("http:a.example/", "a host is needed"),
            ("http://", "not a URL"),
            ("//a.example/", "not a URL"),
            ("nowhere", "not a URL"),
            ("ftp://a.example/", "http or https"),
            ("javascript:alert(1)", "http or https"),
            ("unix:/run/x", "http or https"),
        ] {
            assert_eq!(why(text), rule, "{text:?}");
        }
        // The other reader of `#@` and `?@` would have to be wrong: it is behind the host.
        for text in ["http://a.example#@evil.example", "http://a.example?@evil.example"] {
            assert_eq!(Target::parse(text, &strict()).unwrap().host(), "a.example");
        }
    }

    #[test]
    fn hole_20_ports_are_limited() {
        assert_eq!(why("http://a.example:0/"), "port 1 to 65535");
        assert_eq!(why("http://a.example:65536/"), "not a URL");
        assert!(Target::parse("http://a.example:6379/", &strict()).is_ok());
        let rules = Rules::new(&config::Webhook { allowed_ports: vec![443, 8443], ..settings() });
        for text in ["http://a.example:6379/", "http://a.example/"] {
            let refused = Target::parse(text, &rules).unwrap_err();
            assert_eq!(refused, BadUrl("a port that deliveries may go to"), "{text}");
        }
        assert_eq!(Target::parse("https://a.example/", &rules).unwrap().port(), 443);
        assert_eq!(Target::parse("https://a.example:8443/", &rules).unwrap().port(), 8443);
    }

    #[test]
    fn the_length_counts_in_bytes() {
        let of = |bytes: usize| format!("{:a<bytes$}", "http://a.example/");
        assert!(Target::parse(&of(MAX_URL), &strict()).is_ok());
        assert_eq!(why(&of(MAX_URL + 1)), "at most 2048 bytes");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text: &str| Target::parse(text, &strict()).unwrap().origin();
        assert_eq!(origin("HTTP://A.Example:80/x?y#z"), "http://a.example");
        assert_eq!(origin("https://a.example:443"), "https://a.example");
        assert_eq!(origin("https://a.example:8443/x"), "https://a.example:8443");
        assert_eq!(origin("https://bücher.example/"), "https://xn--bcher-kva.example");
    }

    #[test]
    fn nothing_behind_the_host_is_printed() {
        let target = Target::parse("https://a.example/secret?token=1", &strict()).unwrap();
        assert_eq!(format!("{target:?}"), "Target(a.example)");
    }

    #[test]
    fn a_stored_url_is_checked_in_form_only() {
        assert!(Target::parse_stored("http://[::1]:1/").is_ok());
        assert!(Target::parse_stored("http://u@a.example/").is_err());
    }

    proptest! {
        #[test]
        fn no_text_with_a_hidden_host_passes(text in "http://[a-z.@\\\\#?/: \t\\[\\]0-9]{0,24}") {
            if let Ok(target) = Target::parse(&text, &strict()) {
                // A plain reader, who cuts at the first separator, sees the same host.
                let rest = text.strip_prefix("http://").unwrap();
                let plain = rest.split(['/', '?', '#']).next().unwrap();
                let host = match plain.strip_prefix('[') {
                    Some(_) => plain.split_inclusive(']').next().unwrap(),
                    None => plain.split(':').next().unwrap(),
                };
                let numeric = target.address().is_some();
                prop_assert!(numeric || target.host() == host, "{} for {}", target.host(), text);
                prop_assert!(target.address().is_none_or(|ip| !strict().refuses(ip)));
            }
        }
    }
}

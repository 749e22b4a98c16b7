//! Why there was no answer: the client's error, read along its chain of causes.

use std::error::Error;
use std::io;

use hyper_util::client::legacy;

use super::Outcome;
use super::resolver::Unresolved;

/// On which way a request went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// The target speaks TLS.
    pub secure: bool,
    /// Through the egress proxy.
    pub proxied: bool,
}

/// What the tunnel and SOCKS say when the proxy works and does not reach the target. The types are
/// not public; tests with real proxies notice other words.
const UNREACHED: [&str; 6] = [
    "tunnel error: unsuccessful",
    "SOCKS error: connection not allowed",
    "SOCKS error: network unreachable",
    "SOCKS error: host unreachable",
    "SOCKS error: connection refused",
    "SOCKS error: ttl expired",
];

/// A cause, and what caused it.
struct Chain<'a>(Option<Cause<'a>>);

type Cause<'a> = &'a (dyn Error + 'static);

impl<'a> Iterator for Chain<'a> {
    type Item = Cause<'a>;

    fn next(&mut self) -> Option<Cause<'a>> {
        let cause = self.0?;
        self.0 = cause.source();
        Some(cause)
    }
}

/// The class of a request that got no answer.
pub(super) fn class(error: &reqwest::Error, way: Way) -> Outcome {
    let chain = || Chain(error.source());
    match chain().find_map(|cause| cause.downcast_ref()) {
        Some(Unresolved::Unknown) => return Outcome::Dns,
        Some(Unresolved::Blocked) => return Outcome::Blocked { literal: false },
        Some(Unresolved::Proxy) => return Outcome::Proxy,
        None => {}
    }
    if error.is_timeout() {
        return Outcome::Timeout;
    }
    if let Some(failed) = chain().find_map(|cause| cause.downcast_ref::<legacy::Error>())
        && failed.is_connect()
    {
        return not_connected(failed.source(), way);
    }
    // Behind the handshake, the wish for a certificate of ours arrives as an alert.
    let alerted = chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::InvalidData);
    if way.secure && alerted { Outcome::Tls } else { Outcome::Reset }
}

/// The connectors of TCP, tunnel and SOCKS have errors of their own; only the one of TLS gives a
/// bare I/O error.
fn not_connected(cause: Option<Cause<'_>>, way: Way) -> Outcome {
    if way.secure && cause.is_some_and(|cause| cause.is::<io::Error>()) {
        return Outcome::Tls;
    }
    if !way.proxied {
        return Outcome::Connect;
    }
    match Chain(cause).any(|cause| UNREACHED.contains(&cause.to_string().as_str())) {
        true => Outcome::Connect,
        false => Outcome::Proxy,
    }
}

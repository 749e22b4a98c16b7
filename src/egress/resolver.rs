//! The resolver of the connection itself, which offers it allowed addresses only. Whatever DNS
//! says a moment later, nothing else is ever connected to.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{Rules, Target};

/// What a [`Lookup`] gives.
pub type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Turns names into addresses.
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of a name.
    fn lookup(&self, name: &str) -> LookupFuture;
}

/// As the machine does it: hosts file, search domains, its name servers.
pub(super) struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, name: &str) -> LookupFuture {
        let name = name.to_owned();
        Box::pin(async move {
            Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// Why a name gives no address to connect to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Unresolved {
    /// It does not resolve.
    #[error("the name does not resolve")]
    Unknown,
    /// It resolves to refused addresses only.
    #[error("the name resolves to refused addresses only")]
    Blocked,
    /// It is the egress proxy's, and does not resolve.
    #[error("the name of the proxy does not resolve")]
    Proxy,
}

/// A lookup behind the rules.
#[derive(Clone)]
pub(super) struct Guard {
    pub rules: Arc<Rules>,
    lookup: Arc<dyn Lookup>,
    /// The egress proxy is the operator's word: its name is not subject to the rules.
    proxy: Option<Arc<str>>,
}

impl Guard {
    pub fn new(rules: Rules, lookup: Arc<dyn Lookup>, proxy: Option<&str>) -> Self {
        Self { rules: Arc::new(rules), lookup, proxy: proxy.map(Arc::from) }
    }

    /// Whether the target's URL alone tells that nothing may be sent there: what names no address
    /// passes here and meets [`Guard::allowed`].
    pub fn refuses_literally(&self, target: &Target) -> bool {
        !self.rules.allows_port(target.port())
            || target.address().is_some_and(|ip| self.rules.refuses(ip))
    }

    /// The allowed addresses of a host; at least one.
    pub async fn allowed(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let mut addresses = self.all(host).await.ok_or(Unresolved::Unknown)?;
        addresses.retain(|ip| !self.rules.refuses(*ip));
        if addresses.is_empty() { Err(Unresolved::Blocked) } else { Ok(addresses) }
    }

    /// All addresses of a host, which may be an address itself: on the way through a proxy, the
    /// client asks for those as well. `None` without one.
    async fn all(&self, host: &str) -> Option<Vec<IpAddr>> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(host).parse() {
            return Some(vec![ip]);
        }
        let addresses = self.lookup.lookup(host).await.ok()?;
        (!addresses.is_empty()).then_some(addresses)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            let addresses = match guard.proxy.as_deref() {
                Some(proxy) if proxy == host => guard.all(host).await.ok_or(Unresolved::Proxy)?,
                _ => guard.allowed(host).await?,
            };
            // Port 0 stands for the one of the URL.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

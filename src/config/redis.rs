use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

/// The store.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Where it is.
    pub url: RedisUrl,
    /// Begins every key, within its hash tag.
    pub key_prefix: String,
    /// What an acknowledged write has survived.
    pub durability: Durability,
    /// Connections of the pool for rare work.
    pub pool_size: usize,
    /// Time to open a connection.
    pub connect_timeout: Duration,
    /// Time for the answer to one call.
    pub command_timeout: Duration,
    /// Above this share of `maxmemory` creates are refused, 0.0 < ratio <= 1.0.
    pub soft_memory_ratio: f64,
}

/// What an acknowledged write has survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The primary has it.
    Async,
    /// A replica has it.
    Replicated,
    /// The append-only file has it.
    Synced,
}

impl Durability {
    /// The name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Replicated => "replicated",
            Self::Synced => "synced",
        }
    }
}

/// The flavour a URL asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisScheme {
    /// `redis://host:port/db`
    Plain,
    /// `rediss://host:port/db`
    Tls,
    /// `redis+sentinel://host:port,host:port/master`
    Sentinel,
    /// `redis+cluster://host:port,host:port`
    Cluster,
    /// `redis+unix:///path?db=0&user=u&pass=p`
    Unix,
}

impl RedisScheme {
    pub(super) const ALL: [Self; 5] =
        [Self::Plain, Self::Tls, Self::Sentinel, Self::Cluster, Self::Unix];

    /// As a URL spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "redis",
            Self::Tls => "rediss",
            Self::Sentinel => "redis+sentinel",
            Self::Cluster => "redis+cluster",
            Self::Unix => "redis+unix",
        }
    }
}

/// Where Redis is. `Debug` and `Display` show `***` for the password.
#[derive(Clone)]
pub struct RedisUrl {
    text: SecretString,
    shown: String,
    scheme: RedisScheme,
}

impl RedisUrl {
    /// The flavour.
    pub fn scheme(&self) -> RedisScheme {
        self.scheme
    }

    /// All of it, password included: for the client, never for a log line. With
    /// [`RedisScheme::Plain`], [`RedisScheme::Tls`] and [`RedisScheme::Unix`] it is a URL the
    /// `redis` crate reads.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Whether it brings a password.
    pub(super) fn has_password(&self) -> bool {
        self.text.expose_secret() != self.shown
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

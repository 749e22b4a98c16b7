use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use super::SecretUrl;

/// Delivery of results and nudges.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Secrets that sign: the first signs, all are valid. Empty: no signature headers.
    pub secrets: Vec<SecretString>,
    /// Whether every tenant is signed for with the same key.
    pub secret_scope: SecretScope,
    /// One budget over look-up, connect, TLS, sending and the status line.
    pub timeout: Duration,
    /// Time to connect, within `timeout`.
    pub connect_timeout: Duration,
    /// Attempts of the exponential part.
    pub max_attempts: u16,
    /// First wait of the exponential part.
    pub base_backoff_seconds: u32,
    /// Longest wait of the exponential part.
    pub max_backoff_seconds: u32,
    /// Waits after the exponential part.
    pub retry_tail: Vec<Duration>,
    /// Deliveries in flight per node.
    pub max_concurrency: usize,
    /// Deliveries in flight per node and destination.
    pub max_concurrency_per_host: usize,
    /// Age at which a pending delivery is dead.
    pub max_age: Duration,
    /// How long a dead delivery is kept.
    pub dead_retention: Duration,
    /// How much of its body a dead delivery keeps.
    pub dead_body_bytes: usize,
    /// Without a success for so long, a destination is disabled; `None`: never.
    pub disable_after: Option<Duration>,
    /// Longest body; beyond it the result is omitted.
    pub max_body_bytes: usize,
    /// Subscriptions of one tenant.
    pub max_subscriptions: usize,
    /// Receives operator events.
    pub ops_url: Option<SecretUrl>,
    /// PEM file with further authorities.
    pub extra_ca_file: Option<PathBuf>,
    /// Egress proxy: `http`, `https` or `socks5`.
    pub proxy_url: Option<SecretUrl>,
    /// Lifts the private, loopback, unique-local and CGNAT blocks.
    pub allow_private_networks: bool,
    /// Networks allowed although a rule refuses them.
    pub allow_cidrs: Vec<IpNet>,
    /// Networks refused beside the rules.
    pub deny_cidrs: Vec<IpNet>,
    /// Ports deliveries may go to; empty: any.
    pub allowed_ports: Vec<u16>,
}

/// Whose key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretScope {
    /// One key for all tenants.
    Shared,
    /// A key derived for each tenant.
    Tenant,
}

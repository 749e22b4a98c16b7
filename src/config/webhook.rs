use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ::config::ValueKind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use secrecy::SecretString;

use super::read::Reader;
use super::{Env, SecretUrl};

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;
const MIB: i64 = 1 << 20;
/// Shorter keys are within reach of a search.
const GOOD_SECRET_BYTES: usize = 24;

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

impl SecretScope {
    /// Every scope with its name.
    pub(super) const NAMES: &'static [(&'static str, Self)] =
        &[("shared", Self::Shared), ("tenant", Self::Tenant)];

    /// The name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Tenant => "tenant",
        }
    }
}

impl Webhook {
    pub(super) fn read(r: &mut Reader<'_>, env: &Env) -> Self {
        let webhook = Self {
            secrets: secrets(r),
            secret_scope: r.choice("webhook.secretScope", SecretScope::NAMES),
            timeout: r.millis("webhook.timeoutMs", 100..=300_000),
            connect_timeout: r.millis("webhook.connectTimeoutMs", 1..=300_000),
            max_attempts: r.int("resultWebhookMaxAttempts", 1..=100),
            base_backoff_seconds: r.int("resultWebhookBaseBackoffSeconds", 1..=DAY),
            max_backoff_seconds: r.int("resultWebhookMaxBackoffSeconds", 1..=DAY),
            retry_tail: retry_tail(r),
            max_concurrency: r.int("webhook.maxConcurrency", 1..=65_536),
            max_concurrency_per_host: r.int("webhook.maxConcurrencyPerHost", 1..=65_536),
            max_age: r.seconds("webhook.maxAgeSeconds", 60..=YEAR),
            dead_retention: r.seconds("webhook.deadRetentionSeconds", 60..=YEAR),
            dead_body_bytes: r.int("webhook.deadBodyBytes", 0..=64 * MIB),
            disable_after: Some(r.seconds("webhook.disableAfterSeconds", 0..=YEAR))
                .filter(|after| !after.is_zero()),
            max_body_bytes: r.int("webhook.maxBodyBytes", 1024..=64 * MIB),
            max_subscriptions: r.int("webhook.maxSubscriptions", 1..=100_000),
            ops_url: r.url("webhook.opsUrl", &["http", "https"]).as_ref().map(SecretUrl::new),
            extra_ca_file: r.text("webhook.extraCaFile").map(PathBuf::from),
            proxy_url: r
                .url("webhook.proxyUrl", &["http", "https", "socks5"])
                .as_ref()
                .map(SecretUrl::new),
            allow_private_networks: allow_private_networks(r, env),
            allow_cidrs: r.list_of("webhook.allowCidrs", 1000, network),
            deny_cidrs: r.list_of("webhook.denyCidrs", 1000, network),
            allowed_ports: r.list_of("webhook.allowedPorts", 1000, port),
        };
        webhook.check(r, env);
        webhook
    }

    /// The rules that look at two settings.
    fn check(&self, r: &mut Reader<'_>, env: &Env) {
        if self.connect_timeout > self.timeout {
            r.problem("webhook.connectTimeoutMs", "must not be more than webhook.timeoutMs");
        }
        if self.max_concurrency_per_host > self.max_concurrency {
            let rule = "must not be more than webhook.maxConcurrency";
            r.problem("webhook.maxConcurrencyPerHost", rule);
        }
        if self.max_backoff_seconds < self.base_backoff_seconds {
            let rule = "must not be less than resultWebhookBaseBackoffSeconds";
            r.problem("resultWebhookMaxBackoffSeconds", rule);
        }
        if let Some(file) = &self.extra_ca_file
            && let Err(error) = std::fs::File::open(file)
        {
            r.problem("webhook.extraCaFile", format!("cannot be read: {error}"));
        }
        let shared = self.secret_scope == SecretScope::Shared;
        if env.is_production() && shared && !self.secrets.is_empty() {
            r.warn(
                "webhook.secretScope = shared: a tenant that knows the secret can sign for every \
                 other; tenant derives a key for each",
            );
        }
    }
}

fn allow_private_networks(r: &mut Reader<'_>, env: &Env) -> bool {
    let key = "webhook.allowPrivateNetworks";
    let value = r.boolean(key);
    if r.is_set(key) { value } else { env.is_dev() }
}

/// Who sets only the number of attempts wants that many, as in other CodeQ back ends.
fn retry_tail(r: &mut Reader<'_>) -> Vec<Duration> {
    let key = "webhook.retryTailSeconds";
    let tail = r.list_of(key, 20, |text| match text.parse() {
        Ok(seconds @ 1..=604_800) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be a whole number, 1 to 604800".to_owned()),
    });
    if r.is_set("resultWebhookMaxAttempts") && !r.is_set(key) { Vec::new() } else { tail }
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "must be a network or an address, as 10.1.0.0/16".to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err("must be a port, 1 to 65535".to_owned()),
    }
}

/// One secret, a YAML list, or text that is a JSON array.
fn secrets(r: &mut Reader<'_>) -> Vec<SecretString> {
    let key = "webhookHmacSecret";
    let texts: Option<Vec<String>> = match r.raw(key).map(|value| value.kind.clone()) {
        None => return Vec::new(),
        Some(ValueKind::String(text)) if text.trim_start().starts_with('[') => {
            serde_json::from_str(&text).ok()
        }
        Some(ValueKind::String(text)) => Some(vec![text]),
        Some(ValueKind::Array(items)) => items
            .into_iter()
            .map(|item| match item.kind {
                ValueKind::String(text) => Some(text),
                _ => None,
            })
            .collect(),
        Some(_) => None,
    };
    let Some(texts) = texts.filter(|texts| !texts.is_empty() && texts.len() <= 10) else {
        r.problem(key, "must be text, in quotes, or a list of 1 to 10 of them");
        return Vec::new();
    };
    for (text, number) in texts.iter().zip(1..) {
        let which = if texts.len() == 1 { String::new() } else { format!("number {number} ") };
        match signing_key_bytes(text) {
            None => r.problem(key, format!("{which}must be base64 after whsec_")),
            Some(0) => r.problem(key, format!("{which}must not be empty")),
            Some(bytes) if bytes < GOOD_SECRET_BYTES => r.warn(format!(
                "{key}: {which}has {bytes} bytes; {GOOD_SECRET_BYTES} or more are hard to guess"
            )),
            Some(_) => {}
        }
    }
    texts.into_iter().map(SecretString::from).collect()
}

/// Length of the key that a secret stands for.
fn signing_key_bytes(secret: &str) -> Option<usize> {
    match secret.strip_prefix("whsec_") {
        Some(rest) => STANDARD.decode(rest).ok().map(|key| key.len()),
        None => Some(secret.len()),
    }
}

//! Key sets at an HTTP endpoint: fetched by one, waited for by all, kept when the endpoint fails.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Client, redirect};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::denied::Reason;
use super::keys::KeySet;
use crate::config;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Export, Fetched, LoopKind, Role};

/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// An unknown `kid` may cause one request in this time, however many tokens carry one.
const FETCH_AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// A key that was withdrawn goes on working for at most about this long.
const REFRESH_EVERY: Duration = Duration::from_secs(300);

/// The same while the endpoint fails.
const RETRY_EVERY: Duration = Duration::from_secs(15);

/// A key set and where it comes from.
pub(super) struct KeyEndpoint {
    role: Role,
    url: url::Url,
    client: Client,
    timeout: Duration,
    clock: Clock,
    metrics: Metrics,
    /// `None` until the first fetch succeeded.
    keys: RwLock<Option<Arc<KeySet>>>,
    fetches: Mutex<Fetches>,
}

/// Times are those of [`Clock::steady`].
#[derive(Default)]
struct Fetches {
    last_start: Option<Duration>,
    last_success: Option<Duration>,
    /// Its sender lives as long as the fetch in flight.
    in_flight: Option<watch::Receiver<()>>,
    /// Whether the last one failed, to log changes and not each failure.
    failing: bool,
}

/// Why a fetch gave no keys. Holds neither the URL, which may carry a secret, nor the answer.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no connection to the endpoint")]
    Connect,
    #[error("the endpoint did not answer in time")]
    Timeout,
    #[error("the connection broke off")]
    Broken,
    #[error("the endpoint answered with status {0}")]
    Status(u16),
    #[error("the answer is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    #[error("the answer is not a JSON Web Key Set")]
    NotAKeySet,
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        match error {
            error if error.is_timeout() => Self::Timeout,
            error if error.is_connect() => Self::Connect,
            _ => Self::Broken,
        }
    }
}

impl KeyEndpoint {
    /// Opens no connection yet.
    pub fn new(
        settings: &config::Jwks,
        role: Role,
        clock: Clock,
        metrics: Metrics,
    ) -> anyhow::Result<Arc<Self>> {
        let mut client = Client::builder()
            // Where keys come from is the operator's word alone: neither an answer nor an
            // environment variable may send us elsewhere.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(settings.http_timeout)
            .user_agent(concat!("codeq/", env!("CARGO_PKG_VERSION")))
            // One request in minutes: a connection kept that long is a stale one.
            .pool_max_idle_per_host(0);
        if settings.url.scheme() == "http" {
            // Root certificates are of no use then, and a small image may have none.
            client = client.tls_certs_only([]);
        }
        Ok(Arc::new(Self {
            role,
            url: settings.url.clone(),
            client: client.build()?,
            timeout: settings.http_timeout,
            clock,
            metrics,
            keys: RwLock::default(),
            fetches: Mutex::default(),
        }))
    }

    /// The keys at hand, however old.
    pub fn current(&self) -> Result<Arc<KeySet>, Reason> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone().ok_or(Reason::NoKeys)
    }

    /// Whether a key of that id is at hand.
    pub fn knows(&self, kid: &str) -> bool {
        self.current().is_ok_and(|keys| keys.of_kid(kid).next().is_some())
    }

    /// Asks the endpoint for a key that is not at hand, unless it was asked just before. True when
    /// there is news: the key is at hand now.
    pub async fn learn(self: &Arc<Self>, kid: &str) -> bool {
        if self.knows(kid) {
            return false;
        }
        self.fetch().await;
        self.knows(kid)
    }

    /// How long ago the last successful fetch ended.
    pub fn age(&self) -> Option<Duration> {
        let last_success = self.fetches().last_success?;
        Some(self.clock.steady().saturating_sub(last_success))
    }

    /// Fetches now and then from time to time, until `stop`.
    pub async fn keep_fresh(self: &Arc<Self>, stop: &CancellationToken) {
        loop {
            let step = async {
                self.fetch().await;
                let pause = if self.fetches().failing { RETRY_EVERY } else { REFRESH_EVERY };
                // Spread, so that a fleet started together does not ask together.
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))).await;
            };
            if stop.run_until_cancelled(step).await.is_none() {
                return;
            }
        }
    }

    /// Waits for the fetch in flight, or for a new one if the last began long enough ago.
    ///
    /// The fetch is a task of its own: a client that hangs up must neither end it for the others
    /// nor use up the one request that is allowed.
    pub async fn fetch(self: &Arc<Self>) {
        if let Some(mut end) = self.join_or_start() {
            // Nothing is ever sent: this returns when the fetch ends, also if it panics.
            let _ = end.changed().await;
        }
    }

    fn join_or_start(self: &Arc<Self>) -> Option<watch::Receiver<()>> {
        let mut fetches = self.fetches();
        if let Some(running) = &fetches.in_flight
            && running.has_changed().is_ok()
        {
            return Some(running.clone());
        }
        let now = self.clock.steady();
        if fetches.last_start.is_some_and(|start| now < start + FETCH_AT_MOST_EVERY) {
            return None;
        }
        let (in_flight, end) = watch::channel(());
        fetches.last_start = Some(now);
        fetches.in_flight = Some(end.clone());
        let this = self.clone();
        tokio::spawn(async move {
            let _in_flight = in_flight;
            // The client's own timeout begins anew with some phases; this one does not.
            let answer = tokio::time::timeout(this.timeout, this.request()).await;
            this.settle(answer.unwrap_or(Err(FetchError::Timeout)));
        });
        Some(end)
    }

    async fn request(&self) -> Result<KeySet, FetchError> {
        let mut response = self.client.get(self.url.clone()).send().await?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(FetchError::TooLarge);
            }
            answer.extend_from_slice(&chunk);
        }
        KeySet::read(&answer).ok_or(FetchError::NotAKeySet)
    }

    fn settle(&self, answer: Result<KeySet, FetchError>) {
        let kind = self.role;
        let was_failing = std::mem::replace(&mut self.fetches().failing, answer.is_err());
        let outcome = if answer.is_ok() { Export::Success } else { Export::Failure };
        self.metrics.jwks_fetches.with(Fetched(kind, outcome)).inc();
        match answer {
            Ok(fetched) => {
                let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                let old = keys.take().unwrap_or_default();
                *keys = Some(Arc::new(fetched.replacing(&old)));
                drop(keys);
                self.fetches().last_success = Some(self.clock.steady());
                let now = Duration::from_millis(self.clock.unix_ms());
                self.metrics.jwks_last_success.set(kind, Some(now.as_secs_f64()));
                if was_failing {
                    tracing::info!(
                        target: "codeq::auth", category = "system", event = "jwks.restored",
                        role = ?kind, "the key set can be fetched again"
                    );
                }
            }
            Err(error) if !was_failing => {
                let stale = self.current().is_ok();
                self.metrics.loop_errors.with(LoopKind::Jwks).inc();
                tracing::warn!(
                    target: "codeq::auth", category = "system", event = "jwks.failed",
                    role = ?kind, stale, error.message = %error,
                    "cannot fetch the key set; keeping the last"
                );
            }
            Err(error) => tracing::debug!(
                target: "codeq::auth", category = "debug", event = "jwks.failed", role = ?kind,
                error.message = %error, "still cannot fetch the key set"
            ),
        }
    }

    fn fetches(&self) -> std::sync::MutexGuard<'_, Fetches> {
        // Plain values, written one at a time: as good after a panic as before.
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeyEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyEndpoint")
    }
}

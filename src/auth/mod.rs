//! Bearer token to [`Principal`].
//!
//! Two validators, one for producer and one for worker tokens, each a list of sources tried in
//! order: tokens named in the settings, and key sets fetched over HTTP. The way of a token, in
//! the order in which it gets cheaper to say no:
//!
//! 1. `remembered`: a token that was verified before costs one hash and one look-up;
//! 2. `static_tokens`, `jwt`, `keys`: compare, or check signature and claims with the keys at hand;
//! 3. `jwks`: only when no key set knows the token's `kid`, ask their endpoints (rarely) and
//!    repeat step 2.
//!
//! Nothing here puts a token, a key or a claim's value into an error, a log line or `Debug`.
//! Refused tokens are deliberately not remembered: whoever sends garbage could fill that memory.

mod clock;
mod denied;
mod jwks;
mod jwt;
mod keys;
mod principal;
mod remembered;
mod static_tokens;
mod validator;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

pub use denied::Denied;
pub use principal::{EventTypes, Principal, WORKER_SCOPES};

use crate::config::{self, Settings};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Cache, Refused, Role};
use clock::Clock;
use denied::Reason;
use jwt::Unverified;
use remembered::Digest;
use validator::{Rule, Validator, Way};

/// The longest token that is looked at, in bytes. HTTP servers cap headers at about the same.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Verifies bearer tokens; cheap to clone.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    clock: Clock,
    metrics: Metrics,
    validators: [Arc<Validator>; 2],
    producer: Vec<Way>,
    worker: Vec<Way>,
    either: Vec<Way>,
}

impl Auth {
    /// Both validators as set up; opens no connection.
    ///
    /// # Errors
    /// When an HTTP client cannot be made, which for `https` key sets means that this machine
    /// has no root certificates.
    pub fn new(settings: &Settings, metrics: Metrics) -> anyhow::Result<Self> {
        Self::with_clock(&settings.auth, metrics, Clock::default())
    }

    /// For tests of other rooms, which have no whole [`Settings`].
    #[cfg(test)]
    pub(crate) fn of(settings: &config::Auth, metrics: Metrics) -> Self {
        Self::with_clock(settings, metrics, Clock::default()).expect("static tokens need no client")
    }

    fn with_clock(settings: &config::Auth, metrics: Metrics, clock: Clock) -> anyhow::Result<Self> {
        let producers =
            Validator::new(settings.producer.as_ref(), Role::Producer, &clock, &metrics)?;
        let workers = Validator::new(settings.worker.as_ref(), Role::Worker, &clock, &metrics)?;
        let (producers, workers) = (Arc::new(producers), Arc::new(workers));
        let producer = Way {
            role: Role::Producer,
            validator: producers.clone(),
            rule: Rule::AsItIs,
            remembered: Arc::default(),
        };
        let worker = Way {
            role: Role::Worker,
            validator: workers.clone(),
            rule: Rule::Worker,
            remembered: Arc::default(),
        };
        let mut at_work = vec![worker.clone()];
        if settings.allow_producer_as_worker {
            let validator = producers.clone();
            at_work.push(Way { validator, rule: Rule::ProducerAsWorker, ..worker.clone() });
        }
        Ok(Self(Arc::new(Inner {
            clock,
            metrics,
            either: vec![producer.clone(), worker],
            producer: vec![producer],
            worker: at_work,
            validators: [producers, workers],
        })))
    }

    /// Who a producer token stands for.
    ///
    /// # Errors
    /// Any [`Denied`] is a `401`.
    pub async fn producer(&self, token: &str) -> Result<Arc<Principal>, Denied> {
        self.decide(&self.0.producer, token).await
    }

    /// Who a worker token stands for; with `allowProducerAsWorker` also a producer token, which
    /// then has every worker scope and every event type.
    ///
    /// # Errors
    /// Any [`Denied`] is a `401`.
    pub async fn worker(&self, token: &str) -> Result<Arc<Principal>, Denied> {
        self.decide(&self.0.worker, token).await
    }

    /// Who a producer or worker token stands for: what the read endpoints take.
    ///
    /// # Errors
    /// Any [`Denied`] is a `401`.
    pub async fn either(&self, token: &str) -> Result<Arc<Principal>, Denied> {
        self.decide(&self.0.either, token).await
    }

    /// Fetches the key sets at once and then keeps them fresh, so that a key that was withdrawn
    /// stops working although nobody presents an unknown one. Ends at `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let key_sets = self.0.validators.iter().flat_map(|validator| validator.key_sets());
        join_all(key_sets.map(|key_set| key_set.keep_fresh(&stop))).await;
        // Without a key set there is nothing to do until then.
        stop.cancelled().await;
    }

    /// Whether any token is verified with a key set.
    pub fn has_key_sets(&self) -> bool {
        self.0.validators.iter().any(|validator| validator.key_sets().next().is_some())
    }

    /// How long ago the stalest key set was fetched; `None` when there is no key set at all or
    /// one that was never fetched.
    pub fn jwks_age(&self) -> Option<Duration> {
        let key_sets = self.0.validators.iter().flat_map(|validator| validator.key_sets());
        let ages: Option<Vec<_>> = key_sets.map(|key_set| key_set.age()).collect();
        ages?.into_iter().max()
    }

    async fn decide(&self, ways: &[Way], token: &str) -> Result<Arc<Principal>, Denied> {
        let Inner { clock, metrics, .. } = &*self.0;
        let digest = Digest::of(token);
        let now_ms = clock.unix_ms();
        if let Some(known) = ways.iter().find_map(|way| way.remembered.get(&digest, now_ms)) {
            metrics.cache_requests.with(Cache::TokenHit).inc();
            return Ok(known);
        }
        let (role, reason) = match self.verify(ways, token, &digest).await {
            Ok(principal) => return Ok(principal),
            Err(refused) => refused,
        };
        metrics.auth_failures.with(Refused(role, reason.label())).inc();
        tracing::debug!(
            target: "codeq::auth", category = "debug", event = "auth.refused", role = ?role,
            reason = ?reason, "token refused"
        );
        Err(reason.into())
    }

    /// With the keys at hand first. Only if that fails for want of a key are the endpoints asked,
    /// all of them at once: a worker's token must not wait for a producers' endpoint that hangs.
    async fn verify(
        &self,
        ways: &[Way],
        token: &str,
        digest: &Digest,
    ) -> Result<Arc<Principal>, (Role, Reason)> {
        let Inner { clock, metrics, .. } = &*self.0;
        let parsed = match token.len() {
            0..=MAX_TOKEN_BYTES => Unverified::parse(token),
            _ => Err(Reason::Malformed),
        };
        let check = || validator::first_that_accepts(ways, &parsed, digest, clock.unix_ms());
        let checked = check();
        let key_sets = || ways.iter().flat_map(|way| way.validator.key_sets());
        let Ok(unverified) = &parsed else { return checked };
        if key_sets().next().is_none() {
            return checked;
        }
        metrics.cache_requests.with(Cache::TokenMiss).inc();
        let known = key_sets().any(|key_set| key_set.knows(unverified.kid()));
        metrics.cache_requests.with(if known { Cache::JwksHit } else { Cache::JwksMiss }).inc();
        match checked {
            // Up to here no key of ours signed it, so a new one might have.
            Err((_, reason)) if reason <= Reason::Signature => {
                let asked = key_sets().map(|key_set| key_set.learn(unverified.kid()));
                if join_all(asked).await.contains(&true) { check() } else { checked }
            }
            checked => checked,
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

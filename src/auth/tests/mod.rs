//! What the room promises, through its door and with a real endpoint on loopback.

mod endpoint;
mod idp;
mod secrecy;
mod signatures;
mod ways;

use std::time::Duration;

use serde_json::{Map, Value, json};

use self::idp::{Answer, Idp, Signer};
use super::*;
use crate::config::{Jwks, Provider, StaticToken};
use crate::telemetry::metrics::AuthFailure;

const ISSUER: &str = "https://idp.example";
const AUDIENCE: &str = "codeq-test";
const SKEW: Duration = Duration::from_secs(60);

/// An [`Auth`] with a clock to move.
struct Bench {
    auth: Auth,
    clock: Clock,
    metrics: Metrics,
}

impl Bench {
    fn new(producer: Option<Provider>, worker: Option<Provider>) -> Self {
        Self::with(config::Auth { producer, worker, allow_producer_as_worker: false })
    }

    fn with(settings: config::Auth) -> Self {
        let (clock, metrics) = (Clock::default(), Metrics::new());
        let auth = Auth::with_clock(&settings, metrics.clone(), clock.clone()).unwrap();
        Self { auth, clock, metrics }
    }

    fn cached(&self, cache: Cache) -> u64 {
        self.metrics.cache_requests.with(cache).get()
    }

    fn refused(&self, role: Role, reason: AuthFailure) -> u64 {
        self.metrics.auth_failures.with(Refused(role, reason)).get()
    }

    fn unix_seconds(&self) -> u64 {
        self.clock.unix_ms() / 1000
    }

    async fn producer_detail(&self, token: &str) -> &'static str {
        self.auth.producer(token).await.expect_err("refused").detail()
    }
}

fn jwks(idp: &Idp) -> Provider {
    Provider::Jwks(Jwks {
        url: idp.url.clone(),
        issuer: Some(ISSUER.to_owned()),
        audience: Some(AUDIENCE.to_owned()),
        clock_skew: SKEW,
        http_timeout: Duration::from_secs(20),
    })
}

fn impatient(idp: &Idp) -> Provider {
    let Provider::Jwks(settings) = jwks(idp) else { unreachable!() };
    Provider::Jwks(Jwks { http_timeout: Duration::from_secs(2), ..settings })
}

fn fixed(token: &str) -> StaticToken {
    StaticToken {
        token: token.to_owned().into(),
        subject: "static".to_owned(),
        email: None,
        scopes: Vec::new(),
        event_types: Vec::new(),
        raw: Map::new(),
    }
}

/// Good claims for an hour, with `more` on top; `null` removes one.
fn claims(more: Value) -> Value {
    let exp = Clock::default().unix_ms() / 1000 + 3600;
    let mut claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "somebody", "exp": exp});
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn worker_claims() -> Value {
    claims(json!({"sub": "worker-1", "eventTypes": ["Mail"], "scope": "codeq:claim codeq:nack"}))
}

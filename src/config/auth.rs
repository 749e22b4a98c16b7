use std::fmt;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Map, Value};
use url::Url;

use super::provider::{Flat, KINDS, build, has_user_info};
use super::read::{Reader, one_of};

/// Who may call.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Validates producer tokens; `None` accepts no producer.
    pub producer: Option<Provider>,
    /// Validates worker tokens; `None` accepts no worker.
    pub worker: Option<Provider>,
    /// Whether a producer token may act as a worker.
    pub allow_producer_as_worker: bool,
}

/// A validator of bearer tokens.
#[derive(Clone, Debug)]
pub enum Provider {
    /// Tokens listed in the settings.
    Static(Vec<StaticToken>),
    /// JWTs signed by a key of a key set.
    Jwks(Jwks),
    /// Two to four of the others; the first that accepts a token decides.
    Multi(Vec<Provider>),
}

/// A token listed in the settings. `Debug` shows neither the token nor what the claims say.
#[derive(Clone)]
pub struct StaticToken {
    /// The token itself.
    pub token: SecretString,
    /// Subject; `static` when none is given.
    pub subject: String,
    /// The caller's address, for logs.
    pub email: Option<String>,
    /// Scopes.
    pub scopes: Vec<String>,
    /// Commands it may claim; `*` is all.
    pub event_types: Vec<String>,
    /// Further claims, such as tenant and role.
    pub raw: Map<String, Value>,
}

impl fmt::Debug for StaticToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticToken").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// Where the keys of JWTs are and what a JWT must say.
#[derive(Clone, Debug)]
pub struct Jwks {
    /// Address of the key set, `http` or `https`, without user info.
    pub url: Url,
    /// `iss` a token must carry; `None` accepts any.
    pub issuer: Option<String>,
    /// `aud` a token must carry; `None` accepts any.
    pub audience: Option<String>,
    /// Tolerance for `exp`, `nbf` and `iat`.
    pub clock_skew: Duration,
    /// Time for one request of the key set.
    pub http_timeout: Duration,
}

impl Provider {
    /// Whether a key set in it is such.
    pub(super) fn some_jwks(&self, such: impl Fn(&Jwks) -> bool + Copy) -> bool {
        match self {
            Self::Static(_) => false,
            Self::Jwks(jwks) => such(jwks),
            Self::Multi(providers) => providers.iter().any(|provider| provider.some_jwks(such)),
        }
    }

    fn tokens(&self) -> Vec<&StaticToken> {
        match self {
            Self::Static(tokens) => tokens.iter().collect(),
            Self::Jwks(_) => Vec::new(),
            Self::Multi(providers) => providers.iter().flat_map(Self::tokens).collect(),
        }
    }
}

/// The names of one side's keys.
struct Side {
    provider: &'static str,
    config: &'static str,
    url: &'static str,
    issuer: &'static str,
    audience: &'static str,
}

const PRODUCER: Side = Side {
    provider: "producerAuthProvider",
    config: "producerAuthConfig",
    url: "identityJwksUrl",
    issuer: "identityIssuer",
    audience: "identityAudience",
};

const WORKER: Side = Side {
    provider: "workerAuthProvider",
    config: "workerAuthConfig",
    url: "workerJwksUrl",
    issuer: "workerIssuer",
    audience: "workerAudience",
};

impl Auth {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let (producer, worker) = (provider(r, &PRODUCER), provider(r, &WORKER));
        let lacking =
            |token: &&StaticToken| token.scopes.is_empty() || token.event_types.is_empty();
        let useless = worker.iter().flat_map(Provider::tokens).filter(lacking).count();
        if useless > 0 {
            r.warn(format!(
                "workerAuthConfig: {useless} of its tokens cannot be used, because a worker needs \
                 scopes and eventTypes"
            ));
        }
        Self { producer, worker, allow_producer_as_worker: r.boolean("allowProducerAsWorker") }
    }
}

fn provider(r: &mut Reader<'_>, side: &Side) -> Option<Provider> {
    let flat = Flat::read(r, side);
    let kind = r.text(side.provider);
    let config = config(r, side.config, kind.as_deref());
    let Some(kind) = kind else {
        if r.raw(side.config).is_some() {
            let rule = format!("needs {}: one of {}", side.provider, KINDS.join(", "));
            r.problem(side.config, rule);
        }
        return flat.jwks().map(Provider::Jwks);
    };
    if !KINDS.contains(&kind.as_str()) {
        r.problem(side.provider, one_of(&kind, KINDS.into_iter()));
        return None;
    }
    let config = match config {
        Some(config) => config,
        None if r.raw(side.config).is_some() => return None,
        None if kind == "jwks" => Value::Object(Map::new()),
        None => {
            r.problem(side.config, format!("is required for the provider {kind}"));
            return None;
        }
    };
    match build(&kind, &config, &flat, "") {
        Ok(provider) => {
            if flat.url.is_some() && !provider.some_jwks(|_| true) {
                r.warn(format!("{} has no effect with the provider {kind}", side.url));
            }
            Some(provider)
        }
        Err(rules) => {
            rules.iter().for_each(|rule| r.problem(side.config, rule));
            None
        }
    }
}

/// The JSON of a provider. For `static` text that is no JSON value with structure is the token.
fn config(r: &mut Reader<'_>, key: &str, kind: Option<&str>) -> Option<Value> {
    let value = r.raw(key)?.clone();
    let ::config::ValueKind::String(text) = &value.kind else {
        let json = value.try_deserialize();
        return json.map_err(|_| r.problem(key, "must be a map, a list or text")).ok();
    };
    if kind == Some("static") && !text.trim_start().starts_with(['{', '[', '"']) {
        return Some(Value::String(text.clone()));
    }
    // The parser's message tells the place, and what it expected there, and nothing of the text.
    let json = serde_json::from_str(text);
    json.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        r.problem(key, format!("is not JSON: see line {line}, column {column}"));
    })
    .ok()
}

impl Flat {
    fn read(r: &mut Reader<'_>, side: &Side) -> Self {
        let url = r.url(side.url, &["http", "https"]);
        if url.as_ref().is_some_and(has_user_info) {
            r.problem_at(side.url, side.url, "must not hold a user name or password");
        }
        Self {
            url,
            issuer: r.text(side.issuer),
            audience: r.text(side.audience),
            clock_skew: r.seconds("allowedClockSkewSeconds", 0..=3600),
        }
    }

    fn jwks(self) -> Option<Jwks> {
        Some(Jwks {
            url: self.url?,
            issuer: self.issuer,
            audience: self.audience,
            clock_skew: self.clock_skew,
            http_timeout: Duration::from_millis(5000),
        })
    }
}

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Map, Value};
use url::Url;

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

/// A token listed in the settings.
#[derive(Clone, Debug)]
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

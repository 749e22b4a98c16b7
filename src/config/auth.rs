use std::fmt;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Map, Value};
use url::Url;

use super::keys::closest;
use super::read::{Reader, one_of, parse_url};

const KINDS: [&str; 3] = ["jwks", "static", "multi"];

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

/// What the flat keys say, which fills what a `jwks` provider leaves out.
struct Flat {
    url: Option<Url>,
    issuer: Option<String>,
    audience: Option<String>,
    clock_skew: Duration,
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

fn has_user_info(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

type Rules = Vec<String>;

/// `at` is the place within the JSON, for messages.
fn build(kind: &str, config: &Value, flat: &Flat, at: &str) -> Result<Provider, Rules> {
    match kind {
        "jwks" => jwks(config, flat, at).map(Provider::Jwks),
        "static" => tokens(config, at).map(Provider::Static),
        _ => multi(config, flat).map(Provider::Multi),
    }
}

fn multi(config: &Value, flat: &Flat) -> Result<Vec<Provider>, Rules> {
    let mut fields = Fields::new(config, "", &["providers"])?;
    let list = match fields.take("providers") {
        Some(Value::Array(list)) if (2..=4).contains(&list.len()) => list,
        _ => return Err(vec!["providers must be a list of two to four".to_owned()]),
    };
    let mut providers = Vec::new();
    for (entry, index) in list.iter().zip(0..) {
        let at = format!("providers[{index}].");
        match one_of_multi(entry, flat, &at) {
            Ok(provider) => providers.push(provider),
            Err(rules) => fields.rules.extend(rules),
        }
    }
    fields.finish(providers)
}

fn one_of_multi(entry: &Value, flat: &Flat, at: &str) -> Result<Provider, Rules> {
    let mut fields = Fields::new(entry, at, &["type", "config"])?;
    let kind = fields.text("type").unwrap_or_default();
    let empty = Value::Object(Map::new());
    let config = fields.take("config").unwrap_or(&empty);
    if kind != "jwks" && kind != "static" {
        fields.rule("type", "must be jwks or static");
        return Err(fields.rules);
    }
    let provider = build(&kind, config, flat, &format!("{at}config."));
    match provider {
        Ok(provider) => fields.finish(provider),
        Err(rules) => Err([fields.rules, rules].concat()),
    }
}

fn jwks(config: &Value, flat: &Flat, at: &str) -> Result<Jwks, Rules> {
    let known = ["jwksUrl", "issuer", "audience", "clockSkewSeconds", "httpTimeoutMs"];
    let mut fields = Fields::new(config, at, &known)?;
    let url = match fields.text("jwksUrl") {
        None => flat.url.clone(),
        Some(text) => match parse_url(&text, &["http", "https"]) {
            Ok(url) if has_user_info(&url) => {
                fields.rule("jwksUrl", "must not hold a user name or password");
                Some(url)
            }
            Ok(url) => Some(url),
            Err(rule) => {
                fields.rule("jwksUrl", &rule);
                flat.url.clone()
            }
        },
    };
    let issuer = fields.text("issuer").or_else(|| flat.issuer.clone());
    let audience = fields.text("audience").or_else(|| flat.audience.clone());
    let skew = fields.number("clockSkewSeconds", 0, 3600).map(Duration::from_secs);
    let timeout = fields.number("httpTimeoutMs", 1, 60_000).unwrap_or(5000);
    let Some(url) = url else {
        fields.rule("jwksUrl", "is required");
        return Err(fields.rules);
    };
    fields.finish(Jwks {
        url,
        issuer,
        audience,
        clock_skew: skew.unwrap_or(flat.clock_skew),
        http_timeout: Duration::from_millis(timeout),
    })
}

fn tokens(config: &Value, at: &str) -> Result<Vec<StaticToken>, Rules> {
    let list = match config {
        Value::Array(list) if list.is_empty() => {
            return Err(vec![format!("{at} must not be an empty list").trim().to_owned()]);
        }
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let (mut tokens, mut rules) = (Vec::new(), Vec::new());
    for (entry, index) in list.iter().zip(0..) {
        let at = if list.len() > 1 { format!("{at}[{index}].") } else { at.to_owned() };
        match token(entry, &at) {
            Ok(token) => tokens.push(token),
            Err(found) => rules.extend(found),
        }
    }
    if rules.is_empty() { Ok(tokens) } else { Err(rules) }
}

fn token(entry: &Value, at: &str) -> Result<StaticToken, Rules> {
    let bare;
    let entry = match entry {
        Value::String(_) => {
            bare = serde_json::json!({ "token": entry });
            &bare
        }
        other => other,
    };
    let known = ["token", "subject", "email", "scopes", "eventTypes", "raw"];
    let mut fields = Fields::new(entry, at, &known)?;
    let token = fields.text("token").unwrap_or_default();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        fields.rule("token", "must be printable ASCII without spaces");
    }
    let raw = match fields.take("raw") {
        None => Map::new(),
        Some(Value::Object(raw)) => raw.clone(),
        Some(_) => {
            fields.rule("raw", "must be an object");
            Map::new()
        }
    };
    let token = StaticToken {
        token: token.into(),
        subject: fields.text("subject").unwrap_or_else(|| "static".to_owned()),
        email: fields.text("email"),
        scopes: fields.texts("scopes"),
        event_types: fields.texts("eventTypes"),
        raw,
    };
    fields.finish(token)
}

/// The fields of a JSON object, and what is wrong with them. No rule repeats a value: any of them
/// may be a token in the wrong place.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    at: &'a str,
    rules: Rules,
}

impl<'a> Fields<'a> {
    fn new(value: &'a Value, at: &'a str, known: &[&str]) -> Result<Self, Rules> {
        let Value::Object(object) = value else {
            let place = at.trim_end_matches('.');
            return Err(vec![format!("{place} must be an object").trim_start().to_owned()]);
        };
        let mut fields = Self { object, at, rules: Vec::new() };
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            match closest(name, known.iter().copied()) {
                Some(near) => {
                    fields.rule("", &format!("has an unknown field; did you mean {near}?"))
                }
                None => fields.rule("", "has an unknown field"),
            }
        }
        Ok(fields)
    }

    fn rule(&mut self, field: &str, rule: &str) {
        let place = format!("{}{field}", self.at);
        self.rules.push(format!("{} {rule}", place.trim_end_matches('.')).trim_start().to_owned());
    }

    fn take(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    fn text(&mut self, field: &str) -> Option<String> {
        match self.take(field)? {
            Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            _ => {
                self.rule(field, "must be text");
                None
            }
        }
    }

    fn texts(&mut self, field: &str) -> Vec<String> {
        let texts = match self.take(field) {
            None => Some(Vec::new()),
            Some(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
            }
            Some(_) => None,
        };
        texts.unwrap_or_else(|| {
            self.rule(field, "must be a list of texts");
            Vec::new()
        })
    }

    fn number(&mut self, field: &str, least: u64, most: u64) -> Option<u64> {
        let number = self.take(field)?.as_u64().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.rule(field, &format!("must be a whole number, {least} to {most}"));
        }
        number
    }

    fn finish<T>(self, value: T) -> Result<T, Rules> {
        if self.rules.is_empty() { Ok(value) } else { Err(self.rules) }
    }
}

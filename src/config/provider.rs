//! The JSON of a token provider.

use std::time::Duration;

use serde_json::{Map, Value};
use url::Url;

use super::keys::closest;
use super::read::parse_url;
use super::{Jwks, Provider, StaticToken};

/// The providers there are.
pub(super) const KINDS: [&str; 3] = ["jwks", "static", "multi"];

/// What the flat keys say, which fills what a `jwks` provider leaves out.
pub(super) struct Flat {
    pub url: Option<Url>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub clock_skew: Duration,
}

pub(super) fn has_user_info(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// What is wrong with a provider's JSON.
pub(super) type Rules = Vec<String>;

/// Reads a provider; `at` is the place within the JSON, for messages.
pub(super) fn build(kind: &str, config: &Value, flat: &Flat, at: &str) -> Result<Provider, Rules> {
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

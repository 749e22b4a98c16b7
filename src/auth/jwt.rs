//! A JSON Web Token: header, signature, claims, in this order.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::Principal;
use super::denied::Reason;
use super::keys::{Key, KeySet};
use super::remembered::Proof;

/// The parts of a token whose signature nobody has checked yet.
///
/// Its claims stay encoded until then. The header's `jku`, `jwk`, `x5c` and `x5u` are not read at
/// all: keys come from the set that was configured.
pub(super) struct Unverified<'a> {
    algorithm: Algorithm,
    kid: String,
    message: &'a str,
    claims: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// RFC 7515: whoever does not know a critical extension must refuse; we know none. Present
    /// with any value, `null` too, counts.
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
}

fn is_present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub fn parse(token: &'a str) -> Result<Self, Reason> {
        let (message, signature) = token.rsplit_once('.').ok_or(Reason::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Reason::Malformed)?;
        if claims.contains('.') || signature.is_empty() {
            return Err(Reason::Malformed);
        }
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Reason::Malformed)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| Reason::Malformed)?;
        if header.crit {
            return Err(Reason::Critical);
        }
        let algorithm = accepted(&header.alg).ok_or(Reason::Algorithm)?;
        let kid = header.kid.ok_or(Reason::UnknownKid)?;
        Ok(Self { algorithm, kid, message, claims, signature })
    }

    /// The id of the key that is said to have signed.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Checks the signature with `keys`, then the claims by `rules`.
    pub fn verify(
        &self,
        keys: &KeySet,
        rules: &ClaimRules,
        now_ms: u64,
    ) -> Result<(Principal, Proof), Reason> {
        let mut refused = Reason::UnknownKid;
        for key in keys.of_kid(&self.kid) {
            if key.verifies(self.algorithm, self.message, self.signature) {
                return self.trusted(key, rules, now_ms);
            }
            refused = Reason::Signature;
        }
        Err(refused)
    }

    fn trusted(
        &self,
        key: &Arc<Key>,
        rules: &ClaimRules,
        now_ms: u64,
    ) -> Result<(Principal, Proof), Reason> {
        let claims = URL_SAFE_NO_PAD.decode(self.claims).map_err(|_| Reason::Malformed)?;
        let claims: Map<String, Value> =
            serde_json::from_slice(&claims).map_err(|_| Reason::Malformed)?;
        let expires_ms = rules.check(&claims, now_ms)?;
        let subject = text(&claims, "sub").filter(|sub| !sub.is_empty()).ok_or(Reason::Claims)?;
        let principal = Principal::of(subject.to_owned(), &claims);
        Ok((principal, Proof { key: key.clone(), expires_ms }))
    }
}

/// The algorithms of http-api.md. `none` and the HMAC ones are absent on purpose, and so is every
/// name not in this list.
fn accepted(alg: &str) -> Option<Algorithm> {
    Some(match alg {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

/// What the claims of a token must say.
pub(super) struct ClaimRules {
    /// `None`: any issuer, but there must be one. Likewise `audience`.
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub skew_ms: u64,
}

impl ClaimRules {
    /// When the token ends, in Unix milliseconds with the skew added.
    fn check(&self, claims: &Map<String, Value>, now_ms: u64) -> Result<u64, Reason> {
        let expires_ms = time_ms(claims, "exp")?.ok_or(Reason::Claims)?;
        let expires_ms = expires_ms.saturating_add(self.skew_ms);
        if now_ms >= expires_ms {
            return Err(Reason::Expired);
        }
        let not_before_ms = time_ms(claims, "nbf")?.unwrap_or(0);
        if now_ms.saturating_add(self.skew_ms) < not_before_ms {
            return Err(Reason::NotYetValid);
        }
        let issuer = text(claims, "iss").ok_or(Reason::Claims)?;
        if self.issuer.as_deref().is_some_and(|wanted| wanted != issuer) {
            return Err(Reason::Issuer);
        }
        let audiences: &[Value] = match claims.get("aud") {
            Some(Value::Array(all)) if !all.is_empty() && all.iter().all(Value::is_string) => all,
            Some(one @ Value::String(_)) => std::slice::from_ref(one),
            _ => return Err(Reason::Claims),
        };
        match &self.audience {
            Some(wanted) if !audiences.iter().any(|aud| aud == wanted) => Err(Reason::Audience),
            _ => Ok(expires_ms),
        }
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}

/// A `NumericDate`: seconds since 1970, perhaps with a fraction. Far away ones saturate.
fn time_ms(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, Reason> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let seconds = value.as_f64().ok_or(Reason::Claims)?;
            Ok(Some((seconds * 1000.0) as u64))
        }
    }
}

//! A JSON Web Key Set: which of its keys may verify a token, and which algorithm each allows.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The most keys taken from one set; the rest is ignored. Real ones have two to six.
const MAX_KEYS: usize = 256;

/// What a key is, and so which algorithms it may be used with: a token's header never decides
/// alone, or an attacker would sign with the public key as an HMAC secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeyType {
    fn allows(self, algorithm: Algorithm) -> bool {
        use Algorithm::*;
        match self {
            Self::Rsa => matches!(algorithm, RS256 | RS384 | RS512 | PS256),
            Self::P256 => algorithm == ES256,
            Self::P384 => algorithm == ES384,
            Self::Ed25519 => algorithm == EdDSA,
        }
    }
}

/// One public key of a set.
pub(super) struct Key {
    kid: String,
    key_type: KeyType,
    /// The only algorithm its publisher allows, if it says so.
    only: Option<Algorithm>,
    decoding: DecodingKey,
    /// The public numbers, to tell whether a refetched key is still the same one.
    material: [Vec<u8>; 2],
    /// Set when the key leaves the set. Remembered tokens hold the key and look here, so nobody
    /// has to search for them.
    withdrawn: AtomicBool,
}

impl Key {
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    /// Whether `signature` (base64url) is this key's for `message` under `algorithm`.
    pub fn verifies(&self, algorithm: Algorithm, message: &str, signature: &str) -> bool {
        self.key_type.allows(algorithm)
            && self.only.is_none_or(|only| only == algorithm)
            && jsonwebtoken::crypto::verify(
                signature,
                message.as_bytes(),
                &self.decoding,
                algorithm,
            )
            .unwrap_or(false)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.kid == other.kid
            && self.key_type == other.key_type
            && self.only == other.only
            && self.material == other.material
    }

    /// `None` for a key that cannot verify a token here: for encryption, symmetric, of another
    /// type, malformed, or without a `kid`.
    fn read(jwk: Value) -> Option<Self> {
        let jwk = Jwk::deserialize(jwk).ok()?;
        let kid = jwk.kid?;
        if jwk.usage.is_some_and(|usage| usage != "sig")
            || jwk.key_ops.is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
        {
            return None;
        }
        let only = match jwk.alg {
            Some(alg) => Some(alg.parse().ok()?),
            None => None,
        };
        let number = |text: Option<&str>| URL_SAFE_NO_PAD.decode(text?).ok();
        let (n, e) = (jwk.n.as_deref(), jwk.e.as_deref());
        let (x, y) = (jwk.x.as_deref(), jwk.y.as_deref());
        let coordinate =
            |text, bytes| number(text).filter(|coordinate: &Vec<u8>| coordinate.len() == bytes);
        let (key_type, material, decoding) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                // Shorter ones the library refuses at each use; 8192 bits are its limit.
                let material = [number(n).filter(|n| (256..=1024).contains(&n.len()))?, number(e)?];
                let decoding = DecodingKey::from_rsa_raw_components(&material[0], &material[1]);
                (KeyType::Rsa, material, decoding)
            }
            ("EC", Some(crv @ ("P-256" | "P-384"))) => {
                let (key_type, bytes) =
                    if crv == "P-256" { (KeyType::P256, 32) } else { (KeyType::P384, 48) };
                let material = [coordinate(x, bytes)?, coordinate(y, bytes)?];
                (key_type, material, DecodingKey::from_ec_components(x?, y?).ok()?)
            }
            ("OKP", Some("Ed25519")) => {
                let material = [coordinate(x, 32)?, Vec::new()];
                (KeyType::Ed25519, material, DecodingKey::from_ed_components(x?).ok()?)
            }
            _ => return None,
        };
        if only.is_some_and(|only| !key_type.allows(only)) {
            return None;
        }
        Some(Self { kid, key_type, only, decoding, material, withdrawn: AtomicBool::new(false) })
    }

    #[cfg(test)]
    pub fn for_tests() -> Self {
        let jwk = serde_json::json!({"kid": "k", "kty": "OKP", "crv": "Ed25519",
            "x": URL_SAFE_NO_PAD.encode([7; 32])});
        Self::read(jwk).unwrap()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// The members of a JWK that matter here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The usable keys of one answer.
#[derive(Default)]
pub(super) struct KeySet(Vec<Arc<Key>>);

impl KeySet {
    /// Reads an endpoint's answer; `None` when it is no key set at all. Keys of no use here are
    /// left out, as RFC 7517 asks: a set may hold keys for others.
    pub fn read(answer: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            keys: Vec<Value>,
        }
        let Answer { keys } = serde_json::from_slice(answer).ok()?;
        Some(Self(keys.into_iter().filter_map(Key::read).take(MAX_KEYS).map(Arc::new).collect()))
    }

    /// This set in place of `old`: keys that stayed are the same objects, so tokens verified with
    /// them stay remembered; those that left are withdrawn.
    pub fn replacing(mut self, old: &Self) -> Self {
        for key in &mut self.0 {
            if let Some(same) = old.0.iter().find(|other| other.is_same(key)) {
                *key = same.clone();
            }
        }
        for key in &old.0 {
            if !self.0.iter().any(|kept| Arc::ptr_eq(kept, key)) {
                key.withdrawn.store(true, Ordering::Release);
            }
        }
        self
    }

    /// The keys of that id. More than one when a publisher has an id per algorithm family.
    pub fn of_kid<'a>(&'a self, kid: &'a str) -> impl Iterator<Item = &'a Arc<Key>> {
        self.0.iter().filter(move |key| key.kid == kid)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ed(kid: &str, byte: u8) -> Value {
        json!({"kid": kid, "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([byte; 32])})
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn with(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    #[test]
    fn keys_of_no_use_are_left_out_and_do_not_harm_the_others() {
        let unusable = [
            json!("text"),
            json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0"}),
            json!({"kty": "EC", "kid": "k", "crv": "P-521", "x": "AA", "y": "AA"}),
            json!({"kty": "EC", "kid": "k", "crv": "P-256", "x": "AA", "y": "AA"}),
            json!({"kty": "EC", "kid": "k", "crv": "P-256"}),
            json!({"kty": "RSA", "kid": "k", "n": URL_SAFE_NO_PAD.encode([255; 128]), "e": "AQAB"}),
            json!({"kty": "RSA", "kid": "k", "n": "!", "e": "AQAB"}),
            with(ed("k", 1), "use", json!("enc")),
            with(ed("k", 1), "key_ops", json!(["encrypt"])),
            with(ed("k", 1), "alg", json!("RS256")),
            with(ed("k", 1), "alg", json!("HS256")),
            with(ed("k", 1), "alg", json!("dir")),
            with(ed("k", 1), "x", json!(URL_SAFE_NO_PAD.encode([1; 31]))),
            with(ed("k", 1), "kid", Value::Null),
        ];
        for jwk in unusable {
            let set = set(&[jwk.clone(), ed("good", 2)]);
            assert_eq!(set.of_kid("k").count(), 0, "{jwk}");
            assert_eq!(set.0.len(), 1, "{jwk}");
        }
        let fine = with(with(ed("k", 1), "use", json!("sig")), "alg", json!("EdDSA"));
        assert_eq!(set(&[fine]).of_kid("k").count(), 1);
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for answer in ["", "null", "[]", "{}", r#"{"keys":{}}"#, "<html>", r#"{"keys":[]"#] {
            assert!(KeySet::read(answer.as_bytes()).is_none(), "{answer}");
        }
        assert!(KeySet::read(br#"{"keys":[],"more":1}"#).is_some());
    }

    #[test]
    fn only_keys_that_left_or_changed_are_withdrawn() {
        let old = set(&[ed("stays", 1), ed("changes", 2), ed("leaves", 3)]);
        let key = |set: &KeySet, kid| set.of_kid(kid).next().unwrap().clone();
        let before = ["stays", "changes", "leaves"].map(|kid| key(&old, kid));
        let new = set(&[ed("changes", 4), ed("stays", 1), ed("new", 5)]).replacing(&old);
        assert_eq!(before.map(|key| key.is_withdrawn()), [false, true, true]);
        assert!(Arc::ptr_eq(&key(&new, "stays"), &key(&old, "stays")));
        assert!(new.0.iter().all(|key| !key.is_withdrawn()));
    }

    #[test]
    fn a_set_with_countless_keys_is_cut() {
        let keys: Vec<_> = (0..MAX_KEYS + 10).map(|n| ed(&n.to_string(), 1)).collect();
        assert_eq!(set(&keys).0.len(), MAX_KEYS);
    }
}

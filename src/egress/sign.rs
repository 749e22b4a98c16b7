//! Headers of a delivery, and the keys that sign it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use secrecy::ExposeSecret as _;
use sha2::Sha256;

use crate::config::{SecretScope, Webhook};

/// Counts attempts, 1 for the first.
const X_CODEQ_ATTEMPT: HeaderName = HeaderName::from_static("x-codeq-attempt");
/// Unix seconds of the attempt.
const X_CODEQ_TIMESTAMP: HeaderName = HeaderName::from_static("x-codeq-timestamp");
/// Hex HMAC over timestamp and body.
const X_CODEQ_SIGNATURE: HeaderName = HeaderName::from_static("x-codeq-signature");
/// The delivery, the same in every attempt.
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// As [`X_CODEQ_TIMESTAMP`], by the name of Standard Webhooks.
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// One signature for each secret.
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Marks a key in the form that every receiver library takes.
const KEY_PREFIX: &str = "whsec_";
/// Comes before the tenant where its key is derived. The tenant of operator events is no tenant:
/// nothing follows the NUL, and no name is empty.
const DERIVED_FOR: &[u8] = b"codeq-webhook-v1\0";
/// Tenants whose keys are at hand; beyond them all are derived anew, which takes microseconds.
const MAX_TENANTS: usize = 4096;

/// Signs deliveries.
pub struct Signer {
    scope: SecretScope,
    secrets: Vec<Secret>,
    /// With one scope for all.
    shared: Option<Arc<Keys>>,
    /// With a scope for each tenant.
    derived: Mutex<HashMap<Box<str>, Arc<Keys>>>,
}

/// What the operator configured.
struct Secret {
    text: Vec<u8>,
    /// What Standard Webhooks signs with.
    key: Vec<u8>,
}

/// Keys as they are used: with the first step of every HMAC done.
struct Keys {
    /// Of `X-CodeQ-Signature`.
    codeq: Hmac<Sha256>,
    /// Of `webhook-signature`, the signing one first.
    standard: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// With the secrets of the settings, which may be none.
    pub fn new(settings: &Webhook) -> Self {
        let secrets: Vec<_> =
            settings.secrets.iter().map(|text| Secret::of(text.expose_secret())).collect();
        let shared = secrets.first().map(|first| {
            Arc::new(Keys::new(&first.text, secrets.iter().map(|secret| secret.key.as_slice())))
        });
        Self { scope: settings.secret_scope, secrets, shared, derived: Mutex::default() }
    }

    /// Puts every header of a delivery but those of its trace into `into`.
    ///
    /// `tenant` is `None` for operator events, which belong to nobody; `attempt` is 1 for the
    /// first. Without a secret there are no signatures.
    pub fn headers(
        &self,
        tenant: Option<&str>,
        id: &str,
        timestamp_s: i64,
        attempt: u16,
        body: &[u8],
        into: &mut HeaderMap,
    ) {
        // A dot would let the signed text be read with another border between id and time.
        debug_assert!(!id.contains('.'), "a webhook-id without dots");
        let stamp = timestamp_s.to_string();
        let time = HeaderValue::from(timestamp_s);
        into.reserve(8);
        into.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        into.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("codeq/", env!("CARGO_PKG_VERSION"))),
        );
        into.insert(X_CODEQ_ATTEMPT, HeaderValue::from(attempt));
        into.insert(X_CODEQ_TIMESTAMP, time.clone());
        into.insert(WEBHOOK_TIMESTAMP, time);
        if let Ok(id) = HeaderValue::from_str(id) {
            into.insert(WEBHOOK_ID, id);
        }
        let Some(keys) = self.keys(tenant) else { return };
        into.insert(X_CODEQ_SIGNATURE, ascii(keys.codeq_signature(&stamp, body)));
        into.insert(WEBHOOK_SIGNATURE, ascii(keys.standard_signatures(id, &stamp, body)));
    }

    /// The keys of a tenant's `webhook-signature`, the signing one first, as `whsec_…`.
    pub fn keys_shown(&self, tenant: &str) -> Vec<String> {
        self.shown(Some(tenant))
    }

    /// The keys of operator events, as [`Signer::keys_shown`].
    pub fn operator_keys_shown(&self) -> Vec<String> {
        self.shown(None)
    }

    /// Whether one key signs for all tenants.
    pub fn is_shared(&self) -> bool {
        self.scope == SecretScope::Shared
    }

    fn shown(&self, tenant: Option<&str>) -> Vec<String> {
        let show = |key: &[u8]| format!("{KEY_PREFIX}{}", STANDARD.encode(key));
        match self.scope {
            SecretScope::Shared => self.secrets.iter().map(|secret| show(&secret.key)).collect(),
            SecretScope::Tenant => self.derive(tenant).iter().map(|key| show(key)).collect(),
        }
    }

    fn keys(&self, tenant: Option<&str>) -> Option<Arc<Keys>> {
        let shared = self.shared.as_ref()?;
        if self.is_shared() {
            return Some(shared.clone());
        }
        let name = tenant.unwrap_or_default();
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = derived.get(name) {
            return Some(keys.clone());
        }
        let made = self.derive(tenant);
        let keys = Arc::new(Keys::new(made.first()?, made.iter().map(<[u8; 32]>::as_slice)));
        if derived.len() >= MAX_TENANTS {
            derived.clear();
        }
        derived.insert(name.into(), keys.clone());
        Some(keys)
    }

    /// A key of its own for each secret, from which neither the secret nor another tenant's key can
    /// be told (RFC 5869).
    fn derive(&self, tenant: Option<&str>) -> Vec<[u8; 32]> {
        let info = [DERIVED_FOR, tenant.unwrap_or_default().as_bytes()];
        let derive = |secret: &Secret| {
            let mut key = [0; 32];
            Hkdf::<Sha256>::new(None, &secret.key)
                .expand_multi_info(&info, &mut key)
                .expect("32 bytes are one block");
            key
        };
        self.secrets.iter().map(derive).collect()
    }
}

impl Secret {
    fn of(text: &str) -> Self {
        let decoded = text.strip_prefix(KEY_PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
        Self {
            text: text.as_bytes().to_vec(),
            key: decoded.unwrap_or_else(|| text.as_bytes().to_vec()),
        }
    }
}

impl Keys {
    fn new<'a>(codeq: &[u8], standard: impl Iterator<Item = &'a [u8]>) -> Self {
        Self { codeq: keyed(codeq), standard: standard.map(keyed).collect() }
    }

    fn codeq_signature(&self, stamp: &str, body: &[u8]) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        let code = code(&self.codeq, &[stamp.as_bytes(), b".", body]);
        code.into_iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    fn standard_signatures(&self, id: &str, stamp: &str, body: &[u8]) -> String {
        let mut list = String::with_capacity(self.standard.len() * 48);
        for key in &self.standard {
            let code = code(key, &[id.as_bytes(), b".", stamp.as_bytes(), b".", body]);
            list.push_str(if list.is_empty() { "v1," } else { " v1," });
            STANDARD.encode_string(code, &mut list);
        }
        list
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn code(key: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut code = key.clone();
    parts.iter().for_each(|part| code.update(part));
    code.finalize().into_bytes().into()
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("hex and base64 are visible ASCII")
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("scope", &self.scope)
            .field("secrets", &self.secrets.len())
            .finish_non_exhaustive()
    }
}

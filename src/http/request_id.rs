//! The id by which a person finds a request again.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header that carries it, in and out.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id taken from a client, in characters.
const MAX_LENGTH: usize = 128;

/// Id of a request: the client's, if it is visible ASCII and not too long, else one of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestId {
    text: Arc<str>,
    is_ours: bool,
}

impl RequestId {
    /// The id of a request with these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut sent = headers.get_all(X_REQUEST_ID).iter();
        match (sent.next().and_then(|value| value.to_str().ok()), sent.next()) {
            (Some(text), None) if is_acceptable(text) => Self { text: text.into(), is_ours: false },
            _ => Self::generate(),
        }
    }

    /// A fresh one: a UUIDv7 without hyphens, so that ids sort by time.
    pub fn generate() -> Self {
        let mut text = [0; 32];
        Self { text: (&*Uuid::now_v7().simple().encode_lower(&mut text)).into(), is_ours: true }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, shared.
    pub fn shared(&self) -> Arc<str> {
        self.text.clone()
    }

    /// Whether this node made it. A client's id is free text and belongs in logs only.
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// As a header's value.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.text).expect("visible ASCII is a header's value")
    }
}

fn is_acceptable(text: &str) -> bool {
    (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // The middleware has put it there, the same that the answer carries.
        Ok(parts.extensions.get().cloned().unwrap_or_else(|| Self::of(&parts.headers)))
    }
}

//! Headers that carry something of a call.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::model::LeaseToken;

/// `X-CodeQ-Lease-Token`: which lease the caller believes to hold. An empty one counts as none.
#[derive(Clone, Debug)]
pub struct LeaseTokenHeader(Option<LeaseToken>);

impl LeaseTokenHeader {
    /// The header's token, or else the one of the body.
    pub fn or(self, field: Option<LeaseToken>) -> Option<LeaseToken> {
        self.0.or(field)
    }
}

impl<S: Sync> FromRequestParts<S> for LeaseTokenHeader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Bytes that are no text are a wrong token, not an absent one: the lease stays fenced.
        let token = text(parts, "x-codeq-lease-token");
        Ok(Self(token.and_then(|token| LeaseToken::sent(token.trim()))))
    }
}

/// `Idempotency-Key`: the same as the field, which wins. White space counts as none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdempotencyKeyHeader(pub Option<String>);

impl<S: Sync> FromRequestParts<S> for IdempotencyKeyHeader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(text(parts, "idempotency-key").filter(|key| !key.trim().is_empty())))
    }
}

fn text(parts: &Parts, name: &'static str) -> Option<String> {
    let value = parts.headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

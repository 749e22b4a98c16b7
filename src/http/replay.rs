//! Calls that may be repeated: the answer that says so, and the lease that proves it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use serde::Serialize;

use super::LeaseTokenHeader;
use crate::model::LeaseToken;

/// `200` with the answer, and `Idempotency-Replayed: true` when the call repeats one that was done.
pub fn replayable(replayed: bool, answer: &impl Serialize) -> Response {
    let mut response = Json(answer).into_response();
    if replayed {
        let said = HeaderValue::from_static("true");
        response.headers_mut().insert("idempotency-replayed", said);
    }
    response
}

/// The lease that the caller names, in the header or else in the body; "" when in neither.
pub fn lease_token(header: LeaseTokenHeader, field: Option<String>) -> String {
    let field = field.as_deref().and_then(LeaseToken::sent);
    header.or(field).map(|token| token.as_str().to_owned()).unwrap_or_default()
}

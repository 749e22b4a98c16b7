//! Query strings.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::{Error, Result, json};

/// A query string. Refused with `400` `invalid body`; unknown parameters are ignored.
pub struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(refused) => {
                let text = refused.body_text();
                let (_, reason) = text.split_once(": ").unwrap_or(("", &text));
                Err(Error::InvalidBody(json::explained(reason).into()))
            }
        }
    }
}

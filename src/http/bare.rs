//! Batches that may come as a bare array.

use axum::extract::{FromRequest, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Context, Error, RawBody, Result, json};

/// The body of a batch: an object that names its items, or a bare array of them. It is answered in
/// kind.
#[derive(Debug)]
pub enum BareOr<T> {
    /// An array.
    Bare(Vec<Box<RawValue>>),
    /// An object.
    Named(T),
}

/// How such a request or answer looks, for the schema.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum InKind<Named, Item> {
    /// An object.
    Named(Named),
    /// A bare array.
    Bare(Vec<Item>),
}

impl<T> BareOr<T> {
    /// Whether an array came.
    pub fn is_bare(&self) -> bool {
        matches!(self, Self::Bare(_))
    }

    /// The items, at least one and at most `most`. In the object they are the field `field`, which
    /// `named` takes out.
    ///
    /// # Errors
    /// `400` when there is none, or more than that.
    pub fn items(
        self,
        field: &str,
        most: usize,
        named: impl FnOnce(T) -> Vec<Box<RawValue>>,
    ) -> Result<Vec<Box<RawValue>>> {
        let items = match self {
            Self::Bare(items) => items,
            Self::Named(object) => named(object),
        };
        match items.len() {
            0 => Err(Error::InvalidBody(format!("{field}: at least one is needed").into())),
            n if n > most => Err(Error::BatchTooLarge(most)),
            _ => Ok(items),
        }
    }
}

impl<S: Context, T: DeserializeOwned> FromRequest<S> for BareOr<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let RawBody(bytes) = RawBody::from_request(request, state).await?;
        // Not an untagged enum: that one buffers values as a tree, and items are kept byte for byte.
        let parsed = match bytes.trim_ascii_start().starts_with(b"[") {
            true => json::parse_any(&bytes).map(Self::Bare),
            false => json::parse(&bytes).map(Self::Named),
        };
        parsed.map_err(Error::InvalidBody)
    }
}

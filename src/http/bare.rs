//! Batches that may come as a bare array.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A batch: an object that names its items, or a bare array of them. It is answered in kind.
#[derive(Debug)]
pub enum BareOr<T> {
    /// An array.
    Bare(Vec<Box<RawValue>>),
    /// An object.
    Named(T),
}

/// How such an answer looks, for the schema.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum InKind<Named, Item> {
    /// To an object.
    Named(Named),
    /// To a bare array.
    Bare(Vec<Item>),
}

impl<T> BareOr<T> {
    /// Whether an array came.
    pub fn is_bare(&self) -> bool {
        matches!(self, Self::Bare(_))
    }

    /// The items; `named` takes them out of the object.
    pub fn items(self, named: impl FnOnce(T) -> Vec<Box<RawValue>>) -> Vec<Box<RawValue>> {
        match self {
            Self::Bare(items) => items,
            Self::Named(object) => named(object),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for BareOr<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        // Not an untagged enum: that one buffers values as a tree, and items are kept byte for byte.
        let raw = Box::<RawValue>::deserialize(from)?;
        let text = raw.get();
        if text.starts_with('[') {
            serde_json::from_str(text).map(Self::Bare).map_err(D::Error::custom)
        } else {
            serde_json::from_str(text).map(Self::Named).map_err(D::Error::custom)
        }
    }
}

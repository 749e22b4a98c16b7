//! Lists in pages.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Part of a list.
#[derive(Serialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// At most `limit` of them.
    pub items: Vec<T>,
    /// What to pass as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page that goes on at `next`, or the last one.
    pub fn new(items: Vec<T>, next: Option<&impl Serialize>) -> Self {
        Self { items, next_cursor: next.map(encode_cursor) }
    }
}

/// `limit` of a query: 1..1000, else the query is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit(u16);

impl Limit {
    /// The largest page.
    pub const MAX: u16 = 1000;

    /// How many items to answer at most.
    pub fn get(self) -> usize {
        self.0.into()
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(100)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        match u16::deserialize(text) {
            Ok(limit @ 1..=Self::MAX) => Ok(Self(limit)),
            _ => Err(D::Error::custom("must be between 1 and 1000")),
        }
    }
}

/// `cursor` of a query: where the page before it ended, in a form only this broker reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor<T>(pub T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Cursor<T> {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        let text = String::deserialize(text)?;
        decode_cursor(&text).map(Self).ok_or_else(|| D::Error::custom("not a cursor of this list"))
    }
}

/// Packs a position, so that clients do not come to rely on what it is made of.
pub fn encode_cursor(position: &impl Serialize) -> String {
    let json = serde_json::to_vec(position).expect("positions are plain values");
    URL_SAFE_NO_PAD.encode(json)
}

/// Reads [`encode_cursor`]; `None` for anything else.
pub fn decode_cursor<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

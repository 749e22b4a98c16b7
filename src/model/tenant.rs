use std::fmt;
use std::sync::Arc;

use super::digest_text;

/// Whose tasks these are: `^[a-z][a-z0-9-]{1,62}$`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TenantId(Arc<Inner>);

#[derive(PartialEq, Eq, Hash, Debug)]
struct Inner {
    name: String,
    tag: String,
}

impl TenantId {
    /// Checks a name; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, rest) = text.as_bytes().split_first()?;
        let allowed = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        (first.is_ascii_lowercase() && (1..=62).contains(&rest.len()) && rest.iter().all(allowed))
            .then(|| Self::trusted(text))
    }

    /// A name that was checked when it was stored.
    pub(crate) fn trusted(text: &str) -> Self {
        let tag = digest_text::<9>(&[b"tenant", text.as_bytes()]);
        Self(Arc::new(Inner { name: text.to_owned(), tag }))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0.name
    }

    /// Twelve characters that stand for the tenant in Redis: 72 bits of SHA-256.
    pub fn tag(&self) -> &str {
        &self.0.tag
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

use std::fmt;

use base64::Engine as _;

use super::SORTED_BASE64;

/// The id of a lease: 96 random bits from the node, 16 characters. On the wire, the lease token.
///
/// Never a Redis counter: a failover could issue a counter's value twice.
#[derive(Clone, PartialEq, Eq)]
pub struct LeaseToken(String);

impl LeaseToken {
    /// Length of the text.
    pub const LEN: usize = 16;

    /// A fresh one.
    pub fn random() -> Self {
        Self(SORTED_BASE64.encode(rand::random::<[u8; 12]>()))
    }

    /// Takes what a client sent; `None` for the empty text. Whether it is right only the script knows.
    pub fn sent(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever reads a log must not be able to finish somebody's task.
        f.write_str("LeaseToken(…)")
    }
}

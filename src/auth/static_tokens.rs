//! Tokens that stand in the settings.

use std::sync::Arc;

use secrecy::ExposeSecret;
use serde_json::Value;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::Principal;
use super::remembered::Digest;
use crate::config;

/// The tokens, as digests, and whom each stands for.
pub(super) struct StaticTokens(Vec<(Digest, Arc<Principal>)>);

impl StaticTokens {
    pub fn new(tokens: &[config::StaticToken]) -> Self {
        Self(
            tokens
                .iter()
                .map(|token| {
                    let digest = Digest::of(token.token.expose_secret());
                    (digest, Arc::new(principal(token)))
                })
                .collect(),
        )
    }

    /// Compares with every token in full, whichever matches: the time taken tells neither how
    /// much of a token was right nor which one it was.
    pub fn find(&self, presented: &Digest) -> Option<&Arc<Principal>> {
        let mut found = u32::MAX;
        for (index, (digest, _)) in (0..).zip(&self.0) {
            found.conditional_assign(&index, digest.0.ct_eq(&presented.0));
        }
        self.0.get(found as usize).map(|(_, principal)| principal)
    }
}

/// The token's settings stand for the claims of the same names; `raw` holds the others (tenant,
/// role, worker group). Its email is contact data for whoever reads the settings; nothing uses it.
fn principal(token: &config::StaticToken) -> Principal {
    let mut claims = token.raw.clone();
    let list = |names: &[String]| Value::from(names.to_vec());
    claims.insert("scope".to_owned(), list(&token.scopes));
    claims.insert("eventTypes".to_owned(), list(&token.event_types));
    Principal::of(token.subject.clone(), &claims)
}

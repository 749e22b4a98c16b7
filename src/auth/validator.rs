//! The sources of one validator, and the ways in which a kind of call may use them.

use std::sync::Arc;

use super::clock::Clock;
use super::denied::Reason;
use super::jwks::KeyEndpoint;
use super::jwt::{ClaimRules, Unverified};
use super::remembered::{Digest, Proof, Remembered};
use super::static_tokens::StaticTokens;
use super::{Principal, jwks};
use crate::config::Provider;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Role;

/// One place that knows tokens.
enum Source {
    Static(StaticTokens),
    Signed { keys: Arc<KeyEndpoint>, rules: ClaimRules },
}

/// The producer or the worker validator: sources, the first that accepts decides. Without any, it
/// accepts nobody.
#[derive(Default)]
pub(super) struct Validator(Vec<Source>);

/// Whom a source accepted; without proof there is nothing to remember, it stands in the settings.
type Accepted = (Arc<Principal>, Option<Proof>);

impl Validator {
    pub fn new(
        provider: Option<&Provider>,
        role: Role,
        clock: &Clock,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let mut sources = Vec::new();
        if let Some(provider) = provider {
            add(provider, role, clock, metrics, &mut sources)?;
        }
        Ok(Self(sources))
    }

    /// The key sets among the sources.
    pub fn key_sets(&self) -> impl Iterator<Item = &Arc<KeyEndpoint>> {
        self.0.iter().filter_map(|source| match source {
            Source::Signed { keys, .. } => Some(keys),
            Source::Static(_) => None,
        })
    }

    fn check(
        &self,
        token: &Result<Unverified<'_>, Reason>,
        digest: &Digest,
        now_ms: u64,
    ) -> Result<Accepted, Reason> {
        let mut refused = Reason::NotRecognised;
        for source in &self.0 {
            let checked = match source {
                Source::Static(tokens) => tokens
                    .find(digest)
                    .map(|principal| (principal.clone(), None))
                    .ok_or(Reason::NotRecognised),
                Source::Signed { keys, rules } => token
                    .as_ref()
                    .map_err(|reason| *reason)
                    .and_then(|token| token.verify(&*keys.current()?, rules, now_ms))
                    .map(|(principal, proof)| (Arc::new(principal), Some(proof))),
            };
            match checked {
                Ok(accepted) => return Ok(accepted),
                Err(reason) => refused = refused.max(reason),
            }
        }
        Err(refused)
    }
}

/// A `multi` is no more than its members in order.
fn add(
    provider: &Provider,
    role: Role,
    clock: &Clock,
    metrics: &Metrics,
    sources: &mut Vec<Source>,
) -> anyhow::Result<()> {
    match provider {
        Provider::Static(tokens) => sources.push(Source::Static(StaticTokens::new(tokens))),
        Provider::Jwks(settings) => sources.push(Source::Signed {
            keys: jwks::KeyEndpoint::new(settings, role, clock.clone(), metrics.clone())?,
            rules: ClaimRules {
                issuer: settings.issuer.clone(),
                audience: settings.audience.clone(),
                skew_ms: settings.clock_skew.as_millis() as u64,
            },
        }),
        Provider::Multi(members) => {
            for member in members {
                add(member, role, clock, metrics, sources)?;
            }
        }
    }
    Ok(())
}

/// What an accepted token must have, or gets, in one kind of call.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Producers need nothing more.
    AsItIs,
    /// Workers need event types and a scope.
    Worker,
    /// `allowProducerAsWorker`.
    ProducerAsWorker,
}

/// One way to be let in: a validator, a rule on top, and the tokens that came in before.
#[derive(Clone)]
pub(super) struct Way {
    pub role: Role,
    pub validator: Arc<Validator>,
    pub rule: Rule,
    pub remembered: Arc<Remembered>,
}

impl Way {
    fn admit(&self, principal: Arc<Principal>) -> Result<Arc<Principal>, Reason> {
        match self.rule {
            Rule::Worker if principal.event_types.is_empty() => Err(Reason::EventTypes),
            Rule::Worker if principal.scopes.is_empty() => Err(Reason::Scope),
            Rule::Worker | Rule::AsItIs => Ok(principal),
            Rule::ProducerAsWorker => Ok(Arc::new(principal.as_worker())),
        }
    }
}

/// Tries the ways in order with the keys at hand and remembers what a signature proved. When all
/// refuse, the one where the token got furthest says why.
pub(super) fn first_that_accepts(
    ways: &[Way],
    token: &Result<Unverified<'_>, Reason>,
    digest: &Digest,
    now_ms: u64,
) -> Result<Arc<Principal>, (Role, Reason)> {
    let mut refused: Option<(Role, Reason)> = None;
    for way in ways {
        let checked = way.validator.check(token, digest, now_ms);
        let admitted = checked.and_then(|(principal, proof)| Ok((way.admit(principal)?, proof)));
        match admitted {
            Ok((principal, proof)) => {
                if let Some(proof) = proof {
                    way.remembered.put(*digest, proof, principal.clone(), now_ms);
                }
                return Ok(principal);
            }
            Err(reason) if refused.is_none_or(|(_, other)| reason > other) => {
                refused = Some((way.role, reason));
            }
            Err(_) => {}
        }
    }
    Err(refused.expect("every kind of call has a way"))
}

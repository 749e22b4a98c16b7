use crate::telemetry::metrics::AuthFailure;

/// Why a request is not authenticated. Always a `401`; `Display` is the contract's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Denied {
    /// The token was not accepted.
    #[error("invalid token")]
    InvalidToken {
        /// Which check failed; never a part of the token, and never more than its bearer may know.
        detail: &'static str,
    },
    /// A worker token that names no event type.
    #[error("missing eventTypes")]
    MissingEventTypes,
    /// A worker token without a scope.
    #[error("missing scope")]
    MissingScope,
}

impl Denied {
    /// Which check failed, for the `detail` of the answer.
    pub fn detail(&self) -> &'static str {
        match self {
            Self::InvalidToken { detail } => detail,
            Self::MissingEventTypes => "the worker token names no event type",
            Self::MissingScope => "the worker token has no scope",
        }
    }
}

/// The check that failed, in the order of the checks: of several sources that refuse a token, the
/// one that got furthest has the most to say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Reason {
    NotRecognised,
    Malformed,
    Algorithm,
    Critical,
    NoKeys,
    UnknownKid,
    Signature,
    Claims,
    Expired,
    NotYetValid,
    Issuer,
    Audience,
    EventTypes,
    Scope,
}

impl Reason {
    /// The `reason` label of `codeq_auth_failures_total`.
    pub fn label(self) -> AuthFailure {
        match self {
            Self::Malformed | Self::Algorithm | Self::Critical | Self::Claims => {
                AuthFailure::Malformed
            }
            Self::NotRecognised | Self::Signature => AuthFailure::Signature,
            Self::NoKeys | Self::UnknownKid => AuthFailure::UnknownKid,
            Self::Expired | Self::NotYetValid => AuthFailure::Expired,
            Self::Issuer => AuthFailure::Issuer,
            Self::Audience => AuthFailure::Audience,
            Self::EventTypes | Self::Scope => AuthFailure::Scope,
        }
    }
}

impl From<Reason> for Denied {
    fn from(reason: Reason) -> Self {
        let detail = match reason {
            Reason::EventTypes => return Self::MissingEventTypes,
            Reason::Scope => return Self::MissingScope,
            Reason::NotRecognised => "token not recognised",
            Reason::Malformed => "not a well-formed token",
            Reason::Algorithm => "algorithm not accepted",
            Reason::Critical => "crit header not accepted",
            Reason::NoKeys => "signing keys not available",
            // One text, so that nobody can find out which key ids exist.
            Reason::UnknownKid | Reason::Signature => "signature not accepted",
            // From here on the signature was right: only its holder reads these.
            Reason::Claims => "required claim missing or malformed",
            Reason::Expired => "token expired",
            Reason::NotYetValid => "token not yet valid",
            Reason::Issuer => "issuer not accepted",
            Reason::Audience => "audience not accepted",
        };
        Self::InvalidToken { detail }
    }
}

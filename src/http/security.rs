//! Lines about callers that are turned away: what somebody who watches for misuse looks at. A flood
//! is one line a second for each kind, and says how many were held back.

use std::time::Duration;

use super::Error;
use crate::auth::Principal;
use crate::telemetry::log::Every;

const PERIOD: Duration = Duration::from_secs(1);

/// `401`: nobody knows who calls, or it is somebody who may not at all.
pub(super) fn auth_failed(error: Error) -> Error {
    static LIMIT: Every = Every::new(PERIOD);
    if let Some(suppressed) = LIMIT.pass() {
        tracing::warn!(
            target: "codeq::security", category = "security", event = "auth.failed",
            reason = error.code(), suppressed, error.message = %error, "a caller was not let in"
        );
    }
    error
}

/// `403`: the token does not allow this.
pub(super) fn scope_denied(who: &Principal, scope: &'static str) -> Error {
    static LIMIT: Every = Every::new(PERIOD);
    let error = Error::MissingScope(scope);
    if let Some(suppressed) = LIMIT.pass() {
        tracing::warn!(
            target: "codeq::security", category = "security", event = "scope.denied",
            by = who.subject.as_str(), tenant_id = who.tenant.as_ref().map(|it| it.as_str()),
            reason = error.code(), scope, suppressed, "a caller lacks a scope"
        );
    }
    error
}

/// `403`: whose token it is cannot be told.
pub(super) fn tenant_mismatch(who: &Principal) -> Error {
    static LIMIT: Every = Every::new(PERIOD);
    let error = Error::InvalidTenant;
    if let Some(suppressed) = LIMIT.pass() {
        tracing::error!(
            target: "codeq::security", category = "security", event = "tenant.mismatch",
            by = who.subject.as_str(), reason = error.code(), suppressed,
            "the tenant of a token cannot be told"
        );
    }
    error
}

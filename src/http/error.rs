//! The one table from what went wrong to what a client sees. Texts and codes are contract.

use std::borrow::Cow;

use http::StatusCode;

use crate::model::Refusal;
use crate::store;

/// What a handler answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Text that is mostly known at compile time.
pub type Text = Cow<'static, str>;

/// A call that did not succeed.
///
/// `detail` helps whoever wrote the request; it never repeats a secret, nor client text at length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// `400`: not JSON, a wrong type, a missing field, a bad query.
    InvalidBody(Text),
    /// `400`: the same for a submitted result, whose text differs.
    InvalidRequestBody(Text),
    /// `400`: a command that is no name; the rule it broke.
    InvalidCommand(Text),
    /// `400`: a webhook URL that is none; why.
    InvalidWebhookUrl(Text),
    /// `400`: a callback URL that is none; why.
    InvalidCallbackUrl(Text),
    /// `400`: `runAt` is no RFC 3339 time.
    InvalidRunAt,
    /// `400`: `runAt` lies more than the allowed years ahead.
    RunAtTooFar,
    /// `400`: `delaySeconds` below 0.
    InvalidDelay,
    /// `400`: `delaySeconds` reaches further than the allowed years.
    DelayTooLarge,
    /// `400`: `before` is no RFC 3339 time.
    InvalidBefore,
    /// `400`: more items than a batch may hold, which is this many.
    BatchTooLarge(usize),
    /// `400`: more tasks asked for than one claim may take, which is this many.
    CountTooLarge(usize),
    /// `400`: completed, but without a result.
    ResultRequired,
    /// `400`: failed, but without an error.
    ErrorRequired,
    /// `400`: a status other than the two verdicts.
    InvalidStatus,
    /// `400`: an unknown way of notifying subscribers.
    InvalidDeliveryMode,
    /// `400`: a mode that needs a group, without one.
    GroupIdRequired,
    /// `400`: a deletion that was not confirmed.
    DeletionPolicyRequired,

    /// `401`: no `Authorization` header.
    MissingAuthorization,
    /// `401`: an `Authorization` header that is not one `Bearer` token.
    InvalidAuthorization(Text),
    /// `401`: the token is not one of ours; which check failed.
    InvalidToken(Text),
    /// `401`: a worker token that names no event types.
    TokenWithoutEventTypes,
    /// `401`: a worker token that names no scope.
    TokenWithoutScope,
    /// `401`: the call is for administrators.
    AdminOnly,

    /// `403`: the token lacks this scope.
    MissingScope(&'static str),
    /// `403`: the token does not allow this command.
    EventTypeNotAllowed,
    /// `403`: whose token this is cannot be told.
    InvalidTenant,
    /// `403`: another worker holds the task.
    NotOwner,

    /// `404`.
    NotFound(Missing),
    /// `405`; the `Allow` header is the router's.
    MethodNotAllowed,
    /// `408`: the request did not arrive in time; the connection closes.
    RequestTimeout,

    /// `409`: nobody holds the task.
    NotInProgress,
    /// `409`: the token belongs to another lease.
    LeaseLost,
    /// `409`: in progress or terminal.
    NotCancellable,

    /// `413`.
    BodyTooLarge,
    /// `422`: a policy's value out of range.
    InvalidPolicy {
        /// The field's name on the wire.
        field: Text,
        /// What it must be.
        rule: Text,
    },
    /// `429`.
    RateLimited(Limited),

    /// `500`: a defect of ours; what it was stands in the log only.
    Internal,
    /// `503`: the store did not answer, and nothing was done.
    StoreUnavailable,
    /// `503`: the store did not answer, and it may have been done.
    OutcomeUnknown,
}

/// What was not found; the texts differ by call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// `not found`: an unknown path, a task that is read.
    Anything,
    /// `not-found`: the task of heartbeat, nack and abandon; a subscription.
    Held,
    /// `task not found`: the task of a result.
    Task,
    /// `result not found`: the task has none yet.
    Result,
    /// `queue topic "<id>" not found`.
    Topic(String),
}

/// A bucket that is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limited {
    /// `producer`, `worker`, `admin` or `webhook`.
    pub scope: &'static str,
    /// The call that costs, as the contract names it.
    pub operation: &'static str,
    /// Seconds until it may succeed.
    pub retry_after_seconds: u64,
}

/// Seconds after which a client may try again when the store was away: its circuit probes each
/// second.
const STORE_RETRY_SECONDS: u64 = 1;

impl Error {
    /// The table: status, code, text.
    pub(super) fn says(&self) -> (StatusCode, &'static str, Text) {
        use StatusCode as S;
        let fixed = |status, code, text| (status, code, Cow::Borrowed(text));
        match self {
            Self::InvalidBody(_) => fixed(S::BAD_REQUEST, "invalid_body", "invalid body"),
            Self::InvalidRequestBody(_) => {
                fixed(S::BAD_REQUEST, "invalid_body", "invalid request body")
            }
            Self::InvalidCommand(_) => fixed(S::BAD_REQUEST, "invalid_command", "invalid command"),
            Self::InvalidWebhookUrl(_) => {
                fixed(S::BAD_REQUEST, "invalid_url", "invalid webhook url")
            }
            Self::InvalidCallbackUrl(_) => {
                fixed(S::BAD_REQUEST, "invalid_url", "invalid callback url")
            }
            Self::InvalidRunAt => {
                fixed(S::BAD_REQUEST, "invalid_run_at", "invalid 'runAt' (use RFC3339)")
            }
            Self::RunAtTooFar => {
                fixed(S::BAD_REQUEST, "invalid_run_at", "invalid 'runAt' (too far ahead)")
            }
            Self::InvalidDelay => {
                fixed(S::BAD_REQUEST, "invalid_delay", "invalid 'delaySeconds' (must be >= 0)")
            }
            Self::DelayTooLarge => {
                fixed(S::BAD_REQUEST, "invalid_delay", "invalid 'delaySeconds' (too large)")
            }
            Self::InvalidBefore => {
                fixed(S::BAD_REQUEST, "invalid_before", "invalid 'before' (use RFC3339)")
            }
            Self::BatchTooLarge(most) => (
                S::BAD_REQUEST,
                "batch_too_large",
                format!("batch size exceeds maximum of {most}").into(),
            ),
            Self::CountTooLarge(most) => (
                S::BAD_REQUEST,
                "count_too_large",
                format!("count exceeds maximum of {most}").into(),
            ),
            Self::ResultRequired => {
                fixed(S::BAD_REQUEST, "result_required", "result required when status=COMPLETED")
            }
            Self::ErrorRequired => {
                fixed(S::BAD_REQUEST, "error_required", "error required when status=FAILED")
            }
            Self::InvalidStatus => fixed(S::BAD_REQUEST, "invalid_status", "invalid status"),
            Self::InvalidDeliveryMode => {
                fixed(S::BAD_REQUEST, "invalid_delivery_mode", "invalid deliveryMode")
            }
            Self::GroupIdRequired => {
                fixed(S::BAD_REQUEST, "group_id_required", "groupId is required")
            }
            Self::DeletionPolicyRequired => fixed(
                S::BAD_REQUEST,
                "deletion_policy_required",
                "deletionPolicy=Delete is required",
            ),
            Self::MissingAuthorization => {
                fixed(S::UNAUTHORIZED, "unauthorized", "missing Authorization header")
            }
            Self::InvalidAuthorization(_) => {
                fixed(S::UNAUTHORIZED, "unauthorized", "invalid Authorization format")
            }
            Self::InvalidToken(_) => fixed(S::UNAUTHORIZED, "unauthorized", "invalid token"),
            Self::TokenWithoutEventTypes => {
                fixed(S::UNAUTHORIZED, "unauthorized", "missing eventTypes")
            }
            Self::TokenWithoutScope => fixed(S::UNAUTHORIZED, "unauthorized", "missing scope"),
            Self::AdminOnly => fixed(S::UNAUTHORIZED, "unauthorized", "unauthorized. Admin only"),
            Self::MissingScope(_) => fixed(S::FORBIDDEN, "missing_scope", "missing scope"),
            Self::EventTypeNotAllowed => {
                fixed(S::FORBIDDEN, "event_type_not_allowed", "event type not allowed")
            }
            Self::InvalidTenant => fixed(S::FORBIDDEN, "invalid_tenant", "invalid tenant claims"),
            Self::NotOwner => fixed(S::FORBIDDEN, "not_owner", "not-owner"),
            Self::NotFound(Missing::Anything) => fixed(S::NOT_FOUND, "not_found", "not found"),
            Self::NotFound(Missing::Held) => fixed(S::NOT_FOUND, "not_found", "not-found"),
            Self::NotFound(Missing::Task) => fixed(S::NOT_FOUND, "not_found", "task not found"),
            Self::NotFound(Missing::Result) => {
                fixed(S::NOT_FOUND, "result_not_found", "result not found")
            }
            Self::NotFound(Missing::Topic(id)) => {
                (S::NOT_FOUND, "not_found", format!("queue topic \"{id}\" not found").into())
            }
            Self::MethodNotAllowed => {
                fixed(S::METHOD_NOT_ALLOWED, "method_not_allowed", "method not allowed")
            }
            Self::RequestTimeout => fixed(S::REQUEST_TIMEOUT, "request_timeout", "request timeout"),
            Self::NotInProgress => fixed(S::CONFLICT, "not_in_progress", "not-in-progress"),
            Self::LeaseLost => fixed(S::CONFLICT, "lease_lost", "lease-lost"),
            Self::NotCancellable => fixed(S::CONFLICT, "not_cancellable", "not cancellable"),
            Self::BodyTooLarge => fixed(S::PAYLOAD_TOO_LARGE, "body_too_large", "body too large"),
            Self::InvalidPolicy { field, rule } => (
                S::UNPROCESSABLE_ENTITY,
                "invalid_policy",
                format!("invalid {field}: {rule}").into(),
            ),
            Self::RateLimited(_) => {
                fixed(S::TOO_MANY_REQUESTS, "rate_limited", "rate limit exceeded")
            }
            Self::Internal => fixed(S::INTERNAL_SERVER_ERROR, "internal", "internal error"),
            Self::StoreUnavailable => {
                fixed(S::SERVICE_UNAVAILABLE, "store_unavailable", "store unavailable")
            }
            Self::OutcomeUnknown => {
                fixed(S::SERVICE_UNAVAILABLE, "outcome_unknown", "store unavailable")
            }
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.says().0
    }

    /// The stable word for programs.
    pub fn code(&self) -> &'static str {
        self.says().1
    }

    /// Which field or check, and why.
    pub fn detail(&self) -> Option<Text> {
        match self {
            Self::InvalidBody(detail)
            | Self::InvalidRequestBody(detail)
            | Self::InvalidCommand(detail)
            | Self::InvalidWebhookUrl(detail)
            | Self::InvalidCallbackUrl(detail)
            | Self::InvalidAuthorization(detail)
            | Self::InvalidToken(detail) => (!detail.is_empty()).then(|| detail.clone()),
            Self::MissingScope(scope) => Some(Cow::Borrowed(scope)),
            Self::OutcomeUnknown => Some(Cow::Borrowed(
                "it may have been done; repeat with the same idempotency key or lease token",
            )),
            _ => None,
        }
    }

    /// Seconds after which a repetition may succeed.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::RateLimited(limited) => Some(limited.retry_after_seconds),
            Self::StoreUnavailable | Self::OutcomeUnknown => Some(STORE_RETRY_SECONDS),
            _ => None,
        }
    }

    /// The same error, but for a call that names the missing thing differently.
    #[must_use]
    pub fn not_found_as(self, missing: Missing) -> Self {
        match self {
            Self::NotFound(_) => Self::NotFound(missing),
            other => other,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.says().2)?;
        match self.detail() {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // A part that is gone is a task whose time ran out while it was being read.
            Refusal::NotFound | Refusal::PartLost => Self::NotFound(Missing::Anything),
            Refusal::NotInProgress => Self::NotInProgress,
            Refusal::LeaseLost => Self::LeaseLost,
            Refusal::NotOwner => Self::NotOwner,
            Refusal::NotCancellable => Self::NotCancellable,
            // The call knows what there are too many of, and says so.
            Refusal::TooMany => Self::InvalidBody("there are too many already".into()),
            // Written by a newer node during an upgrade: another node can answer.
            Refusal::UnknownVersion => Self::StoreUnavailable,
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Refused(refusal) => refusal.into(),
            store::Error::Unavailable | store::Error::Full { .. } | store::Error::OutOfMemory => {
                Self::StoreUnavailable
            }
            // Nothing is done on a store of another layout; a node of its layout may answer.
            store::Error::WrongLayout { .. } => Self::StoreUnavailable,
            store::Error::OutcomeUnknown => Self::OutcomeUnknown,
            // The store has logged what it was.
            store::Error::Script(_) => Self::Internal,
        }
    }
}

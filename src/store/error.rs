use crate::model::Refusal;
use crate::telemetry::trace::OpenSpan;

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The script looked and said no. Nothing was changed.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Redis is away, loading, or a replica. Nothing was done.
    #[error("the store is unavailable")]
    Unavailable,
    /// The call was sent and no answer came: it may have been done.
    #[error("the store did not answer; whether it acted is unknown")]
    OutcomeUnknown,
    /// Too much was waiting, or the call waited too long. It was not sent.
    #[error("the store is busy: `{operation}` was not sent")]
    Full {
        /// The script's name, or `put`, `get`, `publish`.
        operation: &'static str,
    },
    /// Redis is at `maxmemory`. Nothing was done.
    #[error("the store is out of memory")]
    OutOfMemory,
    /// A script or command failed, or its answer could not be read. For logs, never for clients.
    #[error("{0}")]
    Script(String),
    /// The store was first used with another layout. The sentence names both sides.
    #[error("the store holds {stored}, this node is configured for {configured}")]
    WrongLayout {
        /// What the meta key says.
        stored: String,
        /// What this node expects.
        configured: String,
    },
}

impl Error {
    /// Whether it says no more than that Redis is away or has too much to do, which is said
    /// elsewhere already.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable | Self::Full { .. })
    }

    /// Says so on the span of the call. A refusal is an answer.
    pub(super) fn fails(&self, span: &mut OpenSpan) {
        match self {
            Self::Refused(_) => {}
            Self::Unavailable => span.failed("unavailable"),
            Self::OutcomeUnknown => span.failed("outcome_unknown"),
            Self::Full { .. } => span.failed("queue_full"),
            Self::OutOfMemory => span.failed("oom"),
            Self::Script(_) => span.failed("script"),
            Self::WrongLayout { .. } => span.failed("wrong_layout"),
        }
    }
}

/// Why a script refused an item: the words of its `FAILS` line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such task for this tenant.
    #[error("not found")]
    NotFound,
    /// Nobody holds the task.
    #[error("not in progress")]
    NotInProgress,
    /// The token belongs to another lease.
    #[error("lease lost")]
    LeaseLost,
    /// Another worker holds the task.
    #[error("not owner")]
    NotOwner,
    /// The task is in progress or terminal.
    #[error("not cancellable")]
    NotCancellable,
    /// A record beside the script (a large payload or result) was not there any more.
    #[error("a stored part is gone")]
    PartLost,
    /// The tenant has as many of these as it may have.
    #[error("too many")]
    TooMany,
    /// A record was written by a newer version; it is left as it is.
    #[error("record of an unknown version")]
    UnknownVersion,
}

impl Refusal {
    /// Every word, as scripts say it.
    pub const WORDS: &'static [(&'static str, Refusal)] = &[
        ("NOT_FOUND", Self::NotFound),
        ("NOT_IN_PROGRESS", Self::NotInProgress),
        ("LEASE_LOST", Self::LeaseLost),
        ("NOT_OWNER", Self::NotOwner),
        ("NOT_CANCELLABLE", Self::NotCancellable),
        ("PART_LOST", Self::PartLost),
        ("TOO_MANY", Self::TooMany),
        ("UNKNOWN_VERSION", Self::UnknownVersion),
    ];

    /// Reads a script's word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, refusal)| *refusal)
    }
}

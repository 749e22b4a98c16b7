//! Values: what a word of the domain may hold, and how it is packed. No I/O, nothing async.

mod command;
pub mod delivery;
mod lease;
mod partition;
mod priority;
pub mod record;
mod refusal;
mod task;
mod task_id;
mod tenant;
mod time;

pub use command::{Command, QueueName};
pub use delivery::DeliveryId;
pub use lease::LeaseToken;
pub use partition::{Partition, Partitions};
pub use priority::Priority;
pub use refusal::Refusal;
pub use task::{Location, ResultRecord, Status, Task};
pub use task_id::TaskId;
pub use tenant::TenantId;
pub use time::Time;

use base64::alphabet::Alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

/// Base64 without padding over an alphabet in ASCII order, so that packed text sorts as its bytes
/// do, and holds nothing that means something inside a Redis key.
pub(crate) const SORTED_BASE64: GeneralPurpose = GeneralPurpose::new(
    &match Alphabet::new("-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz") {
        Ok(alphabet) => alphabet,
        Err(_) => panic!("64 different printable characters are an alphabet"),
    },
    NO_PAD,
);

/// The first `N` bytes of the SHA-256 of `parts`, each ended by a NUL.
///
/// Text from outside becomes part of a Redis key only through this, so it cannot leave its slot,
/// forge a key or be made to collide.
pub(crate) fn digest<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    let mut out = [0; N];
    out.copy_from_slice(&hash.finalize()[..N]);
    out
}

/// [`digest`] as key text: 9 bytes are 12 characters, 12 are 16.
pub(crate) fn digest_text<const N: usize>(parts: &[&[u8]]) -> String {
    use base64::Engine as _;
    SORTED_BASE64.encode(digest::<N>(parts))
}

//! What happens to the record of a destination, and to what waits for it.

use bytes::Bytes;

use crate::app::Destination;
use crate::script;

script! {
    /// May something be sent there?
    pub struct Look<'a> = "destination_look", write, repeatable {
        once { grant_ms: u64 }
        each { destination: &'a str, tenant: &'a str, tag: &'a str, origin: &'a str }
    } -> Looked { now_ms: i64, probe: bool, record: Destination }
}

script! {
    /// An attempt failed.
    pub struct Failed<'a> = "destination_failed", write, once_only {
        once { disable_ms: u64 }
        each {
            destination: &'a str, class: &'a str, probe: bool, quiet_ms: u64, to: &'a str,
            open: &'a str, says_open: Bytes, off: &'a str, says_off: Bytes,
        }
    } -> Blamed { now_ms: i64, changed: String, record: Destination }
}

script! {
    /// A receiver answered.
    pub struct Succeeded<'a> = "destination_succeeded", write, repeatable {
        once {}
        each { destination: &'a str, to: &'a str, event: &'a str, says: Bytes }
    } -> Cleared { now_ms: i64, recovered: bool, record: Destination }
}

script! {
    /// A probe was not sent.
    pub struct Unprobed<'a> = "destination_unprobed", write, repeatable {
        once {}
        each { destination: &'a str, granted_ms: i64 }
    } -> Given { now_ms: i64, record: Destination }
}

script! {
    /// Takes turns at a destination with a rate.
    pub struct Pace<'a> = "destination_pace", write, once_only {
        once {}
        each { destination: &'a str, wanted: u32 }
    } -> Turns { delays_ms: Vec<u64>, wait_ms: u64 }
}

script! {
    /// Pauses or resumes.
    pub struct Pause<'a> = "destination_pause", write, repeatable {
        once {}
        each { destination: &'a str, tag: &'a str, paused: bool }
    } -> Steered { now_ms: i64, before: String, record: Destination }
}

script! {
    /// Sets limits.
    pub struct Limit<'a> = "destination_limit", write, repeatable {
        once {}
        each { destination: &'a str, tag: &'a str, per_second: Option<f64>, concurrency: Option<u32> }
    } -> Limited { now_ms: i64, before: (Option<f64>, Option<u32>), record: Destination }
}

script! {
    /// Some of them.
    pub struct Destinations<'a> = "destinations", read, repeatable {
        once {}
        each { tag: &'a str, state: &'a str, after: &'a str, most: u64 }
    } -> Found { records: Vec<Destination>, more: bool }
}

script! {
    /// What waits for some of them in one partition.
    pub struct Load<'a> = "destination_load", read, repeatable {
        once {}
        each { destinations: &'a str }
    } -> Loads { pending: Vec<u64>, dead: Vec<u64> }
}

script! {
    /// Looks at a destination again.
    pub struct Unpark<'a> = "outbox_unpark", write, repeatable {
        once {}
        each { destination: &'a str }
    } -> Unparked { parked: bool }
}

script! {
    /// How much is in the outbox of a partition.
    pub struct Depths = "outbox_depths", read, repeatable {
        once {}
        each { most: u64 }
    } -> #[derive(Default)] Depth { pending: u64, parked: u64, dead: u64, oldest_ms: u64, states: Vec<u64> }
}

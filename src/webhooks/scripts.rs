//! The steps of a delivery.

use bytes::Bytes;

use crate::{gives, script};

gives! {
    /// A delivery that this node may send until its lease ends.
    pub struct Claimed {
        delivery: String, destination: String, lease_ms: i64, record: Bytes, head: Bytes,
        terminal: Bytes,
    }
}

script! {
    /// Takes deliveries that are due.
    pub struct Claim<'a> = "outbox_claim", write, once_only {
        once { lease_ms: u64 }
        each { most: u64, room: &'a str, parked: &'a str, aged_ms: u64 }
    } -> Turn { now_ms: i64, claimed: Vec<Claimed>, busy: Vec<String>, more: bool }
}

script! {
    /// The receiver accepted it.
    pub struct Delivered<'a> = "outbox_delivered", write, repeatable {
        once {}
        each {
            delivery: &'a str, tenant: &'a str, destination: &'a str, record: Bytes,
            stays_ms: u64, task_ms: u64, idempotency: &'a str, part: &'a str,
        }
    } -> Settled { done: bool }
}

script! {
    /// It is due again later.
    pub struct Later<'a> = "outbox_later", write, repeatable {
        once {}
        each {
            delivery: &'a str, lease_ms: i64, delay_ms: u64, outcome: u8, entry: Bytes, flags: u8,
            park_ms: u64,
        }
    } -> Postponed { done: bool }
}

script! {
    /// It is given up.
    pub struct Dead<'a> = "outbox_dead", write, repeatable {
        once {}
        each {
            delivery: &'a str, lease_ms: i64, reason: u8, attempted: bool, entry: Bytes,
            head: Bytes, body: Bytes, event: &'a str, to: &'a str, says: Bytes,
        }
    } -> GivenUp { done: bool }
}

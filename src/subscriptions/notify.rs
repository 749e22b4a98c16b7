//! A queue became ready: whoever subscribed to it is told.

use crate::model::QueueName;
use crate::{gives, script};

script! {
    /// Whether anybody may want to be told.
    pub struct IsSubscribed<'a> = "subscribed", read, repeatable {
        once {}
        each { tenant: &'a str, queue: &'a str }
    } -> Interest { any: bool }
}

script! {
    /// What there is to tell of a queue on one partition.
    pub struct QueueReady<'a> = "queue_ready", read, repeatable {
        once {}
        each { queue: &'a QueueName }
    } -> Depth { command: String, ready: u64 }
}

gives! {
    /// A subscription that is told.
    pub struct Told { id: String, url: String, tenant: String }
}

script! {
    /// Draws those who are told.
    pub struct Pick<'a> = "subscription_pick", write, once_only {
        once {}
        each { queue: &'a QueueName, mode: &'static str, at_ms: i64, limit: usize }
    } -> Picked { told: Vec<Told>, at_ms: i64, more: bool }
}

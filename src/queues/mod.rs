//! Calls on queues, for administrators.

pub mod cleanup;
pub mod dlq;
pub mod list;
pub mod pause;
pub mod stats;

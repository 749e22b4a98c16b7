//! Calls on topics: the stored policies of queues.

pub mod policy;

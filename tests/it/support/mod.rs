//! What tests stand on: a Redis of their own, the real binary as a process, and callers of its API.
//! Everything ends with its value, also when a test panics.
#![allow(
    dead_code,
    unused_imports,
    reason = "one module for every folder of tests; each uses its part of it"
)]

pub mod callers;
pub mod client;
pub mod collector;
pub mod fleet;
pub mod history;
pub mod idp;
pub mod metrics;
pub mod nemesis;
pub mod node;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod receiver;
pub mod redis;
pub mod s3;
pub mod schema;
pub mod seen;
pub mod webhooks;

pub use client::{Answer, Call, Client};
pub use collector::{Collector, Span};
pub use fleet::{Callers, Fleet};
pub use history::{Did, History};
pub use idp::Idp;
pub use metrics::Scrape;
pub use nemesis::Nemesis;
pub use node::{Node, Settings};
pub use proxy::Proxy;
pub use raw::Raw;
pub use receiver::{Keys, Receiver, Reply};
pub use redis::Redis;
pub use s3::{Door, Doorway, S3};
pub use seen::seen;

use std::time::Duration;

/// Waits for a fact: looks until `look` finds it. Panics with `what` after ten seconds.
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let patience = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(10), patience).await {
        Ok(found) => found,
        Err(_) => panic!("not within ten seconds: {what}"),
    }
}

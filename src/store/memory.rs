//! How full Redis is.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use smallvec::smallvec;

use super::check::Info;
use super::lane::Lane;
use super::{Inner, Store};
use crate::telemetry::metrics::StoreMemory;

/// How often each node looks.
const EVERY: Duration = Duration::from_secs(1);

/// Looks until the store is dropped. While Redis does not answer the last look holds.
pub(super) async fn watch(store: Weak<Inner>, soft_ratio: f64) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(inner) = store.upgrade() else { return };
        let store = Store(inner);
        if let Some(memory) = fullest(&store).await {
            store.0.nearly_full.store(memory.share() > soft_ratio, Ordering::Relaxed);
            let shown = &store.0.metrics.store_memory;
            shown.set(StoreMemory::Used, Some(memory.used));
            shown.set(StoreMemory::Max, (memory.most > 0.0).then_some(memory.most));
        }
    }
}

/// What Redis says of its memory, in bytes.
#[derive(Clone, Copy)]
struct Memory {
    used: f64,
    /// 0 without a limit.
    most: f64,
}

impl Memory {
    fn share(self) -> f64 {
        if self.most > 0.0 { self.used / self.most } else { 0.0 }
    }
}

/// Of the primary that has the least left, without limits of the one that uses most.
async fn fullest(store: &Store) -> Option<Memory> {
    let mut fullest: Option<Memory> = None;
    for primary in &store.0.primaries {
        let Some(memory) = memory_of(store, &primary.read).await else { continue };
        let key = |memory: Memory| (memory.share(), memory.used);
        if fullest.is_none_or(|known| key(memory) > key(known)) {
            fullest = Some(memory);
        }
    }
    fullest
}

async fn memory_of(store: &Store, lane: &Lane) -> Option<Memory> {
    let args = smallvec![Bytes::from_static(b"INFO"), Bytes::from_static(b"memory")];
    let text = match store.command(lane, "memory", args).await.ok()? {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok()?,
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
        _ => return None,
    };
    let info = Info::new(text);
    Some(Memory { used: info.number("used_memory")?, most: info.number("maxmemory")? })
}

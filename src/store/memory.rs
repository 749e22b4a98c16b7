//! How full Redis is.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use smallvec::smallvec;

use super::check::Info;
use super::{Inner, Store};

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
        if let Some(share) = used_share(&store).await {
            store.0.nearly_full.store(share > soft_ratio, Ordering::Relaxed);
        }
    }
}

/// Used memory over `maxmemory`; 0 without a limit.
async fn used_share(store: &Store) -> Option<f64> {
    let args = smallvec![Bytes::from_static(b"INFO"), Bytes::from_static(b"memory")];
    let lane = &store.0.primaries.first()?.read;
    let text = match store.command(lane, "memory", args).await.ok()? {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok()?,
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
        _ => return None,
    };
    let info = Info::new(text);
    let (used, most) = (info.number("used_memory")?, info.number("maxmemory")?);
    Some(if most > 0.0 { used / most } else { 0.0 })
}

//! The deliveries that one claim brought for one destination, from the look at the destination to
//! the last outcome.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::app::App;
use crate::model::delivery::Trigger;

use super::deliver::deliver;
use super::errand::Errand;
use super::outbox::Slot;
use super::scripts::Claimed;
use super::{events, settle};

/// Sends each.
pub(super) async fn carry(app: &App, claimed: Vec<(Claimed, Slot)>, now_ms: i64, at: Instant) {
    join_all(claimed.into_iter().map(|(claimed, slot)| async move {
        if let Some(errand) = read(app, claimed, now_ms, at).await {
            let trigger = match errand.record.replay {
                true => Trigger::Replay,
                false => Trigger::Schedule,
            };
            if let Err(error) = deliver(app, &errand, trigger).await {
                events::unsettled(&errand, &error);
            }
        }
        drop(slot);
    }))
    .await;
}

/// Gives deliveries back that there is no room for.
pub(super) async fn give_back(app: &App, claimed: Vec<(Claimed, Slot)>, now_ms: i64, at: Instant) {
    join_all(claimed.into_iter().map(|(claimed, slot)| async move {
        if let Some(errand) = read(app, claimed, now_ms, at).await {
            // Not at once: another claim would find it before room is free.
            let _ = settle::release(app, &errand, Duration::from_millis(50), None).await;
        }
        drop(slot);
    }))
    .await;
}

async fn read(app: &App, claimed: Claimed, now_ms: i64, at: Instant) -> Option<Errand> {
    let name = claimed.delivery.clone();
    match Errand::read(app, claimed, now_ms, at).await {
        Ok(Ok(errand)) => Some(errand),
        Ok(Err(unreadable)) => {
            events::unreadable(&name, unreadable);
            None
        }
        // Its lease runs out, and a node tries again.
        Err(_) => None,
    }
}

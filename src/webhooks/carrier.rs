//! The deliveries that one claim brought for one destination, from the look at the destination to
//! the last outcome.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::app::App;
use crate::model::delivery::{Class, Trigger};

use super::deliver::{Made, deliver};
use super::destinations::{Destinations, Verdict};
use super::errand::Errand;
use super::outbox::Slot;
use super::scripts::Claimed;
use super::{events, settle};

/// How long the others stay away while one tries out whether the destination is back.
const WHILE_PROBED: Duration = Duration::from_secs(2);
/// How long a delivery stays away that there was no room for.
const NO_ROOM: Duration = Duration::from_millis(50);

/// Sends each, as far as the destination may be sent to.
pub(super) async fn carry(app: &App, claimed: Vec<(Claimed, Slot)>, now_ms: i64, at: Instant) {
    let (over, carried): (Vec<_>, Vec<_>) = read(app, claimed, now_ms, at)
        .await
        .into_iter()
        .partition(|(errand, _)| errand.is_over(app));
    // What is over is given up wherever it was to go.
    tokio::join!(send_all(app, over), visit(app, carried));
}

/// Gives deliveries back that there is no room for.
pub(super) async fn give_back(app: &App, claimed: Vec<(Claimed, Slot)>, now_ms: i64, at: Instant) {
    // Not for at once: another claim would find them before room is free.
    release(app, read(app, claimed, now_ms, at).await, NO_ROOM, None).await;
}

type Held = (Errand, Slot);

/// Asks whether the destination may be sent to, and acts upon it.
async fn visit(app: &App, mut held: Vec<Held>) {
    let Some((first, _)) = held.first() else { return };
    let Ok(target) = first.target(app) else {
        // Each says for itself what is wrong with it.
        send_all(app, held).await;
        return;
    };
    let destinations = Destinations::of(app);
    let id = first.destination.clone();
    // A store that is away: the leases run out, and a node tries again.
    let Ok(verdict) = destinations.verdict(&id, first.tenant(), &target.origin()).await else {
        return;
    };
    match verdict {
        Verdict::Wait { until_ms } => {
            let wait = u64::try_from(until_ms - first.now_ms()).unwrap_or(0).max(1);
            for (_, slot) in &mut held {
                slot.park();
            }
            release(app, held, Duration::ZERO, Some(Duration::from_millis(wait))).await;
        }
        Verdict::Probe { granted_ms } => {
            let rest = held.split_off(1);
            let first = held.pop().expect("there is a first");
            tokio::join!(
                probe(app, first, granted_ms),
                release(app, rest, Duration::ZERO, Some(WHILE_PROBED)),
            );
        }
        Verdict::Send { max_per_second: None, .. } => send_all(app, held).await,
        Verdict::Send { max_per_second: Some(_), .. } => {
            let wanted = u32::try_from(held.len()).expect("one turn is short");
            let Ok(paced) = destinations.pace(&id, wanted).await else { return };
            let rest = held.split_off(paced.delays.len().min(held.len()));
            let turns = held.into_iter().zip(paced.delays);
            tokio::join!(
                join_all(turns.map(|(held, delay)| send(app, held, delay))),
                release(app, rest, Duration::ZERO, paced.wait),
            );
        }
    }
}

/// Sends each at once.
async fn send_all(app: &App, held: Vec<Held>) {
    join_all(held.into_iter().map(|held| send(app, held, Duration::ZERO))).await;
}

/// Sends one, and tells what the destination showed of itself.
async fn send(app: &App, held: Held, delay: Duration) {
    let (errand, slot) = held;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let trigger = if errand.record.replay { Trigger::Replay } else { Trigger::Schedule };
    if let Some(made) = attempt(app, &errand, trigger, slot).await {
        tell(app, &errand, &made, false).await;
    }
}

/// Sends the one that tries out whether the destination is back.
async fn probe(app: &App, (errand, slot): Held, granted_ms: i64) {
    match attempt(app, &errand, Trigger::Probe, slot).await {
        Some(made) => tell(app, &errand, &made, true).await,
        // It was not sent: the next one may try.
        None => Destinations::of(app).unprobed(&errand.destination, granted_ms).await,
    }
}

async fn attempt(app: &App, errand: &Errand, trigger: Trigger, slot: Slot) -> Option<Made> {
    deliver(app, errand, trigger, slot).await.unwrap_or_else(|error| {
        events::unsettled(errand, &error);
        None
    })
}

async fn tell(app: &App, errand: &Errand, made: &Made, probe: bool) {
    let destinations = Destinations::of(app);
    match made.entry.class {
        Class::Success => destinations.succeeded(&errand.destination, probe).await,
        class => {
            let asked = made.answer.retry_after;
            destinations.failed(&errand.destination, class, probe, asked).await;
        }
    }
}

async fn release(app: &App, held: Vec<Held>, wait: Duration, park: Option<Duration>) {
    join_all(held.into_iter().map(|(errand, slot)| async move {
        // If it cannot be written, the lease runs out.
        let _ = settle::release(app, &errand, wait, park).await;
        drop(slot);
    }))
    .await;
}

async fn read(app: &App, claimed: Vec<(Claimed, Slot)>, now_ms: i64, at: Instant) -> Vec<Held> {
    let read = join_all(claimed.into_iter().map(|(claimed, slot)| async move {
        let name = claimed.delivery.clone();
        match Errand::read(app, claimed, now_ms, at).await {
            Ok(Ok(errand)) => Some((errand, slot)),
            Ok(Err(unreadable)) => {
                events::unreadable(&name, unreadable);
                None
            }
            // Its lease runs out, and a node tries again.
            Err(_) => None,
        }
    }));
    read.await.into_iter().flatten().collect()
}

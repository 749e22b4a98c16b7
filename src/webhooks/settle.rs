//! What comes of an attempt, decided and written down.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::app::App;
use crate::model::delivery::{Class, Delivery, Kind, Reason};
use crate::model::record::End;
use crate::store;

use super::deliver::Made;
use super::errand::Errand;
use super::scripts::{Dead, Delivered, Later};
use super::{events, ops, schedule};

/// How long a task stays, at least, that was told long after its end: its receiver may want to read
/// it. One that stays for less anyway stays that long.
const GRACE_MS: u64 = 3_600_000;
/// The wait after a fault of the egress proxy, which counts as no attempt.
const AFTER_PROXY: Duration = Duration::from_secs(10);
/// Waits between tries to write an outcome down while the store is away.
const STORE_AWAY: Duration = Duration::from_millis(250);

/// What comes of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The receiver has it.
    Delivered,
    /// Once more, after a wait.
    Later {
        /// From now.
        wait: Duration,
        /// Whether it counts as an attempt.
        counts: bool,
        /// How long the receiver wants to be left alone.
        park: Option<Duration>,
    },
    /// Never again.
    Dead(Reason),
}

impl Verdict {
    /// Decides.
    pub fn of(app: &App, errand: &Errand, made: &Made) -> Self {
        let settings = &app.settings.webhook;
        let (class, answer) = (made.entry.class, &made.answer);
        if class == Class::Success {
            return Self::Delivered;
        }
        if answer.status == Some(410) {
            return Self::Dead(Reason::Gone);
        }
        if answer.abort {
            return Self::Dead(Reason::Aborted);
        }
        if answer.outcome == (crate::egress::Outcome::Blocked { literal: true }) {
            return Self::Dead(Reason::Blocked);
        }
        // A delivery never waits past its age: it is found then, and given up.
        let left_ms = settings.max_age.as_millis() as i64 - errand.age_ms();
        let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
        if class == Class::Proxy {
            return Self::Later { wait: AFTER_PROXY.min(left), counts: false, park: None };
        }
        let tried = errand.attempt().saturating_sub(errand.record.base);
        let Some(wait) = schedule::wait(settings, tried, rand::random()) else {
            return Self::Dead(Reason::Exhausted);
        };
        let least = match (class, answer.retry_after) {
            (_, Some(asked)) => asked,
            (Class::Http429, None) => schedule::AFTER_429,
            _ => Duration::ZERO,
        };
        let wait = wait.max(least).min(left);
        Self::Later { wait, counts: true, park: answer.retry_after }
    }
}

/// Writes down what came of an attempt, and tells of it.
///
/// # Errors
/// When the store does not answer while the lease lasts.
pub async fn settle(
    app: &App,
    errand: &Errand,
    made: &Made,
    verdict: Verdict,
) -> Result<(), store::Error> {
    let done = match verdict {
        Verdict::Delivered => delivered(app, errand, made).await?,
        Verdict::Later { wait, counts, park } => {
            let entry = made.entry.pack().into();
            let record = Delivery { omitted: Some(made.body.1), ..errand.record.clone() };
            let outcome = if counts { 2 } else { 1 };
            later(app, errand, wait, outcome, entry, record.flags(), park).await?
        }
        Verdict::Dead(reason) => {
            return give_up(app, errand, reason, Some(made), made.body.0.clone()).await;
        }
    };
    // Otherwise another node has it, or the task came back: that is told there.
    if done {
        events::settled(app, errand, made, verdict);
    }
    Ok(())
}

async fn delivered(app: &App, errand: &Errand, made: &Made) -> Result<bool, store::Error> {
    let record = Bytes::from(errand.record.delivered(made.entry.clone(), errand.now_ms()));
    let mut stays_ms = app.rules().lost_ms;
    let (mut task_ms, mut idempotency) = (0, "");
    if let (Some(task), Kind::End(end)) = (&errand.task, errand.record.kind) {
        let tasks = &app.settings.tasks;
        let seconds = match end {
            End::Dead => tasks.dlq_retention_seconds,
            _ => task.body.retention_seconds,
        };
        let keep_ms = u64::from(seconds) * 1000;
        let since_ms = u64::try_from(errand.now_ms() - errand.completed().ms()).unwrap_or(0);
        stays_ms = keep_ms.saturating_sub(since_ms).max(keep_ms.min(GRACE_MS));
        // It was held longer only if it would have gone before.
        if keep_ms < app.hold_ms() {
            task_ms = stays_ms;
            idempotency = task.body.idempotency.as_deref().unwrap_or_default();
        }
    }
    let part = errand.part().unwrap_or_default();
    let write = || Delivered {
        delivery: &errand.name,
        tenant: &errand.record.tenant_tag,
        destination: &errand.destination,
        record: record.clone(),
        stays_ms,
        task_ms,
        idempotency,
        part: &part,
    };
    insist(app, errand, write).await.map(|settled| settled.done)
}

async fn later(
    app: &App,
    errand: &Errand,
    wait: Duration,
    outcome: u8,
    entry: Bytes,
    flags: u8,
    park: Option<Duration>,
) -> Result<bool, store::Error> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let write = || Later {
        delivery: &errand.name,
        lease_ms: errand.lease_ms,
        delay_ms: ms(wait),
        outcome,
        entry: entry.clone(),
        flags,
        park_ms: park.map_or(0, ms),
    };
    insist(app, errand, write).await.map(|settled| settled.done)
}

/// Gives a delivery back that was not sent, perhaps with its whole destination for a while.
///
/// # Errors
/// As [`settle`].
pub async fn release(
    app: &App,
    errand: &Errand,
    wait: Duration,
    park: Option<Duration>,
) -> Result<(), store::Error> {
    later(app, errand, wait, 0, Bytes::new(), errand.record.flags(), park).await.map(drop)
}

/// Gives a delivery up. `body` is kept with it if it is not too large.
///
/// # Errors
/// As [`settle`].
pub async fn give_up(
    app: &App,
    errand: &Errand,
    reason: Reason,
    made: Option<&Made>,
    body: Bytes,
) -> Result<(), store::Error> {
    let entry: Bytes = made.map(|made| made.entry.pack().into()).unwrap_or_default();
    let head = errand.task.as_ref().map(|task| task.head.clone()).unwrap_or_default();
    let fits = body.len() <= app.settings.webhook.dead_body_bytes;
    let body = if fits { body } else { Bytes::new() };
    let told = delivery_dead(app, errand, reason).unwrap_or_default();
    let write = || Dead {
        delivery: &errand.name,
        lease_ms: errand.lease_ms,
        reason: reason as u8,
        attempted: made.is_some(),
        entry: entry.clone(),
        head: head.clone(),
        body: body.clone(),
        event: &told.delivery,
        to: &told.destination,
        says: told.record.clone(),
    };
    if insist(app, errand, write).await?.done {
        events::given_up(app, errand, reason, made);
        if !told.delivery.is_empty() {
            app.outbox.nudge(errand.id.partition(), false);
        }
    }
    Ok(())
}

/// What the operator is told of a delivery that is given up.
fn delivery_dead(app: &App, errand: &Errand, reason: Reason) -> Option<ops::Event> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields<'a> {
        webhook_id: String,
        reason: &'static str,
        tenant_id: Option<&'a str>,
        command: Option<&'a str>,
        destination: &'a str,
    }
    let task = errand.task.as_ref().map(|task| &task.body);
    let fields = Fields {
        webhook_id: errand.id.to_string(),
        reason: reason.as_str(),
        tenant_id: task.map(|body| body.tenant.as_str()),
        command: task.map(|body| body.command.as_str()),
        destination: &errand.destination,
    };
    ops::event(app, errand.id.partition(), "delivery.dead", &errand.destination, &fields)
}

/// Writes an outcome down; while the store is away again and again, as long as the lease lasts: what
/// is not written down is sent again.
async fn insist<S: store::Script>(
    app: &App,
    errand: &Errand,
    write: impl Fn() -> S,
) -> Result<S::Reply, store::Error> {
    loop {
        match app.store.run(errand.id.partition(), write()).await {
            Err(store::Error::Script(wrong)) => return Err(store::Error::Script(wrong)),
            Err(refused @ store::Error::Refused(_)) => return Err(refused),
            Err(away) if errand.now_ms() >= errand.lease_ms => return Err(away),
            Err(_) => tokio::time::sleep(STORE_AWAY).await,
            Ok(done) => return Ok(done),
        }
    }
}

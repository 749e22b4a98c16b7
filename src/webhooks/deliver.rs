//! One attempt of a delivery: from what the outbox holds to what the receiver says.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::app::{App, NotTaken, Scope};
use crate::egress::Target;
use crate::model::Time;
use crate::model::delivery::{Entry, Reason, Trigger};
use crate::store;
use crate::telemetry::trace::{Call, CallSpan};

use super::errand::{Errand, Unsendable};
use super::events;
use super::outbox::Slot;
use super::settle::{self, Verdict};

/// An attempt that was made.
pub struct Made {
    /// For the log of the delivery.
    pub entry: Entry,
    /// What the receiver said, or why it said nothing.
    pub answer: crate::egress::Attempt,
    /// The trace context that went along.
    pub traceparent: Option<String>,
    /// Where it went.
    pub host: String,
    /// The body that was sent, and whether the result is left out of it.
    pub body: (Bytes, bool),
}

/// Sends a delivery once and writes down what came of it, or gives it up unsent. Returns what the
/// destination showed of itself, if anything.
///
/// # Errors
/// When the store does not answer; then the lease runs out and a node tries again.
pub async fn deliver(
    app: &App,
    errand: &Errand,
    trigger: Trigger,
    slot: Slot,
) -> Result<Option<Made>, store::Error> {
    if errand.is_poison() {
        // Not even its body is made: that may be what brings nodes down.
        settle::give_up(app, errand, Reason::Poison, None, Bytes::new()).await?;
        return Ok(None);
    }
    let target = errand.target(app);
    let body = errand.body(app).await?;
    let (target, body) = match (target, body) {
        (Ok(target), Ok(body)) => (target, body),
        (Err(Unsendable::BadUrl), body) => {
            let body = body.map(|(body, _)| body).unwrap_or_default();
            settle::give_up(app, errand, Reason::Blocked, None, body).await?;
            return Ok(None);
        }
        // What there was to say has gone with the task, long after its time.
        _ => {
            settle::give_up(app, errand, Reason::Expired, None, Bytes::new()).await?;
            return Ok(None);
        }
    };
    if errand.is_too_old(app) {
        settle::give_up(app, errand, Reason::Expired, None, body.0).await?;
        return Ok(None);
    }
    let Some(slot) = slot.sit_down().await else {
        settle::release(app, errand, Duration::ZERO, None).await?;
        return Ok(None);
    };
    if let Some(wait) = limited(app, errand).await? {
        settle::release(app, errand, wait, Some(wait)).await?;
        return Ok(None);
    }
    let made = attempt(app, errand, trigger, &target, body).await;
    // There is room for the next one while this one's outcome is written.
    slot.took(made.answer.duration);
    settle::settle(app, errand, &made, Verdict::of(app, errand, &made)).await?;
    Ok(Some(made))
}

/// How long the tenant's deliveries have to wait for the operator's limit: it delays, and never drops.
async fn limited(app: &App, errand: &Errand) -> Result<Option<Duration>, store::Error> {
    let Some(tenant) = errand.tenant() else { return Ok(None) };
    match app.take_for_webhook(Scope::TaskResult, tenant).await {
        Ok(()) => Ok(None),
        Err(NotTaken::Empty { retry_after_seconds, .. }) => {
            Ok(Some(Duration::from_secs(retry_after_seconds)))
        }
        Err(NotTaken::Store(error)) => Err(error),
    }
}

async fn attempt(
    app: &App,
    errand: &Errand,
    trigger: Trigger,
    target: &Target,
    body: (Bytes, bool),
) -> Made {
    let at = errand.now_ms();
    let (stored, state) = errand.context();
    let asked = errand.record.asked.as_deref();
    let mut span = CallSpan::open(Call::TaskResult, stored, state, asked);
    let mut headers = HeaderMap::with_capacity(12);
    let tenant = errand.tenant().map(|tenant| tenant.as_str());
    let id = errand.id.to_string();
    let seconds = at.div_euclid(1000);
    app.egress.signer().headers(tenant, &id, seconds, errand.attempt(), &body.0, &mut headers);
    let baggage = errand.task.as_ref().and_then(|task| task.body.baggage.as_deref());
    span.inject(baggage, &mut headers);

    let in_flight = events::begun(app, errand, target, span.traceparent());
    let answer = app.egress.post(target, headers, body.0.clone()).await;
    drop(in_flight);

    let entry = Entry {
        at: Time::from_ms(at),
        trigger,
        duration_ms: u32::try_from(answer.duration.as_millis()).unwrap_or(u32::MAX),
        status: answer.status,
        class: answer.outcome.class(),
        trace_id: span.traceparent().and_then(trace_id),
        excerpt: answer.excerpt.clone().unwrap_or_default(),
    };
    events::attempted(app, errand, &mut span, target, &entry);
    Made {
        entry,
        answer,
        traceparent: span.traceparent().map(str::to_owned),
        host: target.host().to_owned(),
        body,
    }
}

/// The trace of a `traceparent`.
fn trace_id(traceparent: &str) -> Option<[u8; 16]> {
    let digits = traceparent.get(3..35)?;
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

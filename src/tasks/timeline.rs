//! `GET /tasks/{id}/timeline`: what happened to a task, oldest first.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::{self, Missing, Reader, TaskPath, params, responses};
use crate::model::record::{Cause, End, Past};
use crate::model::{Location, TaskId, TenantId, Time};
use crate::script;

use super::state::{self, Found, Placed, State as At};

/// The story of a task.
#[derive(Serialize, ToSchema)]
pub struct Timeline {
    /// Creation, the last 32 attempts that did not end by a submit, the current or last claim, the end.
    events: Vec<Event>,
}

/// One step of it; absent fields are omitted.
#[derive(Serialize, ToSchema, Default)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    #[schema(value_type = String, format = "date-time")]
    at: Time,
    /// Where the task was.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Location>,
    /// Where it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Location>,
    /// Which delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u16>,
    /// A subject, `sweeper` or `admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// How long an attempt took.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<i64>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The span of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_parent: Option<String>,
}

script! {
    /// A task and its past attempts.
    pub struct ReadTimeline<'a> = "timeline", read, repeatable {
        once {}
        each { id: &'a TaskId, tenant: &'a TenantId }
    } -> Told {
        place: String, body: Bytes, size: usize, record: Bytes, attempted: Bytes, at_ms: i64,
        past: Vec<Bytes>,
    }
}

/// The story of a task.
#[utoipa::path(get, path = "/tasks/{id}/timeline", tag = "read", params(params::Id),
    responses((status = 200, body = Timeline), responses::Authenticated, responses::NotFound), security(("bearer" = [])))]
pub async fn timeline(
    State(app): State<App>,
    reader: Reader,
    path: TaskPath,
) -> http::Result<Json<Timeline>> {
    let id = path.id(Missing::Anything)?;
    let told =
        app.store.run(id.partition(), ReadTimeline { id: &id, tenant: &reader.tenant }).await?;
    let Told { place, body, size, record, attempted, at_ms, past } = told;
    let mut entries = past
        .iter()
        .map(|entry| Past::read(entry).map_err(state::unreadable))
        .collect::<http::Result<Vec<_>>>()?;
    entries.reverse();
    let placed = Placed { place, body, size, record, attempted, at_ms };
    let found = Found::of(&app, id, placed).await?;
    Ok(Json(Timeline { events: tell(&found, entries) }))
}

fn tell(found: &Found, past: Vec<Past>) -> Vec<Event> {
    let body = &found.body;
    let mut events = vec![Event {
        at: body.created,
        to: Some(if body.due > body.created { Location::Delayed } else { Location::Ready }),
        trace_parent: body.trace_parent.clone(),
        ..Event::default()
    }];
    for entry in past {
        tell_attempt(&mut events, entry);
    }
    match &found.state {
        At::Leased(_, lease) => {
            events.push(claimed(
                lease.claimed,
                lease.attempt,
                &lease.worker,
                lease.trace_parent.clone(),
            ));
        }
        At::Done(terminal) => {
            if let Some(at) = terminal.claimed {
                let worker = terminal.worker.as_deref().unwrap_or_default();
                events.push(claimed(at, terminal.attempts, worker, None));
            }
            events.push(Event {
                at: terminal.completed,
                from: Some(match terminal.end {
                    End::Cancelled if body.due > terminal.completed => Location::Delayed,
                    End::Cancelled => Location::Ready,
                    _ => Location::InProgress,
                }),
                to: Some(Location::None),
                attempt: (terminal.attempts > 0).then_some(terminal.attempts),
                by: terminal.worker.clone(),
                duration_ms: terminal.claimed.map(|at| terminal.completed.ms() - at.ms()),
                reason: terminal.error.clone(),
                trace_parent: terminal.trace_parent.clone(),
            });
        }
        // The attempt that ended in the DLQ is the last of the past.
        At::Dead(_) | At::Ready(_) | At::Delayed(..) => {}
    }
    events
}

fn claimed(at: Time, attempt: u16, worker: &str, trace_parent: Option<String>) -> Event {
    Event {
        at,
        from: Some(Location::Ready),
        to: Some(Location::InProgress),
        attempt: Some(attempt),
        by: Some(worker.to_owned()),
        trace_parent,
        ..Event::default()
    }
}

fn tell_attempt(events: &mut Vec<Event>, entry: Past) {
    if entry.cause == Cause::Redrive {
        events.push(Event {
            at: entry.ended,
            from: Some(Location::Dead),
            to: Some(entry.to),
            by: Some("admin".to_owned()),
            trace_parent: entry.trace_parent,
            ..Event::default()
        });
        return;
    }
    events.push(claimed(entry.claimed, entry.attempt, &entry.worker, None));
    let (by, reason) = match entry.cause {
        Cause::LeaseExpired => ("sweeper".to_owned(), Some("LEASE_EXPIRED".to_owned())),
        _ => (entry.worker, entry.reason),
    };
    events.push(Event {
        at: entry.ended,
        from: Some(Location::InProgress),
        to: Some(entry.to),
        attempt: Some(entry.attempt),
        by: Some(by),
        duration_ms: Some(entry.ended.ms() - entry.claimed.ms()),
        reason,
        trace_parent: entry.trace_parent,
    });
}

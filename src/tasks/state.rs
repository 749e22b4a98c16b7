//! A task as it stands: found by id, wherever it is, and shown as clients see it.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::app::{App, keys};
use crate::http::{self, Error};
use crate::model::record::{Attempted, Body, Lease, ResultText, Terminal, Unreadable};
use crate::model::{Location, ResultRecord, Status, Task, TaskId, TenantId, Time};
use crate::script;
use crate::store;

script! {
    /// Reads a task and where it is.
    pub struct Read<'a> = "read", read, repeatable {
        once {}
        each { id: &'a TaskId, tenant: &'a TenantId }
    } -> Placed { place: String, body: Bytes, size: usize, record: Bytes, attempted: Bytes, at_ms: i64 }
}

/// A task that was found.
#[derive(Debug)]
pub struct Found {
    /// Its id.
    pub id: TaskId,
    /// What the producer asked for.
    pub body: Body,
    /// Where it is.
    pub state: State,
}

/// Where a task is, with what is known there.
#[derive(Debug)]
pub enum State {
    /// In a ready list.
    Ready(Option<Attempted>),
    /// In the delayed set, until then.
    Delayed(Time, Option<Attempted>),
    /// Leased, until then.
    Leased(Time, Lease),
    /// In the DLQ.
    Dead(Terminal),
    /// Ended.
    Done(Terminal),
}

/// The tenant's task of that id.
///
/// # Errors
/// [`Error::NotFound`] when there is none; `503` when the store does not answer.
pub async fn find(app: &App, id: &TaskId, tenant: &TenantId) -> http::Result<Found> {
    if !app.partitions.knows(id.partition()) {
        return Err(Error::NotFound(http::Missing::Anything));
    }
    let placed = app.store.run(id.partition(), Read { id, tenant }).await?;
    Found::of(app, *id, placed).await
}

impl Found {
    /// Reads what a script gave, and fetches the rest of a large body.
    pub(super) async fn of(app: &App, id: TaskId, placed: Placed) -> http::Result<Self> {
        let body = whole_body(app, &id, placed.body, placed.size).await?;
        let at = Time::from_ms(placed.at_ms);
        let attempted = match placed.attempted.is_empty() {
            true => None,
            false => Some(Attempted::read(&placed.attempted).map_err(unreadable)?),
        };
        let state = match placed.place.as_str() {
            "ready" => State::Ready(attempted),
            "delayed" => State::Delayed(at, attempted),
            "leased" => State::Leased(at, Lease::read(&placed.record).map_err(unreadable)?),
            "dead" => State::Dead(Terminal::read(&placed.record).map_err(unreadable)?),
            _ => State::Done(Terminal::read(&placed.record).map_err(unreadable)?),
        };
        Ok(Self { id, body, state })
    }

    /// Its terminal record.
    pub fn terminal(&self) -> Option<&Terminal> {
        match &self.state {
            State::Dead(terminal) | State::Done(terminal) => Some(terminal),
            _ => None,
        }
    }

    /// As clients see it.
    pub fn task(&self) -> Task {
        let mut task = shown(self.id, &self.body);
        match &self.state {
            State::Ready(attempted) => bring(&mut task, attempted.as_ref(), self.body.due),
            State::Delayed(due, attempted) => {
                bring(&mut task, attempted.as_ref(), self.body.created);
                task.last_known_location = Location::Delayed;
                task.visible_at = Some(*due);
            }
            State::Leased(until, lease) => hold(&mut task, lease, *until),
            State::Dead(terminal) => end(&mut task, terminal, Location::Dead),
            State::Done(terminal) => end(&mut task, terminal, Location::None),
        }
        task
    }
}

/// A ready task without attempts; everything else starts from it.
pub(super) fn shown(id: TaskId, body: &Body) -> Task {
    Task {
        id,
        command: body.command.as_str().to_owned(),
        payload: String::from_utf8_lossy(&body.payload).into_owned(),
        priority: body.priority.number(),
        webhook: body.webhook.clone(),
        trace_parent: body.trace_parent.clone(),
        trace_state: body.trace_state.clone(),
        baggage: body.baggage.clone(),
        status: Status::Pending,
        last_known_location: Location::Ready,
        worker_id: None,
        lease_until: None,
        lease_token: None,
        attempts: 0,
        max_attempts: body.max_attempts,
        error: None,
        tenant_id: body.tenant.as_str().to_owned(),
        created_at: body.created,
        updated_at: body.created,
        visible_at: None,
        completed_at: None,
    }
}

fn bring(task: &mut Task, attempted: Option<&Attempted>, otherwise: Time) {
    task.updated_at = otherwise;
    if let Some(attempted) = attempted {
        task.attempts = attempted.attempts;
        task.updated_at = attempted.at;
        if attempted.trace_parent.is_some() {
            task.trace_parent.clone_from(&attempted.trace_parent);
        }
    }
}

fn hold(task: &mut Task, lease: &Lease, until: Time) {
    task.status = Status::InProgress;
    task.last_known_location = Location::InProgress;
    task.worker_id = Some(lease.worker.clone());
    task.lease_until = Some(until);
    task.attempts = lease.attempt;
    task.updated_at = lease.claimed;
    if lease.trace_parent.is_some() {
        task.trace_parent.clone_from(&lease.trace_parent);
    }
}

pub(super) fn end(task: &mut Task, terminal: &Terminal, location: Location) {
    task.status = terminal.end.status();
    task.last_known_location = location;
    task.attempts = terminal.attempts;
    task.error.clone_from(&terminal.error);
    task.updated_at = terminal.completed;
    task.completed_at = Some(terminal.completed);
    if terminal.trace_parent.is_some() {
        task.trace_parent.clone_from(&terminal.trace_parent);
    }
}

/// The body that a script gave the beginning of.
pub(super) async fn whole_body(
    app: &App,
    id: &TaskId,
    near: Bytes,
    size: usize,
) -> http::Result<Body> {
    let whole = if near.len() < size {
        let key = keys::body(&app.partitions, id);
        let mut found = app.store.get(id.partition(), vec![key]).await?;
        found.pop().flatten().ok_or(Error::NotFound(http::Missing::Anything))?
    } else {
        near
    };
    Body::read(&whole).map_err(unreadable)
}

/// How a task ended, with its result fetched if it lies apart.
///
/// # Errors
/// [`Error::NotFound`] when the result has expired meanwhile; `503` when the store does not answer.
pub(super) async fn result_record(
    app: &App,
    id: TaskId,
    terminal: &Terminal,
) -> http::Result<ResultRecord> {
    let result = match &terminal.result {
        None => None,
        Some(ResultText::Inline(text)) => Some(text.clone()),
        Some(ResultText::Apart(name)) => {
            let key = keys::part(&app.partitions, &id, name);
            let mut found = app.store.get(id.partition(), vec![key]).await?;
            Some(found.pop().flatten().ok_or(Error::NotFound(http::Missing::Result))?)
        }
    };
    Ok(ResultRecord {
        task_id: id,
        status: terminal.end.status(),
        result: result.map(raw).transpose()?,
        error: terminal.error.clone(),
        artifacts: terminal.artifacts.clone().map(raw).transpose()?,
        completed_at: terminal.completed,
    })
}

fn raw(json: Bytes) -> http::Result<Box<RawValue>> {
    let text = String::from_utf8(json.to_vec()).ok();
    text.and_then(|text| RawValue::from_string(text).ok())
        .ok_or_else(|| unreadable(Unreadable::Damaged))
}

/// A record that this version cannot read is left alone. The client can do nothing but try a newer
/// node; the log says what it was.
pub(super) fn unreadable(why: Unreadable) -> Error {
    tracing::error!(
        target: "codeq::store", category = "system", event = "store.unreadable", error.message = %why,
        "a stored record could not be read"
    );
    store::Error::Script(why.to_string()).into()
}

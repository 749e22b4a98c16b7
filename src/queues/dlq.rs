//! `POST /admin/queues/{command}/dlq/requeue`, `…/purge`: dead tasks come back, or go for good.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, Cause};
use crate::http::{self, Admin, BodyOrEmpty, CommandPath, Error, params, responses};
use crate::model::record::Body;
use crate::model::{Command, Partition, QueueName, TaskId};
use crate::tasks::events::{self, Drawn};
use crate::telemetry::metrics::DlqMoved;
use crate::telemetry::trace::Step;
use crate::{gives, script};

/// Which of them.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
#[schema(as = DeadRequest)]
pub struct Request {
    /// At most 1000; unknown ones are skipped.
    #[schema(max_items = 1000)]
    ids: Option<Vec<String>>,
    /// The oldest so many, when no ids are given; all that are dead now when this is not given either.
    #[schema(minimum = 1)]
    limit: Option<i64>,
}

/// How many came back.
#[derive(Serialize, ToSchema)]
pub struct Requeued {
    requeued: u64,
}

/// How many went.
#[derive(Serialize, ToSchema)]
pub struct Purged {
    purged: u64,
}

gives! {
    /// A task that came back.
    pub struct Redriven { id: TaskId, head: Bytes, trace: Option<String> }
}

script! {
    /// Dead tasks become ready.
    pub struct Redrive<'a> = "redrive", write, once_only {
        once {}
        each { queue: &'a QueueName, ids: &'a str, limit: u64, before_ms: i64, span: &'a str }
    } -> Back { tasks: Vec<Redriven>, superseded: u64, expired: Vec<u16>, length: u64 }
}

script! {
    /// Dead tasks go.
    pub struct Purge<'a> = "purge", write, once_only {
        once {}
        each { queue: &'a QueueName, ids: &'a str, limit: u64, before_ms: i64 }
    } -> Gone { purged: Vec<u16> }
}

/// Most ids of one request.
const MAX_IDS: usize = 1000;
/// Most tasks of one script call.
const SPAN: u64 = 64;

/// Sends dead tasks back to their queue, in the order of their death.
#[utoipa::path(post, path = "/admin/queues/{command}/dlq/requeue", tag = "admin",
    params(params::OfCommand, params::OfTenant),
    request_body(content = Option<Request>),
    responses((status = 200, body = Requeued), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn requeue(
    State(app): State<App>,
    admin: Admin,
    CommandPath(command): CommandPath,
    BodyOrEmpty(ask): BodyOrEmpty<Request>,
) -> http::Result<Json<Requeued>> {
    let queue = QueueName::of(admin.tenant()?, &command);
    let mut requeued = 0;
    for mut pick in Pick::all(&app, &queue, &command, ask)? {
        pick.left = pick.left.saturating_sub(requeued); // one limit for all partitions
        while let Some((ids, limit)) = pick.next() {
            let step = Drawn::of(Step::Redrive);
            let before_ms = pick.before_ms;
            let redrive =
                Redrive { queue: &queue, ids: &ids, limit, before_ms, span: step.offered() };
            let (unheard, again, partition) = (app.clone(), step.clone(), pick.partition);
            let on_orphan = move |back: Back| tell(&unheard, &again, partition, queue, &back);
            let back = app.store.run_with_orphan(partition, redrive, on_orphan).await?;
            tell(&app, &step, partition, queue, &back);
            requeued += back.tasks.len() as u64;
            pick.took(limit, back.tasks.len() as u64);
        }
    }
    audit(&admin, &command, "admin.dlq_requeued", requeued);
    Ok(Json(Requeued { requeued }))
}

/// Removes dead tasks with all that belongs to them.
#[utoipa::path(post, path = "/admin/queues/{command}/dlq/purge", tag = "admin",
    params(params::OfCommand, params::OfTenant),
    request_body(content = Option<Request>),
    responses((status = 200, body = Purged), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn purge(
    State(app): State<App>,
    admin: Admin,
    CommandPath(command): CommandPath,
    BodyOrEmpty(ask): BodyOrEmpty<Request>,
) -> http::Result<Json<Purged>> {
    let queue = QueueName::of(admin.tenant()?, &command);
    let mut purged = 0;
    for mut pick in Pick::all(&app, &queue, &command, ask)? {
        pick.left = pick.left.saturating_sub(purged); // one limit for all partitions
        while let Some((ids, limit)) = pick.next() {
            let purge = Purge { queue: &queue, ids: &ids, limit, before_ms: pick.before_ms };
            let unheard = app.clone();
            let on_orphan = move |gone: Gone| left(&unheard, &gone.purged);
            let gone = app.store.run_with_orphan(pick.partition, purge, on_orphan).await?;
            left(&app, &gone.purged);
            let taken = gone.purged.len() as u64;
            purged += taken;
            pick.took(limit, taken);
        }
    }
    audit(&admin, &command, "admin.dlq_purged", purged);
    Ok(Json(Purged { purged }))
}

/// Tells of tasks that came back, also when the administrator did not wait for the answer.
fn tell(app: &App, step: &Drawn, partition: Partition, queue: QueueName, back: &Back) {
    if back.length == 1 {
        app.announce_ready(partition, &queue, || cause(step, &back.tasks));
    }
    let one = back.tasks.first().and_then(|task| events::head(app, &task.head));
    if let Some(one) = one {
        events::superseded(app, &one, back.superseded);
    }
    for (at, task) in back.tasks.iter().enumerate() {
        if let Some(body) = events::head(app, &task.head) {
            events::redriven(app, &step.nth(at + 1), &task.id, &body, task.trace.as_deref());
        }
    }
    events::left_dlq(app, &back.expired, DlqMoved::Expired);
}

/// Counts tasks that went for good, by their labels.
fn left(app: &App, purged: &[u16]) {
    events::left_dlq(app, purged, DlqMoved::Purge);
}

/// The first of the tasks that came back, as it is now.
fn cause(step: &Drawn, back: &[Redriven]) -> Cause {
    let of = |first: &Redriven| {
        let body = Body::read_head(&first.head).ok()?;
        let before = first.trace.as_deref().or(body.trace_parent.as_deref());
        let latest = step.nth(1).after(before);
        Some(Cause::of(body, latest))
    };
    back.first().and_then(of).unwrap_or_default()
}

fn audit(admin: &Admin, command: &Command, event: &'static str, tasks: u64) {
    let after = if event == "admin.dlq_purged" { "gone" } else { "ready" };
    tracing::info!(
        target: "codeq::audit", category = "audit", event,
        by = admin.subject.as_str(), tenant_id = admin.tenant().ok().map(|tenant| tenant.as_str()),
        command = command.as_str(), before = "dead", after, tasks,
        "dead tasks were moved by an administrator"
    );
}

/// What is still to take from one partition, in calls of a bounded size.
struct Pick {
    partition: Partition,
    ids: Vec<String>,
    by_ids: bool,
    left: u64,
    before_ms: i64,
    done: bool,
}

impl Pick {
    fn all(
        app: &App,
        queue: &QueueName,
        command: &Command,
        ask: Request,
    ) -> http::Result<Vec<Self>> {
        if ask.ids.as_ref().is_some_and(|ids| ids.len() > MAX_IDS) {
            return Err(Error::InvalidBody("ids: at most 1000".into()));
        }
        if ask.limit.is_some_and(|limit| limit < 1) {
            return Err(Error::InvalidBody("limit: at least 1".into()));
        }
        let known: Option<Vec<TaskId>> =
            ask.ids.map(|ids| ids.iter().filter_map(|id| TaskId::parse(id)).collect());
        let picks = app.partitions_of(queue, command).map(|partition| {
            let here = known.iter().flatten().filter(|id| id.partition() == partition);
            Self {
                partition,
                ids: here.map(TaskId::short).collect(),
                by_ids: known.is_some(),
                left: ask.limit.map_or(u64::MAX, i64::unsigned_abs),
                // What dies while this runs is left alone, or a task that fails at once would come
                // back for ever. A node's clock that is off costs no more than that.
                before_ms: jiff::Timestamp::now().as_millisecond() + 1,
                done: false,
            }
        });
        Ok(picks.collect())
    }

    /// Ids, or "" and how many of the oldest; `None` when all is taken.
    fn next(&mut self) -> Option<(String, u64)> {
        if self.by_ids {
            let rest = self.ids.split_off(self.ids.len().min(64));
            let now = std::mem::replace(&mut self.ids, rest);
            return (!now.is_empty()).then(|| (now.concat(), 0));
        }
        (!self.done && self.left > 0).then(|| (String::new(), self.left.min(SPAN)))
    }

    fn took(&mut self, asked: u64, taken: u64) {
        self.left = self.left.saturating_sub(taken);
        self.done = taken < asked;
    }
}

//! `POST /tasks/claim`, `POST /tasks/claim/batch`: a worker takes work, or waits for it.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::{App, Scope, Waiter, Wanted};
use crate::auth::EventTypes;
use crate::http::{self, Body, BodyOrEmpty, Error, Worker, responses, scope};
use crate::model::record;
use crate::model::{
    Command, LeaseToken, Location, Partition, QueueName, Status, Task, TaskId, TenantId, Time,
};
use crate::store;
use crate::telemetry::trace::{self, Step};
use crate::{gives, script};

use super::handover::Handover;
use super::{events, state};

/// What a worker wants.
#[derive(Deserialize, ToSchema, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// At most 100; `[]`, null, absent and `["*"]` mean all that the token allows.
    #[schema(schema_with = http::commands)]
    commands: Option<Vec<String>>,
    /// ≤ 0 or absent is the default; above 43200 is 43200.
    lease_seconds: Option<i64>,
    /// 0..30: how long to wait for a task.
    wait_seconds: Option<i64>,
}

/// What a worker wants several of.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchRequest {
    /// As in a single claim.
    #[serde(default)]
    #[schema(schema_with = http::commands)]
    commands: Option<Vec<String>>,
    /// As in a single claim.
    #[serde(default)]
    lease_seconds: Option<i64>,
    /// As in a single claim.
    #[serde(default)]
    wait_seconds: Option<i64>,
    /// 1 to `maxClaimBatch`, which is 10 unless configured.
    #[schema(minimum = 1, maximum = 100)]
    count: i64,
}

/// Several tasks, in the order of delivery.
#[derive(Serialize, ToSchema)]
pub struct BatchResponse {
    tasks: Vec<Task>,
}

gives! {
    /// One task that was taken.
    pub struct Granted {
        id: TaskId, body: Bytes, size: usize, token: String, until_ms: i64, attempt: u16,
        visible_ms: i64, trace: Option<String>,
    }
}

script! {
    /// Workers take ready tasks under a lease.
    pub struct Claim<'a> = "claim", write, once_only {
        once {}
        each { queues: &'a str, tenant: &'a TenantId, worker: &'a str, leases: &'a str, lease_ms: u64, span: &'a str }
    } -> Claimed { tasks: Vec<Granted>, left: u64 }
}

/// Most commands of one call.
const MAX_COMMANDS: usize = 100;
/// Longest lease.
pub const MAX_LEASE_SECONDS: i64 = 43_200;
/// Longest wait.
const MAX_WAIT_SECONDS: i64 = 30;
/// Time for a subscription to be confirmed; without it the safety poll finds what is missed.
const SUBSCRIBED: Duration = Duration::from_millis(500);

/// Takes a task; waits for one when asked to.
#[utoipa::path(post, path = "/tasks/claim", tag = "worker", request_body(content = Option<Request>),
    responses((status = 200, body = Task), (status = 204, description = "Nothing to do"), responses::Authenticated, responses::BadRequest, responses::RateLimited),
    security(("bearer" = [])))]
pub async fn claim(
    State(app): State<App>,
    worker: Worker<scope::Claim>,
    BodyOrEmpty(ask): BodyOrEmpty<Request>,
) -> http::Result<Response> {
    let search = Search::of(&app, &worker, ask, 1)?;
    take_turn(&app, &worker, 1).await?;
    let (mut tasks, handover) = search.run(&app).await?;
    Ok(match tasks.pop() {
        Some(task) => handover.answer(&task),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Takes several tasks; waits for at least one when asked to.
#[utoipa::path(post, path = "/tasks/claim/batch", tag = "worker", request_body = BatchRequest,
    responses((status = 200, body = BatchResponse), (status = 204, description = "Nothing to do"), responses::Authenticated, responses::BadRequest, responses::RateLimited),
    security(("bearer" = [])))]
pub async fn claim_batch(
    State(app): State<App>,
    worker: Worker<scope::Claim>,
    Body(ask): Body<BatchRequest>,
) -> http::Result<Response> {
    let most = app.settings.limits.max_claim_batch;
    if ask.count <= 0 {
        return Err(Error::InvalidBody("count: at least 1".into()));
    }
    let count = usize::try_from(ask.count).unwrap_or(usize::MAX);
    if count > most {
        return Err(Error::CountTooLarge(most));
    }
    let BatchRequest { commands, lease_seconds, wait_seconds, .. } = ask;
    let search =
        Search::of(&app, &worker, Request { commands, lease_seconds, wait_seconds }, count)?;
    take_turn(&app, &worker, count).await?;
    let (tasks, handover) = search.run(&app).await?;
    Ok(match tasks.is_empty() {
        true => StatusCode::NO_CONTENT.into_response(),
        false => {
            trace::say_of_request(trace::BATCH_COUNT, count_of(&tasks));
            handover.answer(&BatchResponse { tasks })
        }
    })
}

async fn take_turn(app: &App, worker: &Worker<scope::Claim>, tasks: usize) -> http::Result<()> {
    let taken = app.take(Scope::Claim, worker, &worker.tenant, tasks).await.map_err(Error::from);
    if let Err(error @ Error::RateLimited(_)) = &taken {
        events::claim_rejected(worker, error.code());
    }
    taken
}

fn count_of(tasks: &[Task]) -> i64 {
    i64::try_from(tasks.len()).unwrap_or(i64::MAX)
}

/// Seconds that a lease asked for, within the limits.
pub(super) fn lease_ms(app: &App, asked: Option<i64>) -> u64 {
    let seconds = match asked {
        Some(asked) if asked > 0 => asked.min(MAX_LEASE_SECONDS),
        _ => i64::from(app.settings.tasks.default_lease_seconds),
    };
    seconds.unsigned_abs() * 1000
}

/// Counts what a claim took before anything else can happen to it.
pub(super) fn count(app: &App, claimed: &Claimed, lease_ms: u64) {
    let lease_ms = i64::try_from(lease_ms).unwrap_or(0);
    for granted in &claimed.tasks {
        events::taken(app, granted, granted.until_ms - lease_ms);
    }
}

/// A claim that was checked.
struct Search<'a> {
    worker: &'a str,
    tenant: &'a TenantId,
    place: Place,
    lease_ms: u64,
    wait: Duration,
    count: usize,
}

/// Where to look.
enum Place {
    /// In these queues, partition by partition in the order the worker gave.
    Queues { commands: Vec<Command>, names: Vec<QueueName>, by_partition: Vec<(Partition, String)> },
    /// In whatever queue of the tenant has work.
    Any,
}

impl<'a> Search<'a> {
    fn of(
        app: &App,
        worker: &'a Worker<scope::Claim>,
        ask: Request,
        count: usize,
    ) -> http::Result<Self> {
        let place = Place::of(app, worker, ask.commands.unwrap_or_default())?;
        let wait = ask.wait_seconds.unwrap_or(0).clamp(0, MAX_WAIT_SECONDS).unsigned_abs();
        Ok(Self {
            worker: &worker.subject,
            tenant: &worker.tenant,
            place,
            lease_ms: lease_ms(app, ask.lease_seconds),
            wait: Duration::from_secs(wait),
            count,
        })
    }

    /// Takes what is there; waits while there is nothing, Redis is away, and time is left.
    async fn run(&self, app: &App) -> http::Result<(Vec<Task>, Handover)> {
        let mut handover = Handover::new(app, self.worker, self.tenant);
        let until = Instant::now() + self.wait;
        match &self.place {
            Place::Queues { commands, .. } => {
                app.worker_called(self.tenant, self.worker, commands);
            }
            Place::Any => app.worker_called_for_any(self.tenant, self.worker),
        }
        // A busy queue is served without a place in line, and Redis that is away is waited for.
        match self.look(app, &mut handover).await {
            Err(Error::StoreUnavailable) if !self.wait.is_zero() => {}
            Ok(tasks) if tasks.is_empty() && !self.wait.is_zero() => {}
            found => return found.map(|tasks| (tasks, handover)),
        }
        let _heard = self.listen(app).await;
        let waiter = app.waiters.join(self.place.wanted(self.tenant));
        let (mut woken, mut waits_since) = (None, Instant::now());
        loop {
            let looks = Instant::now();
            let tasks = self.look_in_turn(app, &mut handover, &waiter, until).await?;
            if let (Some(turn), Some(latency)) = (woken, handover.since_ready()) {
                // What was ready before could not be had, as in a queue that was paused.
                waiter.answered(turn, latency.min(waits_since.elapsed()));
            }
            if !tasks.is_empty() || app.draining.is_cancelled() {
                return Ok((tasks, handover));
            }
            waits_since = looks;
            woken = http::deliberately(async {
                tokio::select! {
                    turn = waiter.turn() => Some(turn),
                    () = app.draining.cancelled() => None,
                    () = tokio::time::sleep_until(until) => None,
                }
            })
            .await;
            if woken.is_none() {
                return Ok((Vec::new(), handover));
            }
        }
    }

    /// Subscribes to the partitions where a wake-up could come from.
    async fn listen(&self, app: &App) -> Vec<store::Listening> {
        let listening: Vec<_> = match &self.place {
            Place::Queues { by_partition, .. } => {
                by_partition.iter().map(|(partition, _)| app.store.listen(*partition)).collect()
            }
            Place::Any => {
                app.partitions.all().map(|partition| app.store.listen(partition)).collect()
            }
        };
        // While Redis is away there is nothing to hear; after a reconnect everybody looks anyway.
        if app.store.is_up() {
            let ready =
                futures_util::future::join_all(listening.iter().map(store::Listening::ready));
            let _ = tokio::time::timeout(SUBSCRIBED, ready).await;
        }
        listening
    }

    async fn look_in_turn(
        &self,
        app: &App,
        handover: &mut Handover,
        waiter: &Waiter,
        until: Instant,
    ) -> http::Result<Vec<Task>> {
        loop {
            waiter.looks();
            let looked = self.look(app, handover).await;
            waiter.looked();
            match looked {
                Err(Error::StoreUnavailable) if Instant::now() < until => {
                    let waits = http::deliberately(async {
                        tokio::select! {
                            () = app.store.up() => None,
                            () = app.draining.cancelled() => Some(Ok(Vec::new())),
                            () = tokio::time::sleep_until(until) => Some(Err(Error::StoreUnavailable)),
                        }
                    });
                    if let Some(given_up) = waits.await {
                        return given_up;
                    }
                }
                other => return other,
            }
        }
    }

    /// One look at all places, until enough is found.
    async fn look(&self, app: &App, handover: &mut Handover) -> http::Result<Vec<Task>> {
        let mut tasks = Vec::new();
        let any;
        let places = match &self.place {
            Place::Queues { by_partition, .. } => by_partition.as_slice(),
            Place::Any => {
                any = self.promising(app).await?;
                any.as_slice()
            }
        };
        for (partition, queues) in places {
            let wanted = self.count - tasks.len();
            if wanted == 0 {
                break;
            }
            match self.take(app, *partition, queues, wanted, handover).await {
                Ok(mut taken) => tasks.append(&mut taken),
                // What was taken elsewhere is worth more than the error.
                Err(_) if !tasks.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(tasks)
    }

    /// Partitions where the tenant has ready tasks, from a random one on so that none starves.
    async fn promising(&self, app: &App) -> http::Result<Vec<(Partition, String)>> {
        let peeks = app.partitions.all().map(|partition| async move {
            let peek = crate::app::Peek { queue: "", tenant: self.tenant.tag() };
            app.store.run(partition, peek).await.map(|peeked| (partition, peeked.ready > 0))
        });
        let found = futures_util::future::try_join_all(peeks).await?;
        let mut places: Vec<_> = found
            .into_iter()
            .filter(|(_, ready)| *ready)
            .map(|(partition, _)| (partition, String::new()))
            .collect();
        if !places.is_empty() {
            let first = rand::random_range(0..places.len());
            places.rotate_left(first);
        }
        Ok(places)
    }

    /// Takes from one partition. What is taken is in `handover` before anything else can fail.
    async fn take(
        &self,
        app: &App,
        partition: Partition,
        queues: &str,
        wanted: usize,
        handover: &mut Handover,
    ) -> http::Result<Vec<Task>> {
        let leases: String = (0..wanted)
            .map(|_| LeaseToken::random())
            .map(|token| token.as_str().to_owned())
            .collect();
        let step = events::Drawn::of(Step::Claim);
        let claim = Claim {
            queues,
            tenant: self.tenant,
            worker: self.worker,
            leases: &leases,
            lease_ms: self.lease_ms,
            span: step.offered(),
        };
        let (give_back, lease_ms) = (handover.for_orphans(), self.lease_ms);
        let on_orphan = move |orphan: Claimed| give_back.all(orphan, lease_ms);
        let claimed = app.store.run_with_orphan(partition, claim, on_orphan).await?;
        count(app, &claimed, lease_ms);
        for granted in &claimed.tasks {
            handover.add(granted.id, &granted.token, self.ready_for(granted));
        }
        let left = usize::try_from(claimed.left).unwrap_or(0);
        let mut tasks = Vec::with_capacity(claimed.tasks.len());
        let mut last = None;
        for (at, granted) in claimed.tasks.into_iter().enumerate() {
            let step = step.nth(at + 1);
            let body =
                state::whole_body(app, &granted.id, granted.body.clone(), granted.size).await?;
            last = Some(body.queue);
            let task = self.leased(&granted, &body, &step);
            let body = events::spelled(app, body);
            if let Place::Any = self.place {
                app.worker_called(self.tenant, self.worker, [&body.command]);
            }
            events::claimed(&step, &body, &task, &granted);
            tasks.push(task);
        }
        if let Some(queue) = last.filter(|_| left > 0) {
            // Only the first of several new tasks was announced; whoever takes one passes it on.
            app.waiters.wake(&queue, left, crate::app::Turn::Message);
        }
        Ok(tasks)
    }

    /// How long a task was ready when it was taken, by Redis' clock.
    fn ready_for(&self, granted: &Granted) -> Duration {
        let taken_ms = granted.until_ms - i64::try_from(self.lease_ms).unwrap_or(0);
        Duration::from_millis(u64::try_from(taken_ms - granted.visible_ms).unwrap_or(0))
    }

    fn leased(&self, granted: &Granted, body: &record::Body, step: &events::Drawn) -> Task {
        let mut task = state::shown(granted.id, body);
        task.status = Status::InProgress;
        task.last_known_location = Location::InProgress;
        task.worker_id = Some(self.worker.to_owned());
        task.lease_until = Some(Time::from_ms(granted.until_ms));
        task.lease_token = Some(granted.token.clone());
        task.attempts = granted.attempt;
        task.updated_at =
            Time::from_ms(granted.until_ms - i64::try_from(self.lease_ms).unwrap_or(0));
        let before = granted.trace.as_deref().or(body.trace_parent.as_deref());
        task.trace_parent = step.after(before);
        task
    }
}

impl Place {
    fn of(app: &App, worker: &Worker<scope::Claim>, asked: Vec<String>) -> http::Result<Self> {
        if asked.len() > MAX_COMMANDS {
            return Err(Error::InvalidBody("commands: at most 100".into()));
        }
        let mut commands = Vec::with_capacity(asked.len());
        let mut all = asked.is_empty();
        for text in &asked {
            match text.as_str() {
                "*" => all = true,
                text => commands
                    .push(Command::parse(text).map_err(|rule| Error::InvalidCommand(rule.into()))?),
            }
        }
        if all {
            match &worker.event_types {
                EventTypes::All => return Ok(Self::Any),
                EventTypes::Only(names) => {
                    commands = names.iter().filter_map(|name| Command::parse(name).ok()).collect();
                    commands.sort_by(|a, b| a.as_str().cmp(b.as_str()));
                    // None starves, although a queue is looked at before the next one.
                    if !commands.is_empty() {
                        let first = rand::random_range(0..commands.len());
                        commands.rotate_left(first);
                    }
                }
            }
        } else if !commands.iter().all(|command| worker.may_handle(command)) {
            events::claim_rejected(worker, Error::EventTypeNotAllowed.code());
            return Err(Error::EventTypeNotAllowed);
        }
        let mut names = Vec::with_capacity(commands.len());
        let mut by_partition: Vec<(Partition, String)> = Vec::new();
        for command in &commands {
            let queue = QueueName::of(&worker.tenant, command);
            if names.contains(&queue) {
                continue;
            }
            names.push(queue);
            for partition in app.partitions_of(&queue, command) {
                match by_partition.iter_mut().find(|(known, _)| *known == partition) {
                    Some((_, queues)) => queues.push_str(queue.as_str()),
                    None => by_partition.push((partition, queue.as_str().to_owned())),
                }
            }
        }
        Ok(Self::Queues { commands, names, by_partition })
    }

    fn wanted(&self, tenant: &TenantId) -> Wanted {
        match self {
            Self::Queues { names, .. } => Wanted::Queues(names.clone()),
            Self::Any => Wanted::Any(tenant.tag().to_owned()),
        }
    }
}

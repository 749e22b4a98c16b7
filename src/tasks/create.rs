//! `POST /tasks`, `POST /tasks/batch`: a producer hands in work.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::app::{App, Cause, Scope, keys};
use crate::egress::{Rules, Target};
use crate::http::{
    self, Body, Error, IdempotencyKeyHeader, ItemError, Producer, TraceHeaders, params, responses,
};
use crate::model::record::{self, BODY_HEAD, End, Hooks, NewBody};
use crate::model::{Command, Location, Priority, QueueName, Task, TaskId, Time};
use crate::script;
use crate::telemetry::trace::{self, OpenSpan, Step};

use super::{events, state, step};

/// One task to create.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CreateRequest)]
pub struct Request {
    /// The queue: not blank, at most 256 bytes, no control characters.
    #[schema(
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
        max_length = 256
    )]
    command: String,
    /// Any JSON but null, nested up to 128 deep; kept byte for byte.
    #[schema(schema_with = http::any_json_but_null)]
    payload: Box<RawValue>,
    /// 0..9, clamped into range.
    #[serde(default)]
    priority: Option<i64>,
    /// http(s) URL that is told of the end.
    #[serde(default)]
    #[schema(max_length = 2048)]
    webhook: Option<String>,
    /// Which ends the webhook is told of: of `COMPLETED`, `FAILED`, `DLQ`, `CANCELLED`; default all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Ends>>, min_items = 1)]
    webhook_on: Option<Vec<String>>,
    /// `thin` leaves result and artifacts out of the webhook's body; default `full`.
    #[serde(default)]
    #[schema(value_type = Option<BodyForms>)]
    webhook_body: Option<String>,
    /// Deliveries it may have; ≤ 0 is the default, above 1000 is 1000.
    #[serde(default)]
    max_attempts: Option<i64>,
    /// At most 255 bytes; the same key answers the same task.
    #[serde(default)]
    #[schema(max_length = 255)]
    idempotency_key: Option<String>,
    /// Wins over `delaySeconds`.
    #[serde(default)]
    #[schema(schema_with = http::moment_or_blank)]
    run_at: Option<String>,
    /// From now; at most 100 years.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 3155760000_i64)]
    delay_seconds: Option<i64>,
}

/// Ends of a task, for the description of the API.
#[derive(ToSchema)]
#[schema(as = WebhookEnd, rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "only its schema is used")]
enum Ends {
    Completed,
    Failed,
    Dlq,
    Cancelled,
}

/// Forms of a webhook's body, for the description of the API.
#[derive(ToSchema)]
#[schema(as = WebhookBody, rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum BodyForms {
    Full,
    Thin,
}

/// Several tasks: an object with `tasks`, or a bare array.
#[derive(Deserialize, ToSchema)]
#[schema(as = CreateBatch)]
pub struct Batch {
    /// 1..100 of them, each on its own.
    #[schema(value_type = Vec<Request>, min_items = 1, max_items = 100)]
    tasks: Vec<Box<RawValue>>,
}

/// The answer to a batch, in its order.
#[derive(Serialize, ToSchema)]
#[schema(as = CreateBatchResponse)]
pub struct BatchResponse {
    results: Vec<Item>,
}

/// What became of one task of a batch.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = CreateItem)]
pub enum Item {
    /// It is there.
    #[schema(title = "Created")]
    Created {
        /// The task.
        task: Box<Task>,
        /// Its idempotency key was known.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
        /// The known task has another payload.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        mismatch: bool,
    },
    /// It was refused.
    #[schema(title = "Refused")]
    Refused(ItemError),
}

script! {
    /// A task becomes ready or delayed.
    pub struct Enqueue<'a> = "enqueue", write, repeatable {
        once { max_attempts: u16, retention_s: u32 }
        each {
            id: &'a TaskId, command: &'a str, run_at_ms: i64, delay_ms: i64, max: u16,
            digest: &'a str, stored: bool, body: Bytes,
        }
    } -> Enqueued {
        replayed: bool, id: TaskId, mismatch: bool, created_ms: i64, due_ms: i64, max: u16,
        length: u64,
    }
}

/// Most tasks of one batch.
pub const MAX_BATCH: usize = 100;
/// Deepest nesting of a payload.
const MAX_PAYLOAD_DEPTH: usize = 128;
/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 255;
/// Most deliveries a task may ask for.
const MAX_ATTEMPTS: i64 = 1000;
/// How far ahead a task may be planned: 100 years.
const HORIZON_SECONDS: i64 = 100 * 365 * 86_400 + 25 * 86_400;
/// Bodies up to this size travel inside the script call, larger ones beside it (decision 005).
const INSIDE: usize = 1024;
/// What the script needs of a body that travels beside it.
const STORED_HEAD: usize = 160;
/// How long a body lives that no script made permanent.
const ORPHAN: std::time::Duration = std::time::Duration::from_secs(60);

/// A request that was checked.
struct Draft {
    command: Command,
    payload: Box<RawValue>,
    priority: Priority,
    webhook: Option<Target>,
    webhook_text: Option<String>,
    hooks: Hooks,
    max_attempts: u16,
    idempotency_key: Option<String>,
    run_at_ms: i64,
    delay_ms: i64,
}

/// A task that is there now, or was before.
struct Created {
    task: Task,
    replayed: bool,
    mismatch: bool,
}

/// Creates a task.
#[utoipa::path(post, path = "/tasks", tag = "producer", request_body = Request,
    params(params::IdempotencyKey),
    responses((status = 202, body = Task), responses::Authenticated, responses::BadRequest, responses::RateLimited), security(("bearer" = [])))]
pub async fn create(
    State(app): State<App>,
    producer: Producer,
    headers: TraceHeaders,
    header: IdempotencyKeyHeader,
    ask: http::Result<Body<Request>>,
) -> http::Result<Response> {
    // Opened before anything can be refused, so that what is refused can be seen too.
    let mut span = Step::Create.below_current();
    let made = async {
        let Body(mut ask) = ask?;
        if present(ask.idempotency_key.as_deref()).is_none() {
            ask.idempotency_key = header.0;
        }
        let draft = Draft::of(ask, &mut span, &app, &producer)?;
        app.take(Scope::CreateTask, &producer, &producer.tenant, 1).await?;
        enqueue(&app, &mut span, &producer, &headers, draft).await
    };
    let made = made.await;
    let created = made.inspect_err(|error| step::did_not(&mut span, error))?;
    drop(span);

    let mut answer = (StatusCode::ACCEPTED, Json(&created.task)).into_response();
    let said = HeaderValue::from_static("true");
    if created.replayed {
        answer.headers_mut().insert("idempotency-replayed", said.clone());
    }
    if created.mismatch {
        answer.headers_mut().insert("idempotency-mismatch", said);
    }
    Ok(answer)
}

/// Creates up to 100 tasks, each on its own.
#[utoipa::path(post, path = "/tasks/batch", tag = "producer", request_body = http::InKind<Batch, Request>,
    responses((status = 200, body = http::InKind<BatchResponse, Item>), responses::Authenticated, responses::BadRequest, responses::RateLimited), security(("bearer" = [])))]
pub async fn create_batch(
    State(app): State<App>,
    producer: Producer,
    headers: TraceHeaders,
    ask: http::BareOr<Batch>,
) -> http::Result<Response> {
    let bare = ask.is_bare();
    let tasks = ask.items("tasks", MAX_BATCH, |batch| batch.tasks)?;
    trace::say_of_request(trace::BATCH_COUNT, i64::try_from(tasks.len()).unwrap_or(i64::MAX));
    app.take(Scope::CreateTask, &producer, &producer.tenant, tasks.len()).await?;

    let (app, producer, headers) = (&app, &producer, &headers);
    let results = futures_util::future::join_all(tasks.into_iter().map(|raw| async move {
        let mut span = Step::Create.below_current();
        let made = async {
            let ask = http::parse(raw.get().as_bytes()).map_err(Error::InvalidBody)?;
            let draft = Draft::of(ask, &mut span, app, producer)?;
            enqueue(app, &mut span, producer, headers, draft).await
        };
        let made = made.await;
        match made.inspect_err(|error| step::did_not(&mut span, error)) {
            Ok(Created { task, replayed, mismatch }) => {
                Item::Created { task: Box::new(task), replayed, mismatch }
            }
            Err(refused) => Item::Refused(refused.item()),
        }
    }))
    .await;
    Ok(match bare {
        true => Json(results).into_response(),
        false => Json(BatchResponse { results }).into_response(),
    })
}

/// White space counts as absent.
fn present(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

impl Draft {
    /// Checks a request, and says of the span what it asks for.
    fn of(ask: Request, span: &mut OpenSpan, app: &App, producer: &Producer) -> http::Result<Self> {
        if span.is_recording() {
            span.set("codeq.tenant_id", producer.tenant.as_str().to_owned())
                .set(
                    "codeq.priority",
                    i64::from(Priority::clamped(ask.priority.unwrap_or(0)).number()),
                )
                .set("codeq.has_webhook", present(ask.webhook.as_deref()).is_some())
                .set(
                    "codeq.has_idempotency_key",
                    present(ask.idempotency_key.as_deref()).is_some(),
                );
        }
        // What is no command is only text.
        let asked = Command::parse(&ask.command).ok();
        let checked = Self::check(ask, app.egress.rules());
        if let (Err(_), Some(command)) = (&checked, asked) {
            events::create_asks(span, &command);
        }
        checked
    }

    fn check(ask: Request, rules: &Rules) -> http::Result<Self> {
        let command =
            Command::parse(&ask.command).map_err(|rule| Error::InvalidCommand(rule.into()))?;
        if ask.payload.get() == "null" {
            return Err(Error::InvalidBody("payload: any JSON but null is needed".into()));
        }
        if http::json_depth(ask.payload.get().as_bytes()) > MAX_PAYLOAD_DEPTH {
            return Err(Error::InvalidBody("payload: nested deeper than 128".into()));
        }
        if ask.idempotency_key.as_ref().is_some_and(|key| key.len() > MAX_KEY) {
            return Err(Error::InvalidBody("idempotencyKey: at most 255 bytes".into()));
        }
        let webhook_text = present(ask.webhook.as_deref()).map(str::to_owned);
        let target = webhook_text.as_deref().map(|text| Target::parse(text, rules)).transpose();
        let webhook =
            target.map_err(|bad| Error::InvalidWebhookUrl(format!("webhook: {bad}").into()))?;
        let hooks = hooks(ask.webhook_on.as_deref(), ask.webhook_body.as_deref())?;
        let delay_seconds = ask.delay_seconds.unwrap_or(0);
        if delay_seconds < 0 {
            return Err(Error::InvalidDelay);
        }
        if delay_seconds > HORIZON_SECONDS {
            return Err(Error::DelayTooLarge);
        }
        let run_at_ms = match present(ask.run_at.as_deref()) {
            None => 0,
            Some(text) => {
                let at = Time::parse(text).ok_or(Error::InvalidRunAt)?.ms();
                if at > now_ms() + HORIZON_SECONDS * 1000 {
                    return Err(Error::RunAtTooFar);
                }
                at.max(1) // any time that has passed is as good; 0 says "absent" to the script
            }
        };
        let max_attempts = ask.max_attempts.unwrap_or(0).clamp(0, MAX_ATTEMPTS);
        Ok(Self {
            command,
            payload: ask.payload,
            priority: Priority::clamped(ask.priority.unwrap_or(0)),
            webhook,
            webhook_text,
            hooks,
            max_attempts: u16::try_from(max_attempts).expect("clamped"),
            idempotency_key: present(ask.idempotency_key.as_deref()).map(str::to_owned),
            run_at_ms,
            delay_ms: delay_seconds * 1000,
        })
    }
}

/// Which ends are told, and in which form. Checked also when there is no webhook.
fn hooks(on: Option<&[String]>, body: Option<&str>) -> http::Result<Hooks> {
    let wrong = |why: &'static str| Err(Error::InvalidBody(why.into()));
    let hooks = match on {
        None => Hooks::ALL,
        Some([]) => return wrong("webhookOn: at least one of COMPLETED, FAILED, DLQ, CANCELLED"),
        Some(names) => {
            let ends = names.iter().map(|name| match name.as_str() {
                "COMPLETED" => Some(End::Completed),
                "FAILED" => Some(End::Failed),
                "DLQ" => Some(End::Dead),
                "CANCELLED" => Some(End::Cancelled),
                _ => None,
            });
            match ends.collect::<Option<Vec<_>>>() {
                Some(ends) => Hooks::of(ends),
                None => return wrong("webhookOn: of COMPLETED, FAILED, DLQ, CANCELLED"),
            }
        }
    };
    match body {
        None | Some("full") => Ok(hooks),
        Some("thin") => Ok(hooks.thin()),
        Some(_) => wrong("webhookBody: full or thin"),
    }
}

/// The node's clock. It orders ids and bounds plans; it decides nothing.
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

async fn enqueue(
    app: &App,
    span: &mut OpenSpan,
    producer: &Producer,
    headers: &TraceHeaders,
    draft: Draft,
) -> http::Result<Created> {
    if app.store.nearly_full() {
        return Err(Error::StoreUnavailable);
    }
    let tenant = &producer.tenant;
    let label = app.labels.of_task(&app.store, &draft.command).await?;
    events::create_asks(span, &app.labels.spelled(label, &draft.command));
    let queue = QueueName::of(tenant, &draft.command);
    let idempotency =
        draft.idempotency_key.as_deref().map(|key| record::idempotency_digest(&queue, key));
    let shard = shard_of(app, &draft.command, idempotency.as_deref());
    let partition = app.partitions.of_shard(&queue, shard);
    let id = TaskId::new(partition, u64::try_from(now_ms()).unwrap_or(0));

    let trace_parent = span.traceparent().or_else(|| headers.traceparent.clone());
    let destination =
        draft.webhook.as_ref().map(|target| record::destination_digest(tenant, &target.origin()));
    let new = NewBody {
        queue,
        priority: draft.priority,
        label,
        idempotency: idempotency.as_deref(),
        hooks: if draft.webhook.is_some() { draft.hooks } else { Hooks::NONE },
        destination: destination.as_deref(),
        tenant,
        command: &draft.command,
        webhook: draft.webhook_text.as_deref(),
        trace_parent: trace_parent.as_deref(),
        trace_state: headers.tracestate.as_deref(),
        baggage: headers.baggage.as_deref(),
        payload: draft.payload.get().as_bytes(),
    };
    let (stored, body) = place_body(app, &id, &new).await?;
    // Only a replayed key compares payloads; the others need not be hashed.
    let digest = match idempotency {
        Some(_) => record::content_digest(&[new.payload]),
        None => String::new(),
    };
    let made = Arc::new(events::Made {
        id,
        label,
        command: draft.command.clone(),
        tenant: tenant.clone(),
        producer: producer.subject.clone(),
        priority: draft.priority,
        trace_parent: trace_parent.clone(),
        told: AtomicBool::new(false),
    });
    let (unheard, of) = (app.clone(), made.clone());
    let enqueued = app
        .store
        .run_with_orphan(
            partition,
            Enqueue {
                max_attempts: app.settings.tasks.max_attempts_default,
                retention_s: app.settings.tasks.retention_seconds,
                id: &id,
                command: draft.command.as_str(),
                run_at_ms: draft.run_at_ms,
                delay_ms: draft.delay_ms,
                max: draft.max_attempts,
                digest: &digest,
                stored,
                body,
            },
            move |enqueued: Enqueued| tell_unheard(&unheard, queue, &of, &enqueued),
        )
        .await?;
    if enqueued.replayed {
        events::count_replay(app, &made);
        let task = state::find(app, &enqueued.id, tenant).await?.task();
        events::replayed(span, &task);
        return Ok(Created { task, replayed: true, mismatch: enqueued.mismatch });
    }
    if enqueued.length == 1 {
        app.announce_ready(partition, &queue, || Cause {
            trace_parent: trace_parent.clone(),
            trace_state: headers.tracestate.clone(),
            baggage: headers.baggage.clone(),
        });
    }
    let task = new_task(id, &new, &enqueued);
    events::created(app, Some(span), &made, enqueued.max);
    Ok(Created { task, replayed: false, mismatch: false })
}

/// Tells of a task whose producer did not wait for the answer.
fn tell_unheard(app: &App, queue: QueueName, made: &events::Made, enqueued: &Enqueued) {
    if enqueued.replayed {
        return events::count_replay(app, made);
    }
    if enqueued.length == 1 {
        let trace_parent = made.trace_parent.clone();
        let cause = || Cause { trace_parent, ..Cause::default() };
        app.announce_ready(made.id.partition(), &queue, cause);
    }
    events::created(app, None, made, enqueued.max);
}

/// Which part of a spread queue a task goes to: the same one for the same idempotency key.
fn shard_of(app: &App, command: &Command, idempotency: Option<&str>) -> u16 {
    let shards = app.settings.spread_of(command).clamp(1, app.partitions.count());
    match (shards, idempotency) {
        (1, _) => 0,
        (_, Some(digest)) => {
            digest.bytes().fold(0u16, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into())) % shards
        }
        (_, None) => rand::random_range(0..shards),
    }
}

/// Puts a large body beside the call. Returns whether it did, and what the script gets.
async fn place_body(app: &App, id: &TaskId, new: &NewBody<'_>) -> http::Result<(bool, Bytes)> {
    let packed = new.pack();
    if packed.len() <= INSIDE {
        return Ok((false, packed.into()));
    }
    let mut whole = BytesMut::with_capacity(BODY_HEAD + packed.len());
    whole.put_bytes(0, BODY_HEAD);
    whole.put_slice(&packed);
    let key = keys::body(&app.partitions, id);
    app.store.put(id.partition(), key, whole.freeze(), ORPHAN).await?;
    Ok((true, Bytes::copy_from_slice(&packed[..packed.len().min(STORED_HEAD)])))
}

fn new_task(id: TaskId, new: &NewBody<'_>, enqueued: &Enqueued) -> Task {
    let due = Time::from_ms(enqueued.due_ms);
    let created = Time::from_ms(enqueued.created_ms);
    let delayed = due > created;
    let text = |text: Option<&str>| text.map(str::to_owned);
    Task {
        id,
        command: new.command.as_str().to_owned(),
        payload: String::from_utf8_lossy(new.payload).into_owned(),
        priority: new.priority.number(),
        webhook: text(new.webhook),
        trace_parent: text(new.trace_parent),
        trace_state: text(new.trace_state),
        baggage: text(new.baggage),
        status: crate::model::Status::Pending,
        last_known_location: if delayed { Location::Delayed } else { Location::Ready },
        worker_id: None,
        lease_until: None,
        lease_token: None,
        attempts: 0,
        max_attempts: enqueued.max,
        error: None,
        tenant_id: new.tenant.as_str().to_owned(),
        created_at: created,
        updated_at: created,
        visible_at: delayed.then_some(due),
        completed_at: None,
    }
}

//! `POST /tasks/{id}/result`, `POST /tasks/batch/results`: a worker's verdict ends a task.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::app::{App, Submitter, keys};
use crate::http::{
    self, Error, ItemError, LeaseTokenHeader, Missing, Object, RequestBody, TaskPath, Worker,
    params, responses, scope,
};
use crate::model::record::{self, End, ResultText, Terminal, Unreadable};
use crate::model::{LeaseToken, Refusal, ResultRecord, TaskId, TenantId};
use crate::telemetry::trace::{self, Step};
use crate::{script, store};

use super::artifacts::{Artifact, Artifacts};
use super::{cut, events, state};

/// A verdict.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SubmitRequest)]
pub struct Request {
    /// `COMPLETED` or `FAILED`.
    #[schema(value_type = Verdicts)]
    status: String,
    /// An object; required when completed. Kept byte for byte.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    result: Option<Box<RawValue>>,
    /// Why; required when failed, cut to 4096 bytes.
    #[serde(default)]
    error: Option<String>,
    /// At most 100.
    #[serde(default)]
    #[schema(max_items = 100, value_type = Option<Vec<Artifact>>)]
    artifacts: Option<Vec<Object<Artifact>>>,
    /// The lease, unless the header names it.
    #[serde(default)]
    lease_token: Option<String>,
}

/// How it ended, for the description of the API.
#[derive(ToSchema)]
#[schema(as = Verdict, rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "only its schema is used")]
enum Verdicts {
    Completed,
    Failed,
}

/// Several verdicts: an object with `results`, or a bare array.
#[derive(Deserialize, ToSchema)]
#[schema(as = SubmitBatch)]
pub struct Batch {
    /// 1..100 of them, each on its own; `taskId` names the task.
    #[schema(value_type = Vec<BatchItem>, min_items = 1, max_items = 100)]
    results: Vec<Box<RawValue>>,
}

/// One verdict of a batch, for the description of the API: its bytes are read by [`parse_item`].
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is used")]
pub struct BatchItem {
    /// The task.
    task_id: String,
    /// The verdict.
    #[serde(flatten)]
    verdict: Request,
}

/// The answer to a batch, in its order.
#[derive(Serialize, ToSchema)]
#[schema(as = SubmitBatchResponse)]
pub struct BatchResponse {
    results: Vec<Item>,
}

/// What became of one verdict of a batch.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SubmitItem)]
pub struct Item {
    task_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ResultRecord>,
    /// It was stored before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    /// `error`, `code` and `detail`, if it was refused.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    refused: Option<ItemError>,
}

script! {
    /// In progress → completed or failed.
    pub struct Submit<'a> = "submit", write, repeatable {
        once { hold_ms: u64 }
        each {
            id: &'a TaskId, tenant: &'a TenantId, worker: &'a str, token: &'a str, kind: u8,
            digest: &'a str, error: &'a str, parts: Bytes, apart: &'a str, folder: &'a str, span: &'a str,
        }
    } -> Submitted { replayed: bool, record: Bytes, head: Bytes, awaited: bool, trace: Option<String> }
}

/// Most verdicts of one batch.
const MAX_BATCH: usize = 100;
/// Results up to this size stand in the record, larger ones in a key of their own.
const INSIDE: usize = 4096;
/// How long a result lives that no submit claimed.
const ORPHAN: std::time::Duration = std::time::Duration::from_secs(60);

/// A verdict that was checked.
struct Verdict {
    end: End,
    result: Option<Bytes>,
    error: String,
    artifacts: Artifacts,
    token: String,
}

/// Ends a task.
#[utoipa::path(post, path = "/tasks/{id}/result", tag = "worker", request_body = Request,
    params(params::Id, params::Lease),
    responses((status = 200, body = ResultRecord), responses::Authenticated, responses::BadRequest, responses::NotFound, responses::Conflict), security(("bearer" = [])))]
pub async fn submit(
    State(app): State<App>,
    worker: Worker<scope::Result>,
    path: TaskPath,
    token: LeaseTokenHeader,
    RequestBody(ask): RequestBody<Request>,
) -> http::Result<Response> {
    let mut verdict = Verdict::check(ask)?;
    verdict.token = http::lease_token(token, Some(verdict.token));
    let id = path.id(Missing::Task)?;
    let (record, replayed) = store(&app, &worker, &id, verdict).await?;
    Ok(http::replayable(replayed, &record))
}

/// Ends up to 100 tasks, each on its own.
#[utoipa::path(post, path = "/tasks/batch/results", tag = "worker", request_body = http::InKind<Batch, BatchItem>,
    responses((status = 200, body = http::InKind<BatchResponse, Item>), responses::Authenticated, responses::BadRequest, responses::NotFound, responses::Conflict), security(("bearer" = [])))]
pub async fn submit_batch(
    State(app): State<App>,
    worker: Worker<scope::Result>,
    ask: http::BareOr<Batch>,
) -> http::Result<Response> {
    let bare = ask.is_bare();
    let verdicts = ask.items("results", MAX_BATCH, |batch| batch.results)?;
    trace::say_of_request(trace::BATCH_COUNT, i64::try_from(verdicts.len()).unwrap_or(i64::MAX));
    let (app, worker) = (&app, &worker);
    let results = futures_util::future::join_all(
        verdicts.into_iter().map(|raw| submit_one(app, worker, raw)),
    )
    .await;
    Ok(match bare {
        true => Json(results).into_response(),
        false => Json(BatchResponse { results }).into_response(),
    })
}

async fn submit_one(app: &App, worker: &Worker<scope::Result>, raw: Box<RawValue>) -> Item {
    let parsed = parse_item(&raw);
    let (task_id, verdict) = match parsed {
        Ok(parsed) => parsed,
        Err((task_id, refused)) => {
            return Item { task_id, result: None, replayed: false, refused: Some(refused.item()) };
        }
    };
    let stored = async {
        let missing = Error::NotFound(Missing::Task);
        let id = TaskId::parse(&task_id).ok_or(missing)?;
        store(app, worker, &id, Verdict::check(verdict)?).await
    };
    match stored.await {
        Ok((record, replayed)) => Item { task_id, result: Some(record), replayed, refused: None },
        Err(refused) => {
            Item { task_id, result: None, replayed: false, refused: Some(refused.item()) }
        }
    }
}

/// An item's task and verdict. Its raw JSON is read twice, because flattening would take the bytes of
/// the result apart.
fn parse_item(raw: &RawValue) -> Result<(String, Request), (String, Error)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        task_id: String,
    }
    let named: Named = http::parse(raw.get().as_bytes())
        .map_err(|detail| (String::new(), Error::InvalidBody(detail)))?;
    match http::parse(raw.get().as_bytes()) {
        Ok(verdict) => Ok((named.task_id, verdict)),
        Err(detail) => Err((named.task_id, Error::InvalidBody(detail))),
    }
}

impl Verdict {
    fn check(ask: Request) -> http::Result<Self> {
        let end = match ask.status.as_str() {
            "COMPLETED" => End::Completed,
            "FAILED" => End::Failed,
            _ => return Err(Error::InvalidStatus),
        };
        let result = ask.result.filter(|json| json.get() != "null");
        if result.as_ref().is_some_and(|json| !json.get().starts_with('{')) {
            return Err(Error::InvalidRequestBody("result: an object is expected".into()));
        }
        let error = ask.error.unwrap_or_default();
        match end {
            End::Completed if result.is_none() => return Err(Error::ResultRequired),
            End::Failed if error.trim().is_empty() => return Err(Error::ErrorRequired),
            _ => {}
        }
        Ok(Self {
            end,
            result: result.map(|json| Bytes::copy_from_slice(json.get().as_bytes())),
            error: cut(&error).to_owned(),
            artifacts: Artifacts::check(ask.artifacts)?,
            token: ask.lease_token.unwrap_or_default(),
        })
    }

    /// By which a repeat is told: status, result and error. Artifacts do not count.
    fn digest(&self) -> String {
        let result = self.result.as_deref().unwrap_or_default();
        record::content_digest(&[&[self.end.byte()], result, self.error.as_bytes()])
    }
}

async fn store(
    app: &App,
    worker: &Worker<scope::Result>,
    id: &TaskId,
    verdict: Verdict,
) -> http::Result<(ResultRecord, bool)> {
    let step = events::Drawn::of(Step::SubmitResult);
    let stored = store_below(app, &step, worker, id, verdict).await;
    step.unless_refused(app, id, worker, stored)
        .await
        .map_err(|error| error.not_found_as(Missing::Task))
}

async fn store_below(
    app: &App,
    step: &events::Drawn,
    worker: &Worker<scope::Result>,
    id: &TaskId,
    verdict: Verdict,
) -> http::Result<(ResultRecord, bool)> {
    let digest = verdict.digest();
    let by = Submitter {
        tenant: &worker.tenant,
        worker: &worker.subject,
        token: &verdict.token,
        span: step.offered(),
    };
    let artifacts = verdict.artifacts.store(app, *id, by).await?;
    let (result, apart) = place_result(app, id, verdict.result).await?;
    let parts = Terminal::pack_parts(result.as_ref(), artifacts.record.as_deref());
    let count = artifacts.count;
    let (unheard, again, of, by) = (app.clone(), step.clone(), *id, worker.subject.clone());
    let submitted = app
        .store
        .run_with_orphan(
            id.partition(),
            Submit {
                hold_ms: app.hold_ms(),
                id,
                tenant: &worker.tenant,
                worker: &worker.subject,
                token: &verdict.token,
                kind: verdict.end.byte(),
                digest: &digest,
                error: &verdict.error,
                parts: parts.into(),
                apart: &apart,
                folder: &artifacts.folder(),
                span: step.offered(),
            },
            move |submitted: Submitted| {
                if let Err(error) = tell(&unheard, &again, &of, &submitted, &by, count) {
                    state::unreadable(error);
                }
            },
        )
        .await;
    let submitted = match submitted {
        Ok(submitted) => {
            if submitted.replayed {
                artifacts.are_not_wanted(app);
            }
            submitted
        }
        Err(error) => {
            // Of any other error it is not known whether a record names them: a sweep finds out.
            if let store::Error::Refused(_) = error {
                artifacts.are_not_wanted(app);
            }
            return Err(refused(error));
        }
    };
    let terminal =
        tell(app, step, id, &submitted, &worker.subject, count).map_err(state::unreadable)?;
    Ok((state::result_record(app, *id, &terminal).await?, submitted.replayed))
}

/// Tells of it, also when the worker did not wait for the answer.
fn tell(
    app: &App,
    step: &events::Drawn,
    id: &TaskId,
    submitted: &Submitted,
    worker: &str,
    artifacts: usize,
) -> Result<Terminal, Unreadable> {
    let terminal = Terminal::read(&submitted.record)?;
    if !submitted.replayed {
        events::submitted(app, step, id, submitted, &terminal, worker, artifacts);
    }
    if submitted.awaited {
        app.announce_done(id);
    }
    Ok(terminal)
}

fn refused(error: store::Error) -> Error {
    match error {
        // What was stored beside the call waited too long for it: the worker may submit again.
        store::Error::Refused(Refusal::PartLost) => Error::StoreUnavailable,
        other => Error::from(other).not_found_as(Missing::Task),
    }
}

/// Puts a large result beside the call, under a name of its own: a refused submit must not touch the
/// accepted one.
async fn place_result(
    app: &App,
    id: &TaskId,
    result: Option<Bytes>,
) -> http::Result<(Option<ResultText>, String)> {
    match result {
        Some(json) if json.len() > INSIDE => {
            let name = LeaseToken::random().as_str().to_owned();
            let key = keys::part(&app.partitions, id, &name);
            app.store.put(id.partition(), key, json, ORPHAN).await?;
            Ok((Some(ResultText::Apart(name.clone())), name))
        }
        inline => Ok((inline.map(ResultText::Inline), String::new())),
    }
}

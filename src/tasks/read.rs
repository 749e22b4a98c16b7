//! `GET /tasks/{id}`, `GET /tasks/{id}/result`: what became of a task.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::http::{self, Error, Missing, Query, Reader, TaskPath, params, responses};
use crate::model::{ResultRecord, Task, TaskId, TenantId};
use crate::script;
use crate::telemetry::metrics::Wakeup;

use super::{find, state};

/// How long to wait.
#[derive(Deserialize, IntoParams, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Wait {
    /// 0..60.
    #[param(value_type = i64, required = false)]
    wait_seconds: Option<i64>,
}

/// A task and how it ended.
#[derive(Serialize, ToSchema)]
pub struct TaskResult {
    task: Task,
    result: ResultRecord,
}

script! {
    /// Somebody waits for the end of a task.
    pub struct Await<'a> = "await", write, repeatable {
        once {}
        each { id: &'a TaskId, wait_ms: u64 }
    } -> Awaited { until_ms: i64 }
}

/// Longest wait.
const MAX_WAIT_SECONDS: i64 = 60;
/// How often a waiting read looks without having been told.
const SAFETY_POLL: Duration = Duration::from_secs(2);

/// A task, wherever it is.
#[utoipa::path(get, path = "/tasks/{id}", tag = "read", params(params::Id),
    responses((status = 200, body = Task), responses::Authenticated, responses::BadRequest, responses::NotFound), security(("bearer" = [])))]
pub async fn read(
    State(app): State<App>,
    reader: Reader,
    path: TaskPath,
) -> http::Result<Json<Task>> {
    let id = path.id(Missing::Anything)?;
    Ok(Json(find(&app, &id, &reader.tenant).await?.task()))
}

/// A task's result; waits for it when asked to.
#[utoipa::path(get, path = "/tasks/{id}/result", tag = "read", params(params::Id, Wait),
    responses((status = 200, body = TaskResult), responses::Authenticated, responses::BadRequest, responses::NotFound), security(("bearer" = [])))]
pub async fn result(
    State(app): State<App>,
    reader: Reader,
    path: TaskPath,
    Query(ask): Query<Wait>,
) -> http::Result<Json<TaskResult>> {
    let id = path.id(Missing::Task)?;
    let wait = ask.wait_seconds.unwrap_or(0).clamp(0, MAX_WAIT_SECONDS).unsigned_abs();
    match wait {
        0 => look(&app, &id, &reader.tenant).await?.map(Json).ok_or(none_yet()),
        _ => wait_for(&app, &id, &reader.tenant, Duration::from_secs(wait)).await,
    }
}

fn none_yet() -> Error {
    Error::NotFound(Missing::Result)
}

async fn look(app: &App, id: &TaskId, tenant: &TenantId) -> http::Result<Option<TaskResult>> {
    let found = find(app, id, tenant).await.map_err(|error| error.not_found_as(Missing::Task))?;
    let Some(terminal) = found.terminal() else { return Ok(None) };
    let result = state::result_record(app, *id, terminal).await?;
    Ok(Some(TaskResult { task: found.task(), result }))
}

async fn wait_for(
    app: &App,
    id: &TaskId,
    tenant: &TenantId,
    wait: Duration,
) -> http::Result<Json<TaskResult>> {
    let until = Instant::now() + wait;
    let awaiting = app.results.join(*id);
    let listening = app.store.listen(id.partition());
    if app.store.is_up() {
        let _ = tokio::time::timeout(SAFETY_POLL, listening.ready()).await;
    }
    // Redis' time when the wait began, and when that was here: nothing else tells it to a read.
    let mut asked: Option<(i64, Instant)> = None;
    let mut told = None;
    loop {
        let woken = awaiting.woken();
        tokio::pin!(woken);
        woken.as_mut().enable();
        // The mark makes the ending node tell; the look after it finds what ended before.
        let looked = async {
            if asked.is_none() {
                let wait_ms = u64::try_from(wait.as_millis()).expect("at most a minute");
                let awaited = app.store.run(id.partition(), Await { id, wait_ms }).await?;
                asked = Some((awaited.until_ms - wait_ms.cast_signed(), Instant::now()));
            }
            look(app, id, tenant).await
        };
        match looked.await {
            Ok(Some(result)) => {
                if let Some(source) = told {
                    app.metrics.wakeups.with(source).inc();
                    let latency = asked.map(|asked| since_end(&result.result, asked));
                    let latency = latency.unwrap_or_default().as_secs_f64();
                    app.metrics.wakeup_latency.with(source).observe(latency);
                }
                return Ok(Json(result));
            }
            Ok(None) => {}
            Err(Error::StoreUnavailable) if Instant::now() < until => {
                http::deliberately(async {
                    tokio::select! {
                        () = app.store.up() => Ok(()),
                        () = app.draining.cancelled() => Err(none_yet()),
                        () = tokio::time::sleep_until(until) => Err(Error::StoreUnavailable),
                    }
                })
                .await?;
                asked = None;
                continue;
            }
            Err(error) => return Err(error),
        }
        let turn = http::deliberately(async {
            tokio::select! {
                () = woken => Ok(awaiting.source()),
                () = tokio::time::sleep_until(until.min(Instant::now() + SAFETY_POLL)) => {
                    if Instant::now() < until { Ok(Wakeup::ResultPoll) } else { Err(none_yet()) }
                }
                () = app.draining.cancelled() => Err(none_yet()),
            }
        });
        told = Some(turn.await?);
    }
}

/// Time since a task ended. `asked` is a moment by Redis' clock and by this node's: a wait is too
/// short for the two to drift apart.
fn since_end(result: &ResultRecord, (redis_ms, here): (i64, Instant)) -> Duration {
    let before_asked = redis_ms - result.completed_at.ms();
    let asked_ago = i64::try_from(here.elapsed().as_millis()).unwrap_or(i64::MAX);
    Duration::from_millis(u64::try_from(before_asked.saturating_add(asked_ago)).unwrap_or(0))
}

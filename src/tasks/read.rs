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
    let mut asked = false;
    let mut told = None;
    loop {
        let woken = awaiting.woken();
        tokio::pin!(woken);
        woken.as_mut().enable();
        // The mark makes the ending node tell; the look after it finds what ended before.
        let looked = async {
            if !asked {
                let wait_ms = u64::try_from(wait.as_millis()).expect("at most a minute");
                app.store.run(id.partition(), Await { id, wait_ms }).await?;
            }
            look(app, id, tenant).await
        };
        match looked.await {
            Ok(Some(result)) => {
                if let Some(source) = told {
                    app.metrics.wakeups.with(source).inc();
                }
                return Ok(Json(result));
            }
            Ok(None) => asked = true,
            Err(Error::StoreUnavailable) if Instant::now() < until => {
                http::deliberately(async {
                    tokio::select! {
                        () = app.store.up() => Ok(()),
                        () = app.draining.cancelled() => Err(none_yet()),
                        () = tokio::time::sleep_until(until) => Err(Error::StoreUnavailable),
                    }
                })
                .await?;
                asked = false;
                continue;
            }
            Err(error) => return Err(error),
        }
        let turn = http::deliberately(async {
            tokio::select! {
                () = woken => Ok(Wakeup::ResultPubsub),
                () = tokio::time::sleep_until(until.min(Instant::now() + SAFETY_POLL)) => {
                    if Instant::now() < until { Ok(Wakeup::ResultPoll) } else { Err(none_yet()) }
                }
                () = app.draining.cancelled() => Err(none_yet()),
            }
        });
        told = Some(turn.await?);
    }
}

//! `POST /tasks/{id}/heartbeat`: a worker keeps its task.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::{
    self, BodyOrEmpty, LeaseTokenHeader, Missing, TaskPath, Worker, params, responses, scope,
};
use crate::model::{TaskId, TenantId, Time};
use crate::script;
use crate::telemetry::trace::Step;

use super::{claim, events};

/// How long to keep it.
#[derive(Deserialize, ToSchema, Default)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = HeartbeatRequest)]
pub struct Request {
    /// From now on, so it may shorten the lease; ≤ 0 or absent is the default, above 43200 is 43200.
    extend_seconds: Option<i64>,
    /// The lease, unless the header names it.
    lease_token: Option<String>,
}

/// It is kept.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = HeartbeatResponse)]
pub struct Response {
    ok: bool,
    #[schema(value_type = String, format = "date-time")]
    lease_until: Time,
}

script! {
    /// The lease ends `extend_ms` from now.
    pub struct Heartbeat<'a> = "heartbeat", write, repeatable {
        once {}
        each { id: &'a TaskId, tenant: &'a TenantId, worker: &'a str, token: &'a str, extend_ms: u64, span: &'a str }
    } -> Kept { until_ms: i64, head: Bytes, attempt: u16, trace: Option<String> }
}

/// Extends a lease.
#[utoipa::path(post, path = "/tasks/{id}/heartbeat", tag = "worker", request_body(content = Option<Request>),
    params(params::Id, params::Lease),
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest, responses::NotFound, responses::Conflict), security(("bearer" = [])))]
pub async fn heartbeat(
    State(app): State<App>,
    worker: Worker<scope::Heartbeat>,
    path: TaskPath,
    token: LeaseTokenHeader,
    BodyOrEmpty(ask): BodyOrEmpty<Request>,
) -> http::Result<Json<Response>> {
    let id = path.id(Missing::Held)?;
    let token = http::lease_token(token, ask.lease_token);
    let extend_ms = claim::lease_ms(&app, ask.extend_seconds);
    let step = events::Drawn::of(Step::Heartbeat);
    let kept = app
        .store
        .run(
            id.partition(),
            Heartbeat {
                id: &id,
                tenant: &worker.tenant,
                worker: &worker.subject,
                token: &token,
                extend_ms,
                span: step.offered(),
            },
        )
        .await;
    let kept = step
        .unless_refused(&app, &id, &worker, kept)
        .await
        .map_err(|error| error.not_found_as(Missing::Held))?;
    events::kept(&app, &step, &id, &kept, &worker.subject, extend_ms);
    Ok(Json(Response { ok: true, lease_until: Time::from_ms(kept.until_ms) }))
}

//! `POST /tasks/{id}/abandon`: a worker gives a task back unused.

use axum::extract::State;
use axum::response::Response as Answer;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::{
    self, BodyOrEmpty, LeaseTokenHeader, Missing, TaskPath, Worker, params, responses, scope,
};
use crate::model::{TaskId, TenantId};
use crate::script;
use crate::telemetry::trace::Step;

use super::events;

/// Nothing needs to be said.
#[derive(Deserialize, ToSchema, Default)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = AbandonRequest)]
pub struct Request {
    /// The lease, unless the header names it.
    lease_token: Option<String>,
}

/// It is back.
#[derive(Serialize, ToSchema)]
#[schema(as = AbandonResponse)]
pub struct Response {
    /// `requeued`
    status: &'static str,
}

script! {
    /// In progress → the head of its ready list.
    pub struct Abandon<'a> = "abandon", write, repeatable {
        once {}
        each { id: &'a TaskId, tenant: &'a TenantId, worker: &'a str, token: &'a str, undelivered: bool, span: &'a str }
    } -> Abandoned { replayed: bool, head: Bytes, attempt: u16, claimed_ms: i64, length: u64, trace: Option<String> }
}

/// Gives a task back at once; the attempt is not counted.
#[utoipa::path(post, path = "/tasks/{id}/abandon", tag = "worker", request_body(content = Option<Request>),
    params(params::Id, params::Lease),
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest, responses::NotFound, responses::Conflict), security(("bearer" = [])))]
pub async fn abandon(
    State(app): State<App>,
    worker: Worker<scope::Abandon>,
    path: TaskPath,
    token: LeaseTokenHeader,
    BodyOrEmpty(ask): BodyOrEmpty<Request>,
) -> http::Result<Answer> {
    let id = path.id(Missing::Held)?;
    let token = http::lease_token(token, ask.lease_token);
    let step = events::Drawn::of(Step::Abandon);
    let (unheard, again, by) = (app.clone(), step.clone(), worker.subject.clone());
    let abandoned = app
        .store
        .run_with_orphan(
            id.partition(),
            Abandon {
                id: &id,
                tenant: &worker.tenant,
                worker: &worker.subject,
                token: &token,
                undelivered: false,
                span: step.offered(),
            },
            move |abandoned: Abandoned| tell(&unheard, &again, &id, &abandoned, &by),
        )
        .await;
    let abandoned = step
        .unless_refused(&app, &id, &worker, abandoned)
        .await
        .map_err(|error| error.not_found_as(Missing::Held))?;
    tell(&app, &step, &id, &abandoned, &worker.subject);
    Ok(http::replayable(abandoned.replayed, &Response { status: "requeued" }))
}

/// Tells of it, also when the worker did not wait for the answer.
fn tell(app: &App, step: &events::Drawn, id: &TaskId, abandoned: &Abandoned, worker: &str) {
    events::abandoned(app, step, id, abandoned, worker);
    let latest = step.after(abandoned.trace.as_deref());
    app.returned(id, &abandoned.head, abandoned.length, latest);
}

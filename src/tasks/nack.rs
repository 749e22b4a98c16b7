//! `POST /tasks/{id}/nack`: a worker gives a task back. It backs off, or is buried.

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

use super::{cut, events};

/// Why, and for how long.
#[derive(Deserialize, ToSchema, Default)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = NackRequest)]
pub struct Request {
    /// Seconds until it may be claimed again, at most `backoffMaxSeconds`; ≤ 0 leaves it to the policy.
    delay_seconds: Option<i64>,
    /// Becomes the task's `error` if no attempt is left; cut to 4096 bytes.
    reason: Option<String>,
    /// The lease, unless the header names it.
    lease_token: Option<String>,
}

/// What became of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NackResponse)]
pub struct Response {
    /// `requeued` or `dlq`.
    status: &'static str,
    /// Until it may be claimed again, rounded up; 0 in the DLQ.
    delay_seconds: u64,
}

script! {
    /// In progress → delayed, or → dead when no attempt is left.
    pub struct Nack<'a> = "nack", write, repeatable {
        once { policy: &'static str, base_ms: u64, max_ms: u64, dlq_ms: u64, hold_ms: u64 }
        each {
            id: &'a TaskId, tenant: &'a TenantId, worker: &'a str, token: &'a str, delay_ms: u64,
            jitter: f64, reason: &'a str, span: &'a str,
        }
    } -> Nacked {
        replayed: bool, outcome: String, delay_ms: u64, head: Bytes, attempt: u16, claimed_ms: i64,
        held_ms: i64, record: Bytes, awaited: bool, trace: Option<String>,
    }
}

impl Nacked {
    /// Whether no attempt was left.
    pub fn dead(&self) -> bool {
        self.outcome == "dead"
    }
}

/// Gives a task back for later.
#[utoipa::path(post, path = "/tasks/{id}/nack", tag = "worker", request_body(content = Option<Request>),
    params(params::Id, params::Lease),
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest, responses::NotFound, responses::Conflict), security(("bearer" = [])))]
pub async fn nack(
    State(app): State<App>,
    worker: Worker<scope::Nack>,
    path: TaskPath,
    token: LeaseTokenHeader,
    BodyOrEmpty(ask): BodyOrEmpty<Request>,
) -> http::Result<Answer> {
    let id = path.id(Missing::Held)?;
    let token = http::lease_token(token, ask.lease_token);
    let step = events::Drawn::of(Step::Nack);
    let rules = app.rules();
    let told = cut(ask.reason.as_deref().unwrap_or_default());
    let (unheard, again, by) = (app.clone(), step.clone(), worker.subject.clone());
    let why = told.to_owned();
    let nacked = app
        .store
        .run_with_orphan(
            id.partition(),
            Nack {
                policy: rules.policy,
                base_ms: rules.base_ms,
                max_ms: rules.max_ms,
                dlq_ms: rules.dlq_ms,
                hold_ms: rules.hold_ms,
                id: &id,
                tenant: &worker.tenant,
                worker: &worker.subject,
                token: &token,
                delay_ms: ask
                    .delay_seconds
                    .unwrap_or(0)
                    .clamp(0, i64::from(u32::MAX))
                    .unsigned_abs()
                    * 1000,
                jitter: rand::random(),
                reason: told,
                span: step.offered(),
            },
            move |nacked: Nacked| tell(&unheard, &again, &id, &nacked, &by, &why),
        )
        .await;
    let nacked = step
        .unless_refused(&app, &id, &worker, nacked)
        .await
        .map_err(|error| error.not_found_as(Missing::Held))?;
    tell(&app, &step, &id, &nacked, &worker.subject, told);
    let answer = match nacked.dead() {
        true => Response { status: "dlq", delay_seconds: 0 },
        false => Response { status: "requeued", delay_seconds: nacked.delay_ms.div_ceil(1000) },
    };
    Ok(http::replayable(nacked.replayed, &answer))
}

/// Tells of it, also when the worker did not wait for the answer.
fn tell(app: &App, step: &events::Drawn, id: &TaskId, nacked: &Nacked, worker: &str, told: &str) {
    events::nacked(app, step, id, nacked, worker, told);
    if nacked.awaited {
        app.announce_done(id);
    }
}

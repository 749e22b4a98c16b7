//! `POST /tasks/{id}/cancel`, `DELETE /admin/tasks/{id}`: a task that nobody works on is called off.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;

use crate::app::App;
use crate::http::{self, Admin, Caller, Missing, Producer, TaskPath, params, responses};
use crate::model::{Task, TaskId, TenantId};
use crate::script;
use crate::telemetry::trace::Step;

use super::{events, find};

script! {
    /// Ready or delayed → failed.
    pub struct Cancel<'a> = "cancel", write, once_only {
        once { hold_ms: u64 }
        each { id: &'a TaskId, tenant: &'a TenantId, span: &'a str }
    } -> Cancelled { record: Bytes, head: Bytes, awaited: bool, trace: Option<String> }
}

/// Cancels a task of the producer's tenant.
#[utoipa::path(post, path = "/tasks/{id}/cancel", tag = "producer", params(params::Id),
    responses((status = 200, body = Task), responses::Authenticated, responses::BadRequest, responses::NotFound, responses::Conflict), security(("bearer" = [])))]
pub async fn cancel(
    State(app): State<App>,
    producer: Producer,
    path: TaskPath,
) -> http::Result<Json<Task>> {
    call_off(&app, path.id(Missing::Anything)?, &producer).await
}

/// Cancels a task.
#[utoipa::path(delete, path = "/admin/tasks/{id}", tag = "admin",
    params(params::Id, params::OfTenant),
    responses((status = 200, body = Task), responses::Authenticated, responses::BadRequest, responses::NotFound, responses::Conflict), security(("bearer" = [])))]
pub async fn cancel_as_admin(
    State(app): State<App>,
    admin: Admin,
    path: TaskPath,
) -> http::Result<Json<Task>> {
    let (id, tenant) = (path.id(Missing::Anything)?, admin.tenant()?);
    let mut caller = (*admin).clone();
    caller.tenant = tenant.clone();
    let task = call_off(&app, id, &caller).await?;
    tracing::info!(
        target: "codeq::audit", category = "audit", event = "admin.task_cancelled",
        by = admin.subject.as_str(), tenant_id = tenant.as_str(), task_id = %id,
        command = task.command.as_str(), after = "CANCELLED",
        "a task was cancelled by an administrator"
    );
    Ok(task)
}

async fn call_off(app: &App, id: TaskId, caller: &Caller) -> http::Result<Json<Task>> {
    let tenant = &caller.tenant;
    let step = events::Drawn::of(Step::Cancel);
    let cancel = Cancel { hold_ms: app.hold_ms(), id: &id, tenant, span: step.offered() };
    let (unheard, again) = (app.clone(), step.clone());
    let cancelled = app
        .store
        .run_with_orphan(id.partition(), cancel, move |cancelled: Cancelled| {
            tell(&unheard, &again, &id, &cancelled);
        })
        .await;
    let cancelled = step.unless_refused(app, &id, caller, cancelled).await?;
    tell(app, &step, &id, &cancelled);
    Ok(Json(find(app, &id, tenant).await?.task()))
}

/// Tells of it, also when the caller did not wait for the answer.
fn tell(app: &App, step: &events::Drawn, id: &TaskId, cancelled: &Cancelled) {
    events::cancelled(app, step, id, cancelled);
    if cancelled.awaited {
        app.announce_done(id);
    }
}

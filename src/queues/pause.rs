//! `POST /admin/queues/{command}/pause`, `…/resume`: claims of a queue stop, and go on.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, Cause};
use crate::http::{self, Admin, CommandPath, params, responses};
use crate::model::{Command, QueueName, TenantId};
use crate::script;

/// Whether a queue is paused now.
#[derive(Serialize, ToSchema)]
#[schema(as = PauseResponse)]
pub struct Response {
    command: String,
    paused: bool,
}

script! {
    /// Pauses or resumes a queue on one partition.
    pub struct Pause<'a> = "pause", write, repeatable {
        once {}
        each { queue: &'a QueueName, command: &'a str, tenant: &'a str, label: u16, paused: bool }
    } -> Paused { ready: u64, changed: bool }
}

/// While paused, claims answer empty.
#[utoipa::path(post, path = "/admin/queues/{command}/pause", tag = "admin",
    params(params::OfCommand, params::OfTenant),
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn pause(
    State(app): State<App>,
    admin: Admin,
    CommandPath(command): CommandPath,
) -> http::Result<Json<Response>> {
    set(&app, &admin, admin.tenant()?, &command, true).await
}

/// Waiting claims wake.
#[utoipa::path(post, path = "/admin/queues/{command}/resume", tag = "admin",
    params(params::OfCommand, params::OfTenant),
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn resume(
    State(app): State<App>,
    admin: Admin,
    CommandPath(command): CommandPath,
) -> http::Result<Json<Response>> {
    set(&app, &admin, admin.tenant()?, &command, false).await
}

async fn set(
    app: &App,
    admin: &Admin,
    tenant: &TenantId,
    command: &Command,
    paused: bool,
) -> http::Result<Json<Response>> {
    let queue = QueueName::of(tenant, command);
    // Somebody spelled it, and its gauge should say so: a label of its own.
    let label = app.labels.number(&app.store, command).await?;
    let mut changed = false;
    for partition in app.partitions_of(&queue, command) {
        let (command, tenant) = (command.as_str(), tenant.as_str());
        let ask = Pause { queue: &queue, command, tenant, label, paused };
        let done = app.store.run(partition, ask).await?;
        changed |= done.changed;
        if done.ready > 0 && !paused {
            app.announce_ready(partition, &queue, Cause::default);
        }
    }
    tracing::info!(
        target: "codeq::audit", category = "audit",
        event = if paused { "admin.queue_paused" } else { "admin.queue_resumed" },
        by = admin.subject.as_str(), tenant_id = tenant.as_str(), command = command.as_str(),
        before = word(paused != changed), after = word(paused),
        "a queue was paused or resumed by an administrator"
    );
    if changed {
        tracing::info!(
            target: "codeq::queue", category = "queue",
            event = if paused { "queue.paused" } else { "queue.resumed" },
            tenant_id = tenant.as_str(), command = command.as_str(),
            "a queue was paused or resumed"
        );
    }
    Ok(Json(Response { command: command.as_str().to_owned(), paused }))
}

fn word(paused: bool) -> &'static str {
    if paused { "paused" } else { "running" }
}

//! `GET /tasks/{id}/webhook`: what became of a task's webhook.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::{self, Error, Missing, Producer, TaskPath, params, responses};
use crate::model::{DeliveryId, TaskId, TenantId, Time};
use crate::script;

use super::shown::{Attempt, Brief};

/// The delivery of a task's last end.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TaskWebhook)]
pub struct Response {
    /// The task and the how manieth of its ends.
    webhook_id: String,
    /// `pending`, `delivered`, `dead` or `superseded`.
    state: &'static str,
    /// The last 20, oldest first.
    attempts: Vec<Attempt>,
    /// Only while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    next_attempt_at: Option<Time>,
}

script! {
    /// The latest delivery of a task.
    pub struct OfTask<'a> = "outbox_of_task", read, repeatable {
        once {}
        each { id: &'a TaskId, tenant: &'a TenantId }
    } -> Latest { delivery: String, record: Bytes, due_ms: i64, parked_ms: i64 }
}

/// The delivery of a task's last end that was to be told.
#[utoipa::path(get, path = "/tasks/{id}/webhook", operation_id = "task_webhook", tag = "read", params(params::Id),
    responses((status = 200, body = Response), responses::Authenticated, responses::NotFound), security(("bearer" = [])))]
pub async fn webhook(
    State(app): State<App>,
    producer: Producer,
    path: TaskPath,
) -> http::Result<Json<Response>> {
    let id = path.id(Missing::Anything)?;
    if !app.partitions.knows(id.partition()) {
        return Err(Error::NotFound(Missing::Anything));
    }
    let asked = OfTask { id: &id, tenant: &producer.tenant };
    let Latest { delivery, record, due_ms, parked_ms } =
        app.store.run(id.partition(), asked).await?;
    let id = DeliveryId::from_short(&delivery).ok_or(Error::NotFound(Missing::Anything))?;
    let brief = Brief::read(id, &record, due_ms, parked_ms)?;
    Ok(Json(Response {
        webhook_id: id.to_string(),
        state: brief.delivery.state.as_str(),
        attempts: brief.delivery.log.iter().map(|entry| Attempt::of(entry, false)).collect(),
        next_attempt_at: brief.next_attempt_at(),
    }))
}

//! `GET`, `DELETE /admin/webhooks/{id}`, `POST /admin/webhooks/{id}/replay`: one delivery is looked
//! at, dropped, or sent again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::{self, Admin, Error, Missing, Tenants, WebhookPath, params, responses};
use crate::model::{DeliveryId, TenantId};
use crate::script;
use crate::telemetry::trace;

use super::shown::{Brief, Record};

/// Which delivery is sent again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReplayResponse)]
pub struct Replayed {
    webhook_id: String,
}

script! {
    /// A delivery in brief.
    pub struct Read<'a> = "outbox_read", read, repeatable {
        once {}
        each { delivery: &'a str, tenant: &'a str, log: u8 }
    } -> Found { record: Bytes, due_ms: i64, parked_ms: i64 }
}

script! {
    /// A delivery goes for good.
    pub struct Drop<'a> = "outbox_drop", write, repeatable {
        once {}
        each { delivery: &'a str, tenant: &'a TenantId }
    } -> Dropped { dropped: bool, dead: bool }
}

script! {
    /// A delivery is sent again.
    pub struct Replay<'a> = "outbox_replay", write, once_only {
        once {}
        each {
            delivery: &'a str, tenant: &'a str, asked: &'a str, hold_ms: u64, recovery: &'a str,
        }
    } -> Again { moved: bool }
}

/// All that a log keeps.
const WHOLE_LOG: u8 = u8::MAX;

/// A delivery and its attempts.
#[utoipa::path(get, path = "/admin/webhooks/{id}", operation_id = "webhook", tag = "admin",
    params(params::WebhookId, params::OfTenants),
    responses((status = 200, body = Record), responses::Authenticated, responses::BadRequest, responses::NotFound), security(("bearer" = [])))]
pub async fn get(
    State(app): State<App>,
    admin: Admin,
    WebhookPath(id): WebhookPath,
) -> http::Result<Json<Record>> {
    let id = known(&app, id).ok_or(Error::NotFound(Missing::Anything))?;
    let (tenant, of_all) = match admin.tenants() {
        Tenants::One(tenant) => (tenant.tag(), false),
        Tenants::All => ("", true),
    };
    let ask = Read { delivery: &id.short(), tenant, log: WHOLE_LOG };
    let Found { record, due_ms, parked_ms } = app.store.run(id.partition(), ask).await?;
    Ok(Json(Brief::read(id, &record, due_ms, parked_ms)?.record(of_all)))
}

/// Drops a delivery that is pending or dead.
#[utoipa::path(delete, path = "/admin/webhooks/{id}", operation_id = "drop_webhook", tag = "admin",
    params(params::WebhookId, params::OfTenant),
    responses((status = 204, description = "It will not be sent; also when there is none such."), responses::Authenticated, responses::BadRequest, responses::NotFound), security(("bearer" = [])))]
pub async fn delete(
    State(app): State<App>,
    admin: Admin,
    WebhookPath(id): WebhookPath,
) -> http::Result<StatusCode> {
    let tenant = admin.tenant()?;
    // What can be no id is a mistake of the caller; that of a delivery which is gone is not.
    let id = id.ok_or(Error::NotFound(Missing::Anything))?;
    let Some(id) = known(&app, Some(id)) else { return Ok(StatusCode::NO_CONTENT) };
    let ask = Drop { delivery: &id.short(), tenant };
    let gone = app.store.run(id.partition(), ask).await?;
    if gone.dropped {
        tracing::info!(
            target: "codeq::audit", category = "audit", event = "admin.webhook_dropped",
            by = admin.subject.as_str(), tenant_id = tenant.as_str(), webhook_id = %id,
            before = if gone.dead { "dead" } else { "pending" },
            "a webhook delivery was dropped by an administrator"
        );
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a delivery again: the same id and body, attempts counted on.
#[utoipa::path(post, path = "/admin/webhooks/{id}/replay", operation_id = "replay_webhook", tag = "admin",
    params(params::WebhookId, params::OfTenant),
    responses((status = 202, body = Replayed), responses::Authenticated, responses::BadRequest, responses::NotFound), security(("bearer" = [])))]
pub async fn replay(
    State(app): State<App>,
    admin: Admin,
    WebhookPath(id): WebhookPath,
) -> http::Result<(StatusCode, Json<Replayed>)> {
    let tenant = admin.tenant()?;
    let id = known(&app, id).ok_or(Error::NotFound(Missing::Anything))?;
    let asked = trace::current_traceparent().unwrap_or_default();
    let ask = Replay {
        delivery: &id.short(),
        tenant: tenant.tag(),
        asked: &asked,
        hold_ms: app.hold_ms(),
        recovery: "",
    };
    let again = app.store.run(id.partition(), ask).await?;
    app.outbox.nudge(id.partition(), false);
    tracing::info!(
        target: "codeq::audit", category = "audit", event = "admin.webhook_replayed",
        by = admin.subject.as_str(), tenant_id = tenant.as_str(), webhook_id = %id,
        new_series = again.moved,
        "a webhook delivery is sent again for an administrator"
    );
    Ok((StatusCode::ACCEPTED, Json(Replayed { webhook_id: id.to_string() })))
}

/// An id whose partition the store has.
fn known(app: &App, id: Option<DeliveryId>) -> Option<DeliveryId> {
    id.filter(|id| app.partitions.knows(id.partition()))
}

//! `POST /workers/subscriptions/{id}/heartbeat`: a worker keeps its subscription.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::{self, BodyOrEmpty, Missing, SubscriptionPath, Worker, params, responses, scope};
use crate::model::{TenantId, Time};
use crate::script;

use super::{ID_LENGTH, Response, home, ttl_ms};

/// How long to keep it.
#[derive(Deserialize, ToSchema, Default)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = SubscriptionHeartbeatRequest)]
pub struct Request {
    /// From now on; ≤ 0 or absent is 300, above 86400 is 86400.
    ttl_seconds: Option<i64>,
}

script! {
    /// It ends `ttl_ms` from now.
    pub struct Extend<'a> = "subscription_extend", write, repeatable {
        once {}
        each { id: &'a str, tenant: &'a TenantId, ttl_ms: u64 }
    } -> Extended { ends_ms: i64 }
}

/// Keeps a subscription.
#[utoipa::path(post, path = "/workers/subscriptions/{id}/heartbeat", tag = "worker",
    request_body(content = Option<Request>), params(params::SubscriptionId),
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest, responses::NotFound), security(("bearer" = [])))]
pub async fn heartbeat_subscription(
    State(app): State<App>,
    worker: Worker<scope::Subscribe>,
    SubscriptionPath(id): SubscriptionPath,
    BodyOrEmpty(ask): BodyOrEmpty<Request>,
) -> http::Result<Json<Response>> {
    let missing = || http::Error::NotFound(Missing::Held);
    let id = id.filter(|id| is_id(id)).ok_or_else(missing)?;
    let extend = Extend { id: &id, tenant: &worker.tenant, ttl_ms: ttl_ms(ask.ttl_seconds) };
    let extended = app
        .store
        .run(home(&app, worker.tenant.tag()), extend)
        .await
        .map_err(|error| http::Error::from(error).not_found_as(Missing::Held))?;
    let expires_at = Time::from_ms(extended.ends_ms);
    Ok(Json(Response { subscription_id: id, expires_at }))
}

/// Whether this may be an id at all: other text never becomes part of a key.
fn is_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.len() == ID_LENGTH && text.bytes().all(allowed)
}

//! `POST /admin/tasks/cleanup`: kept for existing clients. Retention is by expiry in the store, so
//! there is nothing to clean, and no live task can be deleted by a date.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, Scope};
use crate::http::{self, Admin, BodyOrEmpty, Error, params, responses};
use crate::model::Time;

/// What used to be deleted.
#[derive(Deserialize, ToSchema, Default)]
#[serde(default)]
#[schema(as = CleanupRequest)]
pub struct Request {
    /// Clamped to 1..1000.
    limit: Option<i64>,
    /// RFC 3339; now when absent.
    #[schema(schema_with = http::moment_or_blank)]
    before: Option<String>,
}

/// Nothing was.
#[derive(Serialize, ToSchema)]
#[schema(as = CleanupResponse)]
pub struct Response {
    deleted: u64,
    #[schema(value_type = String, format = "date-time")]
    before: Time,
    limit: i64,
}

/// Answers as ever, deletes nothing.
#[utoipa::path(post, path = "/admin/tasks/cleanup", tag = "admin",
    params(params::OfTenant), request_body(content = Option<Request>),
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest, responses::RateLimited), security(("bearer" = [])))]
pub async fn cleanup(
    State(app): State<App>,
    admin: Admin,
    BodyOrEmpty(ask): BodyOrEmpty<Request>,
) -> http::Result<Json<Response>> {
    let before = match ask.before.as_deref().filter(|text| !text.is_empty()) {
        None => Time::from_ms(jiff::Timestamp::now().as_millisecond()),
        Some(text) => Time::parse(text).ok_or(Error::InvalidBefore)?,
    };
    app.take(Scope::Cleanup, &admin, admin.tenant()?, 1).await?;
    tracing::info!(
        target: "codeq::audit", category = "audit", event = "admin.tasks_cleaned_up",
        by = admin.subject.as_str(), tenant_id = admin.tenant()?.as_str(), tasks = 0,
        "a clean-up was asked for; there was nothing to do"
    );
    Ok(Json(Response { deleted: 0, before, limit: ask.limit.unwrap_or(1000).clamp(1, 1000) }))
}

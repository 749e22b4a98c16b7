//! `GET`, `PUT /admin/log-level`: what this node writes, changed while it runs.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::{self, Body, Error, Operator, responses};
use crate::telemetry::log::LogLevels;

/// What to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[schema(as = LogLevelRequest)]
pub struct Request {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    #[schema(pattern = "^(error|warn|info|debug|trace)$")]
    level: Option<String>,
    /// Module filters, as in `RUST_LOG`.
    filter: Option<String>,
}

/// What is in force on the answering node, until it restarts.
#[derive(Serialize, ToSchema)]
#[schema(as = LogLevelResponse)]
pub struct Response {
    level: String,
    filter: String,
}

impl From<LogLevels> for Response {
    fn from(levels: LogLevels) -> Self {
        Self { level: levels.level, filter: levels.filter }
    }
}

/// What is in force.
#[utoipa::path(get, path = "/admin/log-level", operation_id = "get_log_level", tag = "admin",
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn get(State(app): State<App>, _: Operator) -> Json<Response> {
    Json(app.log.get().into())
}

/// Changes it on this node.
#[utoipa::path(put, path = "/admin/log-level", operation_id = "put_log_level", tag = "admin", request_body = Request,
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn put(
    State(app): State<App>,
    operator: Operator,
    Body(ask): Body<Request>,
) -> http::Result<Json<Response>> {
    let before = app.log.get();
    let levels = app
        .log
        .set(ask.level.as_deref(), ask.filter.as_deref())
        .map_err(|wrong| Error::InvalidBody(wrong.to_string().into()))?;
    tracing::info!(
        target: "codeq::audit",
        category = "audit",
        event = "admin.log_level",
        by = operator.subject.as_str(),
        before = before.level.as_str(),
        after = levels.level.as_str(),
        before_filter = before.filter.as_str(),
        after_filter = levels.filter.as_str(),
        "the log level was changed"
    );
    Ok(Json(levels.into()))
}

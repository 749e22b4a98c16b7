//! The routes without a token: probes, the report and the scrape.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response as Answer};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem, PathsBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder, ResponsesBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{ContentBuilder, OpenApi, OpenApiBuilder};

use super::{Health, Status};
use crate::diagnostics::readiness::Readiness;
use crate::diagnostics::scrape::Scraper;
use crate::telemetry::metrics::Exposition;

/// What the routes without a token answer from.
#[derive(Clone)]
pub struct Probes {
    /// For `/readyz`.
    pub readiness: Readiness,
    /// For `/health`.
    pub health: Health,
    /// For `/metrics`.
    pub scraper: Scraper,
}

/// The names of the probe that says whether the process runs.
const LIVE: [&str; 2] = ["/healthz", "/health/live"];
/// The names of the probe that says whether requests should come here.
const READY: [&str; 3] = ["/readyz", "/ready", "/health/ready"];

/// The probes under all their names, the report and the scrape. None needs a token.
pub fn routes<S: Clone + Send + Sync + 'static>(probes: Probes) -> Router<S> {
    let Probes { readiness, health, scraper } = probes;
    let mut router = Router::new();
    for path in LIVE {
        router = router.route(path, get(live));
    }
    for path in READY {
        router = router.route(path, get(ready).with_state(readiness.clone()));
    }
    router
        .route("/health", get(report).with_state(health))
        .route("/metrics", get(metrics).with_state(scraper))
}

/// What [`routes`] serves, for the description of the API.
pub fn described() -> OpenApi {
    let object = || ObjectBuilder::new().schema_type(Type::Object).build();
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    let says = |what: &str, kind: &str, schema: Schema| {
        let content = ContentBuilder::new().schema(Some(schema)).build();
        ResponseBuilder::new().description(what).content(kind, content).build()
    };
    let json = |what: &str| says(what, "application/json", object().into());
    let route =
        |paths: PathsBuilder, path: &str, summary: &str, responses: Vec<(&str, Response)>| {
            let operation = OperationBuilder::new()
                .tag("node")
                .summary(Some(summary))
                .operation_id(Some(path.trim_start_matches('/').replace('/', "_")))
                .responses(ResponsesBuilder::new().responses_from_iter(responses));
            paths.path(path, PathItem::new(HttpMethod::Get, operation))
        };
    let mut paths = PathsBuilder::new();
    for path in LIVE {
        paths = route(paths, path, "Whether the process runs.", vec![("200", json("It runs."))]);
    }
    let ready = || vec![("200", json("Yes.")), ("503", json("Redis is away, or the node drains."))];
    for path in READY {
        paths = route(paths, path, "Whether requests should come here.", ready());
    }
    let healthy = || vec![("200", json("It works.")), ("503", json("It does not, or it drains."))];
    paths = route(paths, "/health", "How the node is, in detail.", healthy());
    let scrape = says(
        "Prometheus' text format, or OpenMetrics for those who ask.",
        "text/plain",
        text().into(),
    );
    paths = route(paths, "/metrics", "What the node has counted.", vec![("200", scrape)]);
    OpenApiBuilder::new().paths(paths).build()
}

/// The process runs; Redis has no say in it, or a lost Redis would restart every node.
async fn live() -> Answer {
    Json(json!({ "status": "ok" })).into_response()
}

async fn ready(State(readiness): State<Readiness>) -> Answer {
    if readiness.is_ready() {
        return Json(json!({ "status": "ok" })).into_response();
    }
    let status = if readiness.is_draining() { "draining" } else { "unready" };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": status }))).into_response()
}

async fn report(State(health): State<Health>) -> Answer {
    let report = health.report().await;
    let code = if report.status == Status::Unhealthy || report.draining {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    (code, Json(report)).into_response()
}

async fn metrics(State(scraper): State<Scraper>, headers: HeaderMap) -> Answer {
    scraper.answer(Exposition::asked(&headers)).await
}

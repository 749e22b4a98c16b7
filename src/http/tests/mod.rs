//! What the room promises, through its door: requests in, answers out.

mod around;
mod asks;
mod callers;
mod errors;
mod hostile;
mod server;
mod waiting;

use axum::Router;
use axum::body::Body as Bytes;
use axum::response::Response;
use axum::routing::{get, post, put};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::*;
use crate::auth::{Auth, WORKER_SCOPES};
use crate::config::{self, Provider, StaticToken};
use crate::telemetry::Metrics;

/// The longest body of these tests, in bytes.
const MAX_BODY: usize = 4096;

/// What stands for an `App`.
#[derive(Clone)]
struct Node {
    auth: Auth,
    metrics: Metrics,
    draining: CancellationToken,
    /// Cancelled when a handler that waits for ever is dropped.
    dropped: CancellationToken,
    /// Cancelled when such a handler runs.
    waiting: CancellationToken,
}

impl Context for Node {
    fn auth(&self) -> &Auth {
        &self.auth
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn max_body_bytes(&self) -> usize {
        MAX_BODY
    }

    fn keeps_baggage(&self) -> bool {
        true
    }

    fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }
}

impl Node {
    fn new() -> Self {
        let producers = [
            token("producer", "acme", &[], &[]),
            token("admin", "acme", &["codeq:admin"], &[]),
            token("operator", "acme", &["codeq:admin", "codeq:operator"], &[]),
            token("nobody", "Not A Tenant", &[], &[]),
        ];
        let workers = [
            token("worker", "acme", &WORKER_SCOPES, &["*"]),
            token("claimer", "acme", &["codeq:claim"], &["mail"]),
            token("stray", "Not A Tenant", &["codeq:claim"], &["mail"]),
            token("idle", "acme", &["codeq:claim"], &[]),
            token("powerless", "acme", &[], &["mail"]),
        ];
        let settings = config::Auth {
            producer: Some(Provider::Static(producers.into())),
            worker: Some(Provider::Static(workers.into())),
            allow_producer_as_worker: false,
        };
        let metrics = Metrics::new();
        Self {
            auth: Auth::of(&settings, metrics.clone()),
            metrics,
            draining: CancellationToken::new(),
            dropped: CancellationToken::new(),
            waiting: CancellationToken::new(),
        }
    }

    fn router(&self) -> Router {
        around(routes(), self.clone())
    }

    async fn ask(&self, request: Request<Bytes>) -> Answer {
        Answer::of(self.router().oneshot(request).await.unwrap()).await
    }
}

fn token(token: &str, subject: &str, scopes: &[&str], event_types: &[&str]) -> StaticToken {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    StaticToken {
        token: token.to_owned().into(),
        subject: subject.to_owned(),
        email: None,
        scopes: owned(scopes),
        event_types: owned(event_types),
        raw: serde_json::Map::new(),
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Ask {
    delay_seconds: i64,
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor<(u64, String)>>,
}

struct OnDrop(CancellationToken);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn routes() -> Router<Node> {
    use axum::extract::State;

    Router::new()
        .route("/tasks", post(async |_: Producer, Body(ask): Body<Ask>| delayed(&ask)))
        .route(
            "/tasks/{id}/nack",
            post(
                async |_: Worker<scope::Nack>,
                       path: TaskPath,
                       token: LeaseTokenHeader,
                       BodyOrEmpty(ask): BodyOrEmpty<Ask>| {
                    path.id(Missing::Held)?;
                    Ok::<_, Error>(format!("{:?} {}", token.or(None), ask.delay_seconds))
                },
            ),
        )
        .route(
            "/tasks/{id}/result",
            post(async |_: Worker<scope::Result>, RequestBody(ask): RequestBody<Ask>| {
                delayed(&ask)
            }),
        )
        .route("/claim", post(async |worker: Worker<scope::Claim>| worker.tenant.to_string()))
        .route(
            "/list",
            get(async |_: Reader, Query(listing): Query<Listing>| {
                let next = listing.cursor.map(|cursor| cursor.0);
                axum::Json(Page::new(vec![listing.limit.get()], next.as_ref()))
            }),
        )
        .route(
            "/admin/queues/{command}",
            get(async |admin: Admin, path: CommandPath| match admin.tenants() {
                Tenants::One(tenant) => format!("{tenant}: {}", path.0),
                Tenants::All => format!("all: {}", path.0),
            })
            .delete(async |admin: Admin| format!("{:?}", admin.tenants())),
        )
        .route("/admin/one", get(async |admin: Admin| admin.tenant().map(ToString::to_string)))
        .route("/admin/log-level", put(async |operator: Operator| operator.tenant.to_string()))
        .route("/healthz", get(async || "ok"))
        .route("/panic", get(async || -> &'static str { panic!("on purpose") }))
        .route("/id", get(async |id: RequestId| id.as_str().to_owned()))
        .route("/trace", get(async |trace: TraceHeaders| format!("{trace:?}")))
        .route("/echo", post(async |RawBody(bytes): RawBody| bytes))
        .route("/unread", post(async || "did not look"))
        .route(
            "/wait",
            get(async |State(node): State<Node>| {
                let _guard = OnDrop(node.dropped);
                node.waiting.cancel();
                std::future::pending::<()>().await;
            }),
        )
        .route(
            "/until-draining",
            get(async |State(node): State<Node>| {
                node.waiting.cancel();
                node.draining.cancelled().await;
                "drained"
            }),
        )
}

fn delayed(ask: &Ask) -> String {
    ask.delay_seconds.to_string()
}

/// A request in the making.
fn ask(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path)
}

trait Make {
    fn token(self, token: &str) -> Self;
    fn text(self, body: impl Into<Bytes>) -> Request<Bytes>;
    fn empty(self) -> Request<Bytes>;
}

impl Make for http::request::Builder {
    fn token(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    fn text(self, body: impl Into<Bytes>) -> Request<Bytes> {
        self.body(body.into()).unwrap()
    }

    fn empty(self) -> Request<Bytes> {
        self.text(Bytes::empty())
    }
}

/// An answer, read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.into()).unwrap();
        Self { status: parts.status, headers: parts.headers, body }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| json!({"text": self.body}))
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and text, as the contract writes them.
    fn says(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.error())
    }

    fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_default().to_owned()
    }
}

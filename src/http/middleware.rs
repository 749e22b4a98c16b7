//! What stands around every route: the request's id, its count and its log line, and an answer in
//! JSON whatever happens.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use futures_util::FutureExt as _;
use http::header::CONNECTION;
use http::{HeaderValue, Method, StatusCode, Version};

use super::{Context, Error, Missing, RequestId, TraceHeaders, X_REQUEST_ID, waiting};
use crate::telemetry::metrics::{Held, is_recording};
use crate::telemetry::trace::{self, Server};
use crate::telemetry::{failpoint, log};

/// The route of requests that match none, as a metric's label.
const UNMATCHED: &str = "_unmatched";

/// Counted for a client that went away before its answer was ready.
const CLIENT_GONE: u16 = 499;

/// Asked so often, and by machines only, that they would hide the work in flight.
const PROBES: [&str; 7] =
    ["/healthz", "/health/live", "/health/ready", "/health", "/readyz", "/ready", "/metrics"];

/// Puts everything around `routes` that a request passes before and after its handler, and answers
/// unknown paths with `404`, wrong methods with `405` and panics with `500`.
pub fn around<S: Context>(routes: Router<S>, state: S) -> Router {
    routes
        .fallback(async || Error::NotFound(Missing::Anything))
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(from_fn_with_state(state.clone(), outermost::<S>))
        .with_state(state)
}

async fn outermost<S: Context>(State(state): State<S>, request: Request, next: Next) -> Response {
    waiting::counted(exchange(state, request, next)).await
}

async fn exchange<S: Context>(state: S, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let version = request.version();
    let exchange = Exchange::begin(&state, &request, id.clone());
    let fault = failpoint::is_set("http", "panic") && request.headers().contains_key("x-panic");
    let handled = async move {
        assert!(!fault, "a failpoint ends this request");
        next.run(request).await
    };
    let handled = exchange.span.around(handled);
    let around = log::Request::new(id.shared(), exchange.incoming.clone());
    let handled = log::within(around, handled);
    // A handler holds nothing that outlives its request half-changed: state lives in the store.
    let mut response = match AssertUnwindSafe(handled).catch_unwind().await {
        Ok(response) => with_request_id(response, &id),
        // The panic hook has written a line, with the id of the request.
        Err(_) => Error::Internal.answer(Some(id.as_str())),
    };
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, id.header());
    if let Some(own) = exchange.traceparent() {
        headers.insert("traceparent", own);
    }
    if version >= Version::HTTP_2 {
        // There it is a malformed answer; streams end without it.
        headers.remove(CONNECTION);
    } else if state.is_draining() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    exchange.end(response.status());
    response
}

/// An error was rendered where the request's id is not known.
fn with_request_id(mut response: Response, id: &RequestId) -> Response {
    let Some(error) = response.extensions_mut().remove::<Error>() else { return response };
    let (mut parts, body) = error.answer(Some(id.as_str())).into_parts();
    // A handler may have added headers, as the router does with `Allow`.
    for (name, value) in response.headers() {
        parts.headers.insert(name, value.clone());
    }
    Response::from_parts(parts, body)
}

/// A request being answered. Dropped before its end, it counts as a client that went away.
struct Exchange<S: Context> {
    state: S,
    method: Method,
    path: Option<MatchedPath>,
    id: RequestId,
    began: Instant,
    status: Option<StatusCode>,
    span: Server,
    /// The `traceparent` that came in, for lines of a request that has no span.
    incoming: Option<Arc<str>>,
    in_flight: Option<Held>,
}

impl<S: Context> Exchange<S> {
    fn begin(state: &S, request: &Request, id: RequestId) -> Self {
        let path = request.extensions().get::<MatchedPath>().cloned();
        let route = path.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
        let is_probe = PROBES.contains(&route);
        let span = if is_probe { Server::none() } else { server_span(request, route, &id) };
        Self {
            in_flight: (!is_probe).then(|| state.metrics().http_requests_in_flight.hold()),
            state: state.clone(),
            method: request.method().clone(),
            path,
            id,
            incoming: incoming(request, span.is_open()),
            span,
            began: Instant::now(),
            status: None,
        }
    }

    fn route(&self) -> &str {
        self.path.as_ref().map_or(UNMATCHED, MatchedPath::as_str)
    }

    fn traceparent(&self) -> Option<HeaderValue> {
        self.span.traceparent()?.parse().ok()
    }

    fn end(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl<S: Context> Drop for Exchange<S> {
    fn drop(&mut self) {
        let gone = StatusCode::from_u16(CLIENT_GONE).expect("three digits");
        let status = self.status.unwrap_or(gone);
        let seconds = self.began.elapsed().as_secs_f64();
        if is_recording() {
            let waited = waiting::so_far().as_secs_f64();
            self.state.metrics().route(&self.method, self.route()).ended(status, seconds, waited);
        }
        // A client that went away is no error of ours, nor an answer.
        if let Some(status) = self.status {
            self.span.answered(status.as_u16());
        }
        self.write_line(status, seconds * 1000.0);
    }
}

impl<S: Context> Exchange<S> {
    /// The access log: what failed through us is seen without asking for it.
    fn write_line(&self, status: StatusCode, duration_ms: f64) {
        let own = || self.span.traceparent();
        macro_rules! line {
            ($level:ident, $category:literal) => {
                tracing::$level!(
                    target: "codeq::http",
                    category = $category,
                    event = "http.answered",
                    request_id = self.id.as_str(),
                    traceparent = own().as_deref().or(self.incoming.as_deref()),
                    http.method = known(&self.method),
                    http.route = self.route(),
                    http.status = status.as_u16(),
                    duration_ms,
                    "request answered"
                )
            };
        }
        // A probe of a node that is not ready would be most of the log.
        if status.is_server_error() && self.in_flight.is_some() {
            line!(info, "system");
        } else {
            line!(debug, "debug");
        }
    }
}

fn incoming(request: &Request, has_span: bool) -> Option<Arc<str>> {
    (!has_span).then(|| TraceHeaders::parent(request.headers()))?.map(Into::into)
}

/// A method by its name; those that nobody defined are one.
pub(super) fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// The span of a request; nothing while tracing is off.
fn server_span(request: &Request, route: &str, id: &RequestId) -> Server {
    if !trace::is_on() {
        return Server::none();
    }
    let incoming = TraceHeaders::of(request.headers(), false);
    let protocol = match request.version() {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    let span = Server::open(
        known(request.method()),
        route,
        incoming.traceparent.as_deref(),
        incoming.tracestate.as_deref(),
    );
    span.set("network.protocol.version", protocol);
    if id.is_ours() {
        span.set("codeq.request_id", id.as_str().to_owned());
    }
    span
}

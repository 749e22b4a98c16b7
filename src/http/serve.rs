//! The listener: HTTP/1.1 and cleartext HTTP/2 on one port, within limits, until it is told to stop.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::ArrivesBy;
use super::connection::{AnswerBody, AskBody, Begun, Socket};
use super::pace::{Late, Pace};

/// What a client may take of a node. The defaults are the contract's.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// For a request's header to arrive, from its first byte or, for the first one, from the
    /// connection's beginning; then `408`.
    pub header: Duration,
    /// For the whole request to arrive; then `408`.
    pub request: Duration,
    /// For a connection without a request; then it closes. Longer than the 60 s after which common
    /// balancers drop theirs, so that it is not we who close under their next request. Also for an
    /// answer on which neither side moves a byte, so longer than any wait.
    pub idle: Duration,
    /// For a client to read the answer to a request whose body was refused.
    pub linger: Duration,
    /// Longest header, request line and all fields, in bytes; then `431`.
    pub header_bytes: usize,
    /// Most header fields; then `431`.
    pub header_fields: usize,
    /// Most requests that one HTTP/2 connection may have open.
    pub streams: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            request: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            linger: Duration::from_secs(2),
            header_bytes: 64 * 1024,
            header_fields: 100,
            streams: 1000,
        }
    }
}

/// After an accept that failed, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Between questions whether an HTTP/2 client is still there, and for its answer.
const HTTP2_PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Serves `router` until `stop`; then nothing is accepted any more, requests in flight are answered,
/// HTTP/1 connections close behind their answer and HTTP/2 ones say goodbye. Returns when the last
/// one is closed; dropped, it cuts off those that are left.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServerLimits,
    stop: CancellationToken,
) {
    let builder = Arc::new(builder(&limits));
    let mut connections = JoinSet::new();
    let mut accepts = true;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                accepts = true;
                let (builder, router, stop) = (builder.clone(), router.clone(), stop.clone());
                connections.spawn(connection(stream, builder, router, limits, stop));
            }
            Err(error) if was_gone(&error) => {}
            Err(error) => {
                if std::mem::replace(&mut accepts, false) {
                    tracing::warn!(
                        target: "codeq::http", category = "system", event = "http.not_accepting",
                        error.message = %error, "cannot accept connections; trying on"
                    );
                }
                tokio::select! { () = stop.cancelled() => break, () = tokio::time::sleep(ACCEPT_PAUSE) => {} }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The client left before it was accepted.
fn was_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn builder(limits: &ServerLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `Pace` does it.
        .header_read_timeout(None)
        .max_headers(limits.header_fields)
        .max_buf_size(limits.header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(HTTP2_PING.0)
        .keep_alive_timeout(HTTP2_PING.1);
    builder
}

async fn connection(
    stream: TcpStream,
    builder: Arc<Builder<TokioExecutor>>,
    router: Router,
    limits: ServerLimits,
    stop: CancellationToken,
) {
    // Answers are small and whole; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let pace = Arc::new(Pace::new(limits));
    let service = service_fn({
        let pace = pace.clone();
        move |request| answer(request, router.clone(), pace.clone())
    });
    let socket = TokioIo::new(Socket::new(stream, pace.clone()));
    let mut served = pin!(builder.serve_connection(socket, service));
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(
                        target: "codeq::http", category = "debug", event = "http.broke_off",
                        error.message = %error, "a connection broke off"
                    );
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
            late = pace.watch() => match late {
                Late::Header => pace.give_up_reading(),
                Late::Idle => served.as_mut().graceful_shutdown(),
                Late::Closing => return,
            },
        }
    }
}

async fn answer(
    request: http::Request<Incoming>,
    mut router: Router,
    pace: Arc<Pace>,
) -> Result<http::Response<AnswerBody>, Infallible> {
    let arrives_by = ArrivesBy(pace.begun());
    let begun = Begun(pace.clone());
    let mut request =
        request.map(|body| axum::body::Body::new(AskBody { body, pace, ended: false }));
    request.extensions_mut().insert(arrives_by);
    let response = router.call(request).await?;
    Ok(response.map(|body| AnswerBody { body, _begun: begun }))
}

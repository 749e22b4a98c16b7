//! Clients that go away while they wait, and a node that stops while they do.

use std::time::Duration;

use tokio::time::timeout;

use super::server::{Server, patient};
use super::*;

/// No promise takes so long; a test that does is stuck.
const STUCK: Duration = Duration::from_secs(20);

const WAIT: &str = "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_client_that_goes_away_ends_its_wait() {
    let server = Server::start(patient()).await;
    let mut wire = server.connect().await;
    wire.send(WAIT).await;
    server.node.waiting.cancelled().await;
    drop(wire);
    timeout(STUCK, server.node.dropped.cancelled()).await.expect("the handler is dropped");
    gauge_returns_to_zero(&server).await;
}

#[tokio::test]
async fn an_http2_stream_that_is_given_up_ends_its_wait_and_no_other() {
    let server = Server::start(patient()).await;
    let client = server.http2();
    let kept = tokio::spawn(client.get(server.url("/until-draining")).send());
    server.node.waiting.cancelled().await;
    let wait = client.get(server.url("/wait"));
    let given_up = timeout(Duration::from_millis(100), wait.send()).await;
    assert!(given_up.is_err());
    timeout(STUCK, server.node.dropped.cancelled()).await.expect("the handler is dropped");
    server.node.draining.cancel();
    assert_eq!(kept.await.unwrap().unwrap().text().await.unwrap(), "drained");
    gauge_returns_to_zero(&server).await;
}

#[tokio::test]
async fn an_http2_connection_that_breaks_ends_its_waits() {
    let server = Server::start(patient()).await;
    let client = server.http2();
    let waiting = tokio::spawn(client.get(server.url("/wait")).send());
    server.node.waiting.cancelled().await;
    waiting.abort();
    drop(client);
    timeout(STUCK, server.node.dropped.cancelled()).await.expect("the handler is dropped");
}

async fn gauge_returns_to_zero(server: &Server) {
    let zero = async {
        while server.node.metrics.http_requests_in_flight.get() != 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(STUCK, zero).await.expect("no request is in flight");
}

#[tokio::test]
async fn a_stopping_server_answers_what_is_in_flight_and_closes_the_rest() {
    let server = Server::start(patient()).await;
    let mut fresh = server.connect().await;
    let mut begun = server.connect().await;
    begun.send("GET /heal").await;
    let mut idle = server.connect().await;
    idle.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    idle.answer().await;
    let mut busy = server.connect().await;
    busy.send("GET /until-draining HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.node.waiting.cancelled().await;

    server.stop.cancel();
    assert_eq!(idle.rest().await, "");
    assert_eq!(fresh.rest().await, "");
    begun.send("thz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let text = begun.rest().await;
    assert!(text.is_empty() || text.contains("\r\nconnection: close\r\n"), "{text}");
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
    assert!(!server.served.is_finished());
    server.node.draining.cancel();
    let text = busy.rest().await;
    assert!(text.contains("\r\nconnection: close\r\n") && text.ends_with("drained"), "{text}");
    timeout(STUCK, server.served).await.expect("every connection is closed").unwrap();
}

#[tokio::test]
async fn an_http2_client_is_told_and_its_streams_are_answered() {
    let server = Server::start(patient()).await;
    let client = server.http2();
    let waiting = tokio::spawn(client.get(server.url("/until-draining")).send());
    server.node.waiting.cancelled().await;
    server.stop.cancel();
    server.node.draining.cancel();
    assert_eq!(waiting.await.unwrap().unwrap().text().await.unwrap(), "drained");
    timeout(STUCK, server.served).await.expect("the connection is closed").unwrap();
}

#[tokio::test]
async fn a_server_that_is_dropped_cuts_off_what_is_left() {
    let server = Server::start(patient()).await;
    let mut wire = server.connect().await;
    wire.send(WAIT).await;
    server.node.waiting.cancelled().await;
    server.stop.cancel();
    server.served.abort();
    assert_eq!(wire.rest().await, "");
    timeout(STUCK, server.node.dropped.cancelled()).await.expect("the handler is dropped");
}

#[tokio::test]
async fn an_idle_http2_connection_is_told_and_closed() {
    let header = Duration::from_millis(30);
    let idle = Duration::from_millis(100);
    let server = Server::start(ServerLimits { header, idle, ..patient() }).await;
    let mut wire = server.connect().await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    wire.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat()).await;
    let bytes = wire.rest_bytes().await;
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0];
    assert!(bytes.windows(goaway.len()).any(|frame| frame == goaway), "{bytes:?}");
    assert!(!bytes.starts_with(b"HTTP/1.1"));
}

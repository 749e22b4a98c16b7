//! The listener, over real sockets: what arrives late, too large, in pieces, or not as HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

/// No promise takes so long; a test that does is stuck.
const STUCK: Duration = Duration::from_secs(20);

/// Nothing in such a server is late unless a test says so.
pub fn patient() -> ServerLimits {
    ServerLimits { header: STUCK * 2, request: STUCK * 2, idle: STUCK * 2, ..Default::default() }
}

pub struct Server {
    pub node: Node,
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub served: JoinHandle<()>,
}

impl Server {
    pub async fn start(limits: ServerLimits) -> Self {
        let node = Node::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let served = tokio::spawn(serve(listener, node.router(), limits, stop.clone()));
        Self { node, address, stop, served }
    }

    pub async fn connect(&self) -> Wire {
        Wire(TcpStream::connect(self.address).await.unwrap())
    }

    pub fn http2(&self) -> reqwest::Client {
        reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A client that may say anything.
pub struct Wire(TcpStream);

impl Wire {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Everything until the server closes.
    pub async fn rest(&mut self) -> String {
        String::from_utf8_lossy(&self.rest_bytes().await).into_owned()
    }

    pub async fn rest_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset after the answer is as much an end as a close.
        let _ = timeout(STUCK, self.0.read_to_end(&mut bytes)).await.expect("the server closes");
        bytes
    }

    /// One answer with `Content-Length`; the connection stays open.
    pub async fn answer(&mut self) -> String {
        let mut text = Vec::new();
        let whole = |text: &[u8]| {
            let text = String::from_utf8_lossy(text).into_owned();
            let (header, body) = text.split_once("\r\n\r\n")?;
            let length = header.to_lowercase();
            let length = length.split_once("content-length: ").map_or(0, |(_, rest)| {
                rest.split("\r\n").next().unwrap().parse::<usize>().unwrap()
            });
            (body.len() >= length).then_some(text)
        };
        loop {
            if let Some(text) = whole(&text) {
                return text;
            }
            let read =
                timeout(STUCK, self.0.read_buf(&mut text)).await.expect("an answer").unwrap();
            assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&text));
        }
    }
}

#[tokio::test]
async fn a_header_that_comes_too_slowly_is_answered_408_and_closed() {
    let header = Duration::from_millis(60);
    let server = Server::start(ServerLimits { header, ..patient() }).await;
    for sent in ["", "G", "PRI * HT", "GET /healthz HTTP/1.1\r\nhost: x\r\n"] {
        let mut wire = server.connect().await;
        wire.send(sent).await;
        let text = wire.rest().await;
        assert!(
            text.starts_with("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n"),
            "{text}"
        );
        let json: Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(
            (&json["error"], &json["code"]),
            (&json!("request timeout"), &json!("request_timeout"))
        );
        assert!(text.contains(&format!("x-request-id: {}", json["requestId"].as_str().unwrap())));
    }
}

#[tokio::test]
async fn one_byte_at_a_time_does_not_stretch_the_time_for_a_header() {
    let header = Duration::from_millis(200);
    let server = Server::start(ServerLimits { header, ..patient() }).await;
    let (mut read, mut write) = server.connect().await.0.into_split();
    let dripping = tokio::spawn(async move {
        write.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        while write.write_all(b"x-drip: 1\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut text = Vec::new();
    let _ = timeout(STUCK, read.read_to_end(&mut text)).await.expect("the server closes");
    assert!(text.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&text));
    dripping.await.unwrap();
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_answered_408_and_closed() {
    let server =
        Server::start(ServerLimits { request: Duration::from_millis(60), ..patient() }).await;
    for framing in
        ["content-length: 9\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"]
    {
        let mut wire = server.connect().await;
        wire.send(format!("POST /echo HTTP/1.1\r\nhost: x\r\n{framing}")).await;
        let text = wire.rest().await;
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
        assert!(text.contains("\r\nconnection: close\r\n") && text.contains("\"request_timeout\""));
    }
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_for_a_header_but_not_its_own() {
    let header = Duration::from_millis(50);
    let idle = Duration::from_millis(400);
    let server = Server::start(ServerLimits { header, idle, ..patient() }).await;
    let mut wire = server.connect().await;
    wire.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wire.answer().await;
    let began = std::time::Instant::now();
    assert_eq!(wire.rest().await, "", "closed without a word");
    assert!(began.elapsed() > Duration::from_millis(300), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_second_header_has_its_own_time() {
    let header = Duration::from_millis(60);
    let server = Server::start(ServerLimits { header, ..patient() }).await;
    let mut wire = server.connect().await;
    wire.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(wire.answer().await.ends_with("ok"));
    wire.send("GET /hea").await;
    assert!(wire.rest().await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn a_large_announced_body_is_refused_before_it_is_read() {
    let server = Server::start(patient()).await;
    let mut wire = server.connect().await;
    wire.send(
        "POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4097\r\n\r\n",
    )
    .await;
    let text = wire.answer().await;
    assert!(
        text.starts_with("HTTP/1.1 413 ") && text.contains("\r\nconnection: close\r\n"),
        "{text}"
    );
    assert!(text.contains("\"body_too_large\""));
}

#[tokio::test]
async fn a_client_may_finish_sending_a_refused_body_before_it_reads_the_answer() {
    let server = Server::start(patient()).await;
    let mut wire = server.connect().await;
    wire.send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n").await;
    let mut first = [0];
    timeout(STUCK, wire.0.peek(&mut first)).await.expect("the answer is there").unwrap();
    // A server that just closed would have reset the connection: writing would fail.
    for _ in 0..30 {
        wire.send(vec![b'x'; 100_000]).await;
    }
    assert!(wire.answer().await.starts_with("HTTP/1.1 413 "));
    let mut nothing = Vec::new();
    let end = timeout(STUCK, wire.0.read_to_end(&mut nothing)).await.expect("the server closes");
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_413_whatever_follows() {
    let server = Server::start(patient()).await;
    let mut wire = server.connect().await;
    wire.send("POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for _ in 0..5 {
        wire.send(format!("400\r\n{}\r\n", "x".repeat(1024))).await;
    }
    let text = wire.answer().await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
}

#[tokio::test]
async fn a_chunked_body_arrives_whole() {
    let server = Server::start(patient()).await;
    let mut wire = server.connect().await;
    wire.send("POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for piece in ["3\r\nabc\r\n", "2;ext=1\r\nde\r\n", "0\r\ntrailer: 1\r\n\r\n"] {
        wire.send(piece).await;
    }
    assert!(wire.answer().await.ends_with("\r\n\r\nabcde"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(patient()).await;
    let mut wire = server.connect().await;
    let request = |id| format!("GET /id HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\n\r\n");
    wire.send(format!("{}{}", request("one"), request("two"))).await;
    wire.send("POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{...}").await;
    wire.send("GET /id HTTP/1.1\r\nhost: x\r\nx-request-id: last\r\nconnection: close\r\n\r\n")
        .await;
    let text = wire.rest().await;
    let bodies: Vec<&str> =
        text.split("\r\n\r\n").skip(1).map(|part| part.split("HTTP/").next().unwrap()).collect();
    assert_eq!(bodies, ["one", "two", "did not look", "last"]);
}

#[tokio::test]
async fn headers_beyond_the_limits_are_refused() {
    let server = Server::start(patient()).await;
    let long = format!("x: {}\r\n", "y".repeat(70_000));
    let many = "x: y\r\n".repeat(101);
    for fields in [long, many] {
        let mut wire = server.connect().await;
        let _ = wire
            .0
            .write_all(format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{fields}\r\n").as_bytes())
            .await;
        let text = wire.rest().await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 431 "), "{text}");
    }
    let client = server.http2();
    let long = client.get(server.url("/healthz")).header("x", "y".repeat(70_000)).send().await;
    assert!(long.is_err() || long.unwrap().status() == 431);
    assert_eq!(client.get(server.url("/healthz")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_harms_nobody() {
    let server = Server::start(patient()).await;
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame at all, but long enough",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ] {
        let mut wire = server.connect().await;
        wire.send(bytes).await;
        wire.0.shutdown().await.unwrap();
        let text = wire.rest().await;
        assert!(!text.contains(" 200 ") && !text.contains("HTTP/1.1 5"), "{bytes:?}: {text}");
    }
    let mut wire = server.connect().await;
    wire.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(wire.answer().await.ends_with("ok"));
}

#[tokio::test]
async fn http2_is_spoken_on_the_same_port() {
    let server = Server::start(patient()).await;
    let client = server.http2();
    let send =
        |id: u32| client.get(server.url("/id")).header("x-request-id", id.to_string()).send();
    for answered in futures_util::future::join_all((0..200).map(send)).await {
        let answer = answered.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(answer.text().await.unwrap(), id);
    }
    let large =
        client.post(server.url("/echo")).body("x".repeat(MAX_BODY + 1)).send().await.unwrap();
    assert_eq!(large.status(), 413);
    assert_eq!(client.head(server.url("/healthz")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_old_client_gets_an_old_answer() {
    let server = Server::start(patient()).await;
    let mut wire = server.connect().await;
    wire.send("GET /healthz HTTP/1.0\r\n\r\n").await;
    let text = wire.rest().await;
    assert!(text.starts_with("HTTP/1.0 200 ") && text.ends_with("ok"), "{text}");
}

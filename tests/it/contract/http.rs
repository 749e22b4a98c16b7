//! What holds for every call: methods, paths, headers, sizes, protocols.

use serde_json::json;

use crate::assert_shown;
use crate::support::{Node, Raw, Redis, client};

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_answered_in_json() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let producer = node.producer();
    assert_shown!(producer.get("/nothing").await, @r#"
    404 {"error":"not found",
    "code":"not_found",
    "requestId":"<request>"}
    "#);
    for path in
        ["/tasks/", "/admin/queues/", "//healthz/", "//", "//v1", "//v1/codeq", "//v1/codeq/"]
    {
        assert_eq!(producer.get(path).await.refusal(), "404 not_found not found", "{path}");
    }
    assert_shown!(producer.delete("/tasks").await, @r#"
    405 {"error":"method not allowed",
    "code":"method_not_allowed",
    "requestId":"<request>"}
    "#);
    for (method, path, allowed) in [
        ("GET", "/tasks", &["POST"][..]),
        ("PUT", "/tasks/claim", &["POST"]),
        ("POST", "/tasks/x/timeline", &["GET", "HEAD"]),
        ("PATCH", "/tasks/x/result", &["GET", "HEAD", "POST"]),
        ("OPTIONS", "/tasks", &["POST"]),
        ("OPTIONS", "/admin/topics/x", &["DELETE", "GET", "HEAD", "PUT"]),
        ("TRACE", "/tasks", &["POST"]),
        ("BREW", "/tasks", &["POST"]),
        ("POST", "//healthz", &["GET", "HEAD"]),
        ("OPTIONS", "//metrics", &["GET", "HEAD"]),
    ] {
        let answer = producer.call(method, path).await;
        assert_eq!(
            answer.refusal(),
            "405 method_not_allowed method not allowed",
            "{method} {path}"
        );
        let mut found: Vec<&str> =
            answer.header("Allow").unwrap().split(',').map(str::trim).collect();
        found.sort_unstable();
        assert_eq!(found, allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    for path in [
        format!("/tasks/{id}"),
        "/tasks/none".to_owned(),
        "//healthz".to_owned(),
        "//readyz".to_owned(),
        "//openapi.json".to_owned(),
    ] {
        let (get, head) =
            (node.producer().get(&path).await, node.producer().call("HEAD", &path).await);
        assert_eq!((head.status, head.text()), (get.status, ""), "{path}");
        assert_eq!(head.header("Content-Type"), get.header("Content-Type"), "{path}");
        assert_eq!(head.header("Content-Length"), get.header("Content-Length"), "{path}");
    }
    assert_eq!(node.producer().call("HEAD", "/tasks").await.status, 405);
}

#[tokio::test]
async fn a_request_id_is_taken_when_it_is_good_and_always_returned() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let ask = |id: &str| node.producer().read("none").header("X-Request-Id", id);
    let longest = "x".repeat(128);
    for good in ["abc-123", "!~", longest.as_str()] {
        let answer = ask(good).await;
        assert_eq!(answer.header("X-Request-Id"), Some(good));
        assert_eq!(answer.json()["requestId"], good);
    }
    let too_long = "x".repeat(129);
    for bad in ["", "has space", "tab\there", too_long.as_str(), "ü"] {
        let answer = ask(bad).await;
        let made = answer.header("X-Request-Id").unwrap();
        assert!(made.len() == 32 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{bad}: {made}");
    }
    let twice = ask("one").header("X-Request-Id", "two").await;
    assert_eq!(twice.headers.get_all("X-Request-Id").iter().count(), 1);
    let ids: Vec<String> = {
        let mut ids = Vec::new();
        for path in ["/tasks/none", "//healthz", "/nothing", "//metrics"] {
            let answer = node.producer().get(path).await;
            ids.push(answer.header("X-Request-Id").expect("always").to_owned());
        }
        ids
    };
    assert!(ids.is_sorted(), "generated ids sort by time: {ids:?}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_before_it_is_read() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("MAX_BODY_BYTES", "1024")]).await;
    let body = |size: usize| {
        let frame = r#"{"command":"m","payload":""}"#.len();
        format!(r#"{{"command":"m","payload":"{}"}}"#, "x".repeat(size - frame))
    };
    assert_eq!(node.producer().bare_post("/tasks").text(body(1024)).await.status, 202);
    let over = node.producer().bare_post("/tasks").text(body(1025)).await;
    assert_eq!(over.refusal(), "413 body_too_large body too large");

    let mut raw = Raw::to(&node.anyone().origin).await;
    let head = "POST /v1/codeq/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer producer\r\n";
    raw.send(&format!("{head}Content-Length: 1000000000\r\n\r\n")).await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 413 "), "no byte of the body was sent");

    let mut raw = Raw::to(&node.anyone().origin).await;
    raw.send(&format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await;
    raw.send(&format!("401\r\n{}\r\n", "x".repeat(0x401))).await;
    let answer = raw.rest().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn the_content_type_is_not_looked_at() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task = r#"{"command":"m","payload":1}"#;
    for kind in ["application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"]
    {
        let answer =
            node.producer().bare_post("/tasks").header("Content-Type", kind).text(task).await;
        assert_eq!(answer.status, 202, "{kind}");
    }
    let latin = node
        .producer()
        .bare_post("/tasks")
        .text(&b"{\"command\":\"\xfc\",\"payload\":1}"[..])
        .await;
    assert_eq!(latin.refusal(), "400 invalid_body invalid body", "UTF-8 it must be");
}

#[tokio::test]
async fn cleartext_http_2_with_prior_knowledge_is_served_on_the_same_port() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let over_h2 = node.producer().over(client::plain().http2_prior_knowledge());
    let created = over_h2.create(json!({"command": "m", "payload": 1})).await;
    assert_eq!(created.version, reqwest::Version::HTTP_2);
    created.json_of(202);
    let many = (0..50).map(|_| over_h2.create(json!({"command": "m", "payload": 1})).into_future());
    for answer in futures_util::future::join_all(many).await {
        answer.json_of(202);
    }
    assert_eq!(node.producer().read("none").await.version, reqwest::Version::HTTP_11);
    let mut raw = Raw::to(&node.anyone().origin).await;
    raw.send("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200 "), "no upgrade");
}

#[tokio::test]
async fn what_is_no_http_is_answered_400_and_closed() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for text in [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /v1/codeq/tasks HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut raw = Raw::to(&node.anyone().origin).await;
        raw.send(text).await;
        let answer = raw.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{text:?}: {answer}");
    }
    assert_eq!(node.anyone().get("//healthz").await.status, 200);
}

mod slow {
    use super::*;

    #[tokio::test]
    async fn a_request_that_does_not_arrive_is_408_and_the_connection_closes() {
        let redis = Redis::start().await;
        let node = Node::on(&redis).await;
        let origin = node.anyone().origin;
        let header = async {
            let mut raw = Raw::to(&origin).await;
            raw.send("POST /v1/codeq/tasks HTTP/1.1\r\nHost: x\r\n").await;
            raw.rest().await
        };
        let body = async {
            let mut raw = Raw::to(&origin).await;
            raw.send("POST /v1/codeq/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer producer\r\nContent-Length: 10\r\n\r\n{").await;
            raw.rest().await
        };
        let (header, body) = tokio::join!(header, body);
        for answer in [header, body] {
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!(answer.contains("request timeout"), "{answer}");
        }
    }
}

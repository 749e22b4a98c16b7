//! Payload and result are the sender's text, byte for byte.

use serde_json::json;

use crate::support::{Answer, Node, Redis};

/// Texts that a JSON tree would change.
const TEXTS: [&str; 12] = [
    r#"{ "b" : 1,  "a":2 }"#,
    "{\n\t\"a\": [ 1 , 2 ]\n}",
    r#"{"n":1.50,"m":1e3,"k":1E+3,"z":-0,"y":-0.0}"#,
    r#"{"big":123456789012345678901234567890.123456789012345678901234567890}"#,
    r#"{"escaped":"\u00fc\/\u2028\uD83D\uDE00","plain":"ü😀"}"#,
    r#"{"a":1,"a":2,"a":{"a":null}}"#,
    r#"{"":{"":[]}}"#,
    r#"{"text":"\"}],{[\\"}"#,
    r#"{"$serde_json::private::RawValue":"x"}"#,
    r#"{"$serde_json::private::Number":"1"}"#,
    "{}",
    r#"{"html":"<script>&amp;\u003c"}"#,
];

/// The text of a field of the answer, as it was sent.
fn raw_field(answer: &Answer, field: &str) -> String {
    let fields: std::collections::HashMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_slice(&answer.body).unwrap();
    fields[field].get().to_owned()
}

#[tokio::test]
async fn a_payload_comes_back_as_the_text_that_was_sent() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let scalars = ["\"text\"", "true", "0", "-1.0e-7", "[]", "[1,\n2]", "\"\\u0000\""];
    for text in TEXTS.into_iter().chain(scalars) {
        let body = format!(r#"{{"command":"m","payload":{text}}}"#);
        let created = node.producer().bare_post("/tasks").text(body).await.json_of(202);
        assert_eq!(created["payload"], text);
        let claimed = node.worker().claimed("m").await;
        assert_eq!(claimed["payload"], text, "claim");
        let read = node.producer().task(claimed["id"].as_str().unwrap()).await;
        assert_eq!(read["payload"], text, "read");
    }
}

#[tokio::test]
async fn the_space_around_a_payload_is_not_part_of_it() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let body = "\n {\"payload\" :  {\"a\": 1}  ,\t\"command\":\"m\"}\r\n ";
    let created = node.producer().bare_post("/tasks").text(body).await.json_of(202);
    assert_eq!(created["payload"], r#"{"a": 1}"#);
}

#[tokio::test]
async fn a_result_comes_back_as_the_text_that_was_sent() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for text in TEXTS {
        node.producer().created("m").await;
        let id = node.worker().claimed("m").await["id"].as_str().unwrap().to_owned();
        let body = format!(r#"{{"status":"COMPLETED","result":{text}}}"#);
        let path = format!("/tasks/{id}/result");
        let submitted = node.worker().bare_post(&path).text(body).await;
        assert_eq!(submitted.status, 200, "{}", submitted.text());
        // Not every one of these is something that our own reader could read.
        assert!(submitted.text().contains(&format!(r#""result":{text},"#)), "{}", submitted.text());
        let read = node.producer().result(&id).await;
        assert!(read.text().contains(&format!(r#""result":{text},"#)), "{}", read.text());
    }
}

#[tokio::test]
async fn sizes_up_to_the_limit_of_a_body_come_back_whole() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    // Bodies above 1 KiB, claims above 2 KiB and results above 4 KiB travel their own ways.
    for size in [900, 1100, 2000, 2100, 3900, 4200, 70_000, 900_000] {
        let text = format!(r#"{{"x":"{}"}}"#, "y".repeat(size));
        let body = format!(r#"{{"command":"m","payload":{text}}}"#);
        node.producer().bare_post("/tasks").text(body).await.json_of(202);
        let claimed = node.worker().claimed("m").await;
        assert!(claimed["payload"] == text.as_str(), "payload of {size}");
        let id = claimed["id"].as_str().unwrap();
        assert!(node.producer().task(id).await["payload"] == text.as_str(), "read of {size}");
        let body = format!(r#"{{"status":"COMPLETED","result":{text}}}"#);
        let submitted = node.worker().bare_post(&format!("/tasks/{id}/result")).text(body).await;
        assert!(raw_field(&submitted, "result") == text, "result of {size}: {}", submitted.status);
        let read = node.producer().result(id).await;
        let task = raw_field(&read, "task");
        assert!(task.contains(&format!("\"id\":\"{id}\"")));
        assert!(raw_field(&read, "result").contains(&text), "read result of {size}");
    }
}

#[tokio::test]
async fn a_payload_may_be_128_levels_deep() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (levels, status) in [(100, 202), (128, 202), (129, 400), (100_000, 400)] {
        let body = format!(r#"{{"command":"m","payload":{}}}"#, deep(levels));
        let answer = node.producer().bare_post("/tasks").text(body).await;
        assert_eq!(answer.status, status, "{levels}: {}", answer.text());
    }
    let mixed = format!("{}1{}", r#"{"a":["#.repeat(64), "]}".repeat(64));
    let answer = node.producer().create(json!({"command": "m", "payload": 1})).await;
    assert_eq!(answer.status, 202);
    let body = format!(r#"{{"command":"m","payload":{mixed}}}"#);
    assert_eq!(node.producer().bare_post("/tasks").text(body).await.status, 202);
}

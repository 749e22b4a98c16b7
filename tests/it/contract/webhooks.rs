//! What a task asks of its webhook, and a delivery as its receiver gets it.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::receiver::Request;
use crate::support::{Node, Receiver, Redis};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn a_webhook_chooses_among_four_ends_and_two_forms() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let create = |field: &str, value: Value| {
        let mut task = json!({"command": "m", "payload": 1, "webhook": "https://x.example/"});
        task[field] = value;
        node.producer().create(task)
    };
    for wrong in [json!([]), json!(["DONE"]), json!(["COMPLETED", "completed"]), json!([""])] {
        assert_eq!(create("webhookOn", wrong).await.refusal(), "400 invalid_body invalid body");
    }
    for wrong in [json!("COMPLETED"), json!([1]), json!({}), json!(true)] {
        let refused = create("webhookOn", wrong).await;
        assert_eq!(refused.refusal(), "400 invalid_body invalid body");
        assert!(refused.text().contains("webhookOn"), "{}", refused.text());
    }
    for wrong in [json!("Thin"), json!(""), json!(1), json!(["thin"])] {
        let refused = create("webhookBody", wrong).await;
        assert_eq!(refused.refusal(), "400 invalid_body invalid body");
        assert!(refused.text().contains("webhookBody"), "{}", refused.text());
    }
    assert_shown!(create("webhookOn", json!(["DONE"])).await, @r#"
    400 {"error":"invalid body",
    "code":"invalid_body",
    "requestId":"<request>",
    "detail":"webhookOn: of COMPLETED, FAILED, DLQ, CANCELLED"}
    "#);
    assert_shown!(create("webhookOn", json!([])).await, @r#"
    400 {"error":"invalid body",
    "code":"invalid_body",
    "requestId":"<request>",
    "detail":"webhookOn: at least one of COMPLETED, FAILED, DLQ, CANCELLED"}
    "#);
    assert_shown!(create("webhookBody", json!("small")).await, @r#"
    400 {"error":"invalid body",
    "code":"invalid_body",
    "requestId":"<request>",
    "detail":"webhookBody: full or thin"}
    "#);
    for on in
        [json!(null), json!(["DLQ"]), json!(["DLQ", "DLQ", "COMPLETED", "FAILED", "CANCELLED"])]
    {
        create("webhookOn", on).await.json_of(202);
    }
    for form in [json!(null), json!("full"), json!("thin")] {
        create("webhookBody", form).await.json_of(202);
    }
}

/// A request as it came, but for what differs between two of them.
fn shown(request: &Request) -> String {
    let head = std::str::from_utf8(&request.head).unwrap();
    let mut lines: Vec<_> = head.trim_end().lines().map(value_named).collect();
    lines[1..].sort();
    format!("{}\n\n{}", lines.join("\n"), std::str::from_utf8(&request.body).unwrap())
}

/// A header whose value is its form.
fn value_named(line: &str) -> String {
    let Some((name, value)) = line.split_once(": ") else { return line.to_owned() };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let form = match name {
        "host" => "<host>".to_owned(),
        "content-length" => "<length>".to_owned(),
        "x-codeq-timestamp" | "webhook-timestamp" if value.len() == 10 && digits(value) => {
            "<seconds>".to_owned()
        }
        "x-codeq-signature" if value.len() == 64 && hex(value) => "<64 hex digits>".to_owned(),
        "webhook-signature" => value
            .split(' ')
            .map(|one| match one.strip_prefix("v1,") {
                Some(rest) if rest.len() == 44 && rest.ends_with('=') => "v1,<base64>",
                _ => one,
            })
            .collect::<Vec<_>>()
            .join(" "),
        _ => value.replace(env!("CARGO_PKG_VERSION"), "<version>"),
    };
    format!("{name}: {form}")
}

#[tokio::test]
async fn a_delivery_is_shown_whole() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("WEBHOOK_HMAC_SECRET", SECRET)]).await;
    let receiver = Receiver::start().await;
    let task = json!({
        "command": "Send Mail", "payload": 1, "webhook": format!("{}?of=1#part", receiver.url()),
    });
    let created = node
        .producer()
        .create(task.clone())
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("tracestate", "vendor=1")
        .header("baggage", "who=me")
        .await
        .json_of(202);
    let id = created["id"].as_str().unwrap();
    node.worker().claimed("Send Mail").await;
    let verdict = r#"{"status":"COMPLETED","result":{ "pages": 3.0 },"artifacts":[{"name":"a.pdf","url":"http://files.test/a.pdf"}]}"#;
    node.worker().bare_post(&format!("/tasks/{id}/result")).text(verdict).await.json_of(200);
    let request = receiver.until_count(1).await.remove(0);
    let words = crate::support::seen();
    insta::assert_snapshot!(shown(&request), @r#"
    POST /hook?of=1 HTTP/1.1
    accept: */*
    baggage: who=me
    content-length: <length>
    content-type: application/json
    host: <host>
    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
    tracestate: vendor=1
    user-agent: codeq/<version>
    webhook-id: <id>_1
    webhook-signature: v1,<base64>
    webhook-timestamp: <seconds>
    x-codeq-attempt: 1
    x-codeq-signature: <64 hex digits>
    x-codeq-timestamp: <seconds>

    {"taskId":"<id>","eventType":"Send Mail","status":"COMPLETED","result":{ "pages": 3.0 },"error":"","artifacts":[{"name":"a.pdf","url":"http://files.test/a.pdf"}],"completedAt":"<time>","type":"task.completed","timestamp":"<time>"}
    "#);
    drop(words);

    let body = async |mut more: Value, end: &str| {
        for (field, value) in task.as_object().unwrap() {
            more[field] = value.clone();
        }
        let count = receiver.count();
        let id = node.producer().created_as(more).await;
        match end {
            "cancelled" => {
                node.producer().bare_post(&format!("/tasks/{id}/cancel")).await.json_of(200);
            }
            _ => {
                node.worker().claimed("Send Mail").await;
                match end {
                    "failed" => node.worker().fail(&id, "no \"ink\"").await,
                    "dead" => node.worker().nack(&id, json!({"reason": "smtp"})).await,
                    _ => node.worker().complete(&id).await,
                }
                .json_of(200);
            }
        }
        let request = receiver.until_count(count + 1).await.pop().unwrap();
        std::str::from_utf8(&request.body).unwrap().to_owned()
    };
    let _words = crate::support::seen();
    insta::assert_snapshot!(body(json!({}), "failed").await, @r#"{"taskId":"<id>","eventType":"Send Mail","status":"FAILED","result":null,"error":"no \"ink\"","artifacts":null,"completedAt":"<time>","type":"task.failed","timestamp":"<time>"}"#);
    insta::assert_snapshot!(body(json!({"maxAttempts": 1}), "dead").await, @r#"{"taskId":"<id>","eventType":"Send Mail","status":"FAILED","result":null,"error":"smtp","artifacts":null,"completedAt":"<time>","type":"task.dead_lettered","timestamp":"<time>"}"#);
    insta::assert_snapshot!(body(json!({}), "cancelled").await, @r#"{"taskId":"<id>","eventType":"Send Mail","status":"FAILED","result":null,"error":"CANCELLED","artifacts":null,"completedAt":"<time>","type":"task.cancelled","timestamp":"<time>"}"#);
    insta::assert_snapshot!(body(json!({"webhookBody": "thin"}), "completed").await, @r#"{"taskId":"<id>","eventType":"Send Mail","status":"COMPLETED","result":null,"error":"","artifacts":null,"completedAt":"<time>","type":"task.completed","timestamp":"<time>","resultOmitted":true,"resultUrl":"/v1/codeq/tasks/<id>/result"}"#);
}

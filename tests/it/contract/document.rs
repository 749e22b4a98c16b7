//! `GET /openapi.json`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Node, Redis};

/// Every call of the page that this version has.
const CALLS: &str = "
    POST /v1/codeq/tasks
    POST /v1/codeq/tasks/batch
    POST /v1/codeq/tasks/claim
    POST /v1/codeq/tasks/claim/batch
    POST /v1/codeq/tasks/{id}/heartbeat
    POST /v1/codeq/tasks/{id}/abandon
    POST /v1/codeq/tasks/{id}/nack
    POST /v1/codeq/tasks/{id}/result
    POST /v1/codeq/tasks/batch/results
    POST /v1/codeq/workers/subscriptions
    POST /v1/codeq/workers/subscriptions/{id}/heartbeat
    GET /v1/codeq/tasks/{id}
    GET /v1/codeq/tasks/{id}/result
    GET /v1/codeq/tasks/{id}/timeline
    GET /v1/codeq/tasks/{id}/webhook
    POST /v1/codeq/tasks/{id}/cancel
    GET /v1/codeq/admin/queues
    GET /v1/codeq/admin/queues/{command}
    POST /v1/codeq/admin/tasks/cleanup
    PUT /v1/codeq/admin/topics/{name}
    GET /v1/codeq/admin/topics/{name}
    DELETE /v1/codeq/admin/topics/{name}
    POST /v1/codeq/admin/queues/{command}/pause
    POST /v1/codeq/admin/queues/{command}/resume
    GET /v1/codeq/admin/queues/{command}/tasks
    POST /v1/codeq/admin/queues/{command}/dlq/requeue
    POST /v1/codeq/admin/queues/{command}/dlq/purge
    DELETE /v1/codeq/admin/tasks/{id}
    POST /v1/codeq/admin/webhooks/test
    GET /v1/codeq/admin/webhook-secret
    GET /v1/codeq/admin/webhooks
    GET /v1/codeq/admin/webhooks/{id}
    DELETE /v1/codeq/admin/webhooks/{id}
    POST /v1/codeq/admin/webhooks/{id}/replay
    POST /v1/codeq/admin/webhooks/recover
    GET /v1/codeq/admin/webhooks/recoveries/{id}
    DELETE /v1/codeq/admin/webhooks/recoveries/{id}
    GET /v1/codeq/admin/webhook-destinations
    PUT /v1/codeq/admin/webhook-destinations/{id}
    POST /v1/codeq/admin/webhook-destinations/{id}/pause
    POST /v1/codeq/admin/webhook-destinations/{id}/resume
    GET /v1/codeq/admin/log-level
    PUT /v1/codeq/admin/log-level
";

async fn document() -> Value {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let answer = node.anyone().get("//openapi.json").await;
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    answer.json_of(200)
}

fn calls(document: &Value) -> BTreeSet<String> {
    let methods = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| -> Vec<String> {
        let named = item.as_object().unwrap().keys().filter(|key| methods.contains(&key.as_str()));
        named.map(|method| format!("{} {path}", method.to_uppercase())).collect()
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test]
async fn the_document_covers_every_call_of_the_page() {
    let document = document().await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let found = calls(&document);
    for call in CALLS.trim().lines() {
        assert!(found.contains(call.trim()), "{} is not in the document", call.trim());
    }
}

#[tokio::test]
async fn every_call_says_what_it_takes_and_answers_and_every_reference_leads_somewhere() {
    let document = document().await;
    let mut operation_ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, call) in item.as_object().unwrap() {
            if call.get("responses").is_none() {
                continue;
            }
            let id =
                call["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
            assert!(operation_ids.insert(id.to_owned()), "{id} twice");
            let named: BTreeSet<&str> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            let parameters = call["parameters"].as_array().cloned().unwrap_or_default();
            let declared: BTreeSet<&str> = parameters
                .iter()
                .filter(|p| p["in"] == "path")
                .map(|p| p["name"].as_str().unwrap())
                .collect();
            assert_eq!(named, declared, "{method} {path}");
            assert!(parameters.iter().filter(|p| p["in"] == "path").all(|p| p["required"] == true));
            let answers = call["responses"].as_object().unwrap();
            assert!(answers.keys().any(|code| code.starts_with('2')), "{method} {path}");
            if path.starts_with("/v1/codeq") {
                assert!(answers.contains_key("401"), "{method} {path}: {:?}", answers.keys());
                assert!(call["security"].is_array(), "{method} {path}");
            }
        }
    }
    let mut references = Vec::new();
    collect(&document, &mut references);
    for reference in references {
        let at = reference.strip_prefix('#').expect("only references inside");
        assert!(document.pointer(at).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(to)) = fields.get("$ref") {
                references.push(to.clone());
            }
            fields.values().for_each(|field| collect(field, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

/// What the document says exists is there, with the method it says.
#[tokio::test]
async fn every_call_of_the_document_is_routed() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let document = node.anyone().get("//openapi.json").await.json_of(200);
    for call in calls(&document) {
        let (method, path) = call.split_once(' ').unwrap();
        let path = path.replace("{id}", "x").replace("{command}", "x").replace("{name}", "x");
        let answer = node.anyone().call(method, &format!("/{path}")).await;
        let expected = if path.starts_with("/v1/") { 401 } else { 200 };
        assert_eq!(answer.status, expected, "{call}");
    }
}

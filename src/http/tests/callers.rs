//! Who may come in, and which check speaks first.

use super::*;

const TASK: &str = "/tasks/0190a1b2-c3d4-7005-8000-0123456789ab/nack";

#[tokio::test]
async fn without_one_well_formed_token_nobody_comes_in() {
    let node = Node::new();
    let missing = node.ask(ask(Method::POST, "/tasks").empty()).await;
    assert_eq!(missing.says(), "401 missing Authorization header");
    let formats = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Basic producer",
        "producer",
        "Bearer a b",
        "Bearerproducer",
        "Bearer pro\tducer",
    ];
    for value in formats {
        let request = ask(Method::POST, "/tasks").header("authorization", value).empty();
        assert_eq!(node.ask(request).await.says(), "401 invalid Authorization format", "{value}");
    }
    let bytes = http::HeaderValue::from_bytes(b"Bearer \xff").unwrap();
    let request = ask(Method::POST, "/tasks").header("authorization", bytes).empty();
    assert_eq!(node.ask(request).await.says(), "401 invalid Authorization format");
    let unknown = node.ask(ask(Method::POST, "/tasks").token("nope").empty()).await;
    assert_eq!(unknown.says(), "401 invalid token");
    assert!(!unknown.body.contains("nope"));
}

#[tokio::test]
async fn two_authorization_headers_are_refused_even_when_both_are_right() {
    let request = ask(Method::POST, "/tasks").token("producer").token("producer").text("{}");
    assert_eq!(Node::new().ask(request).await.says(), "401 invalid Authorization format");
}

#[tokio::test]
async fn the_scheme_is_compared_without_case() {
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
        let value = format!("{scheme} producer");
        let request = ask(Method::POST, "/tasks").header("authorization", value).text("{}");
        assert_eq!(Node::new().ask(request).await.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn the_checks_speak_in_the_contracts_order() {
    let node = Node::new();
    let huge = (MAX_BODY + 1).to_string();
    // Each request fails several checks; the first in the order answers.
    for (token, length, path, body, says) in [
        (None, Some(&huge), TASK, "x", "401 missing Authorization header"),
        (Some("nope"), Some(&huge), TASK, "x", "401 invalid token"),
        (Some("idle"), Some(&huge), TASK, "x", "401 missing eventTypes"),
        (Some("powerless"), Some(&huge), TASK, "x", "401 missing scope"),
        (Some("stray"), Some(&huge), TASK, "x", "413 body too large"),
        (Some("stray"), None, TASK, "x", "403 invalid tenant claims"),
        (Some("claimer"), None, "/tasks/x/nack", "x", "403 missing scope"),
        (Some("worker"), None, "/tasks/x/nack", "x", "400 invalid body"),
        (Some("worker"), None, "/tasks/x/nack", "{}", "404 not-found"),
    ] {
        let mut request = ask(Method::POST, path);
        if let Some(token) = token {
            request = request.token(token);
        }
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        assert_eq!(node.ask(request.text(body)).await.says(), says);
    }
}

#[tokio::test]
async fn a_missing_scope_is_named() {
    let answer = Node::new().ask(ask(Method::POST, TASK).token("claimer").empty()).await;
    assert_eq!(
        (answer.says().as_str(), answer.detail().as_str()),
        ("403 missing scope", "codeq:nack")
    );
}

#[tokio::test]
async fn each_call_takes_its_own_kind_of_token() {
    let node = Node::new();
    for (method, path, token, status) in [
        (Method::POST, "/tasks", "worker", 401),
        (Method::POST, "/claim", "producer", 401),
        (Method::POST, "/claim", "claimer", 200),
        (Method::GET, "/list", "producer", 200),
        (Method::GET, "/list", "claimer", 200),
        (Method::GET, "/list", "nobody", 403),
        (Method::GET, "/admin/queues/mail", "worker", 401),
        (Method::GET, "/admin/queues/mail", "admin", 200),
    ] {
        let answer = node.ask(ask(method, path).token(token).empty()).await;
        assert_eq!(answer.status, status, "{path} {token}: {}", answer.body);
    }
}

#[tokio::test]
async fn admin_calls_are_for_admins() {
    let node = Node::new();
    let huge = (MAX_BODY + 1).to_string();
    let request = ask(Method::GET, "/admin/queues/mail?tenant=globex").token("producer");
    let answer = node.ask(request.header("content-length", huge).empty()).await;
    assert_eq!(answer.says(), "401 unauthorized. Admin only");
}

#[tokio::test]
async fn only_an_operator_reaches_other_tenants() {
    let node = Node::new();
    for (method, token, query, says) in [
        (Method::GET, "admin", "", "200 acme: mail"),
        (Method::GET, "admin", "?tenant=acme", "403 missing scope"),
        (Method::GET, "admin", "?tenant=*", "403 missing scope"),
        (Method::GET, "admin", "?tenant=", "403 missing scope"),
        (Method::GET, "operator", "?other=1", "200 acme: mail"),
        (Method::GET, "operator", "?tenant=globex", "200 globex: mail"),
        (Method::HEAD, "operator", "?tenant=*", "200 "),
        (Method::GET, "operator", "?tenant=%67lobex", "200 globex: mail"),
        (Method::GET, "operator", "?tenant=*", "200 all: mail"),
        (Method::GET, "operator", "?tenant=", "400 invalid body"),
        (Method::GET, "operator", "?tenant=Globex", "400 invalid body"),
        (Method::GET, "operator", "?tenant=globex&tenant=acme", "400 invalid body"),
        (Method::DELETE, "operator", "?tenant=*", "400 invalid body"),
    ] {
        let request = ask(method, &format!("/admin/queues/mail{query}")).token(token).empty();
        let answer = node.ask(request).await;
        let text = if answer.status == 200 { answer.body.clone() } else { answer.error() };
        assert_eq!(format!("{} {text}", answer.status.as_u16()), says, "{token} {query}");
    }
}

#[tokio::test]
async fn a_call_about_one_tenant_does_not_answer_for_all() {
    let node = Node::new();
    for (query, status) in [("", 200), ("?tenant=globex", 200), ("?tenant=*", 400)] {
        let request = ask(Method::GET, &format!("/admin/one{query}")).token("operator").empty();
        assert_eq!(node.ask(request).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn what_is_the_nodes_is_for_operators() {
    let node = Node::new();
    for (token, says) in [
        ("producer", "401 unauthorized. Admin only"),
        ("admin", "403 missing scope"),
        ("operator", "200 "),
    ] {
        let answer = node.ask(ask(Method::PUT, "/admin/log-level").token(token).empty()).await;
        assert_eq!(answer.says(), says);
    }
}

//! What stands around every route.

use super::*;
use crate::telemetry::metrics::Exposition;

fn is_generated(id: &str) -> bool {
    id.len() == 32
        && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && id.as_bytes()[12] == b'7'
}

#[tokio::test]
async fn a_good_request_id_is_taken_and_any_other_replaced() {
    let longest = "x".repeat(128);
    for good in ["a", "req-1/ä".trim_end_matches('ä'), "~!\"{}", &longest] {
        let answer =
            Node::new().ask(ask(Method::GET, "/id").header("x-request-id", good).empty()).await;
        assert_eq!((answer.header("x-request-id"), answer.body.as_str()), (Some(good), good));
    }
    for bad in ["", "a b", "a\tb", &"x".repeat(129)] {
        let answer =
            Node::new().ask(ask(Method::GET, "/id").header("x-request-id", bad).empty()).await;
        assert!(is_generated(&answer.body), "{bad}");
        assert_eq!(answer.header("x-request-id"), Some(answer.body.as_str()));
    }
    let twice = ask(Method::GET, "/id").header("x-request-id", "a").header("x-request-id", "b");
    assert!(is_generated(&Node::new().ask(twice.empty()).await.body));
}

#[tokio::test]
async fn generated_ids_sort_by_time() {
    let ids: Vec<String> = (0..100).map(|_| RequestId::generate().as_str().to_owned()).collect();
    assert!(ids.is_sorted());
    assert!(ids.iter().all(|id| is_generated(id)));
}

#[tokio::test]
async fn every_answer_carries_the_id_and_errors_also_in_their_body() {
    let node = Node::new();
    for (method, path) in [
        (Method::GET, "/healthz"),
        (Method::GET, "/nowhere"),
        (Method::PATCH, "/tasks"),
        (Method::POST, "/tasks"),
        (Method::GET, "/panic"),
    ] {
        let answer = node.ask(ask(method, path).header("x-request-id", "r-9").empty()).await;
        assert_eq!(answer.header("x-request-id"), Some("r-9"), "{path}");
        if answer.status != 200 {
            assert_eq!(answer.json()["requestId"], "r-9", "{path}");
            assert_eq!(answer.header("content-length").unwrap(), answer.body.len().to_string());
        }
    }
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_answered_in_json() {
    let node = Node::new();
    for (method, path, says, allow) in [
        (Method::GET, "/", "404 not found", None),
        (Method::GET, "/nowhere", "404 not found", None),
        (Method::OPTIONS, "/nowhere", "404 not found", None),
        (Method::POST, "/tasks/", "404 not found", None),
        (Method::GET, "/healthz/", "404 not found", None),
        (Method::GET, "//healthz", "404 not found", None),
        (Method::GET, "/tasks", "405 method not allowed", Some("POST")),
        (Method::HEAD, "/tasks", "405 ", Some("POST")),
        (Method::OPTIONS, "/tasks", "405 method not allowed", Some("POST")),
        (Method::TRACE, "/tasks", "405 method not allowed", Some("POST")),
        (Method::from_bytes(b"BREW").unwrap(), "/tasks", "405 method not allowed", Some("POST")),
        (Method::OPTIONS, "/healthz", "405 method not allowed", Some("GET,HEAD")),
        (Method::PUT, "/admin/queues/x", "405 method not allowed", Some("GET,HEAD,DELETE")),
    ] {
        let answer = node.ask(ask(method.clone(), path).empty()).await;
        assert_eq!(answer.says(), says, "{method} {path}");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let node = Node::new();
    for path in ["/healthz", "/nowhere", "/admin/queues/mail"] {
        let id = |method| ask(method, path).header("x-request-id", "r").empty();
        let (get, head) = (node.ask(id(Method::GET)).await, node.ask(id(Method::HEAD)).await);
        assert_eq!(head.body, "");
        assert_eq!((get.status, get.headers), (head.status, head.headers), "{path}");
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_next_request_is_served() {
    let node = Node::new();
    let answer = node.ask(ask(Method::GET, "/panic").empty()).await;
    assert_eq!(answer.says(), "500 internal error");
    assert!(!answer.body.contains("on purpose"));
    assert_eq!(node.ask(ask(Method::GET, "/healthz").empty()).await.body, "ok");
    assert_eq!(node.metrics.http_requests_in_flight.get(), 0);
}

#[tokio::test]
async fn a_draining_node_asks_http1_clients_to_reconnect_elsewhere() {
    let node = Node::new();
    let healthz = |version| ask(Method::GET, "/healthz").version(version).empty();
    assert_eq!(node.ask(healthz(http::Version::HTTP_11)).await.header("connection"), None);
    node.draining.cancel();
    assert_eq!(node.ask(healthz(http::Version::HTTP_11)).await.header("connection"), Some("close"));
    assert_eq!(node.ask(healthz(http::Version::HTTP_2)).await.header("connection"), None);
}

#[tokio::test]
async fn an_http2_answer_has_no_header_about_its_connection() {
    let large = |version| {
        ask(Method::POST, "/echo").version(version).header("content-length", "99999").empty()
    };
    let node = Node::new();
    let http1 = node.ask(large(http::Version::HTTP_11)).await;
    assert_eq!((http1.status.as_u16(), http1.header("connection")), (413, Some("close")));
    let http2 = node.ask(large(http::Version::HTTP_2)).await;
    assert_eq!((http2.status.as_u16(), http2.header("connection")), (413, None));
}

#[tokio::test]
async fn requests_are_counted_by_template_never_by_path() {
    let node = Node::new();
    node.ask(ask(Method::GET, "/admin/queues/geheim").token("admin").empty()).await;
    node.ask(ask(Method::GET, "/admin/queues/geheim").empty()).await;
    node.ask(ask(Method::GET, "/geheim").empty()).await;
    node.ask(ask(Method::PUT, "/tasks").empty()).await;
    node.ask(ask(Method::GET, "/panic").empty()).await;
    let text = String::from_utf8(node.metrics.page(Exposition::Text).unwrap()).unwrap();
    assert!(!text.contains("geheim"));
    for labels in [
        r#"code="200",method="GET",route="/admin/queues/{command}""#,
        r#"code="401",method="GET",route="/admin/queues/{command}""#,
        r#"code="404",method="GET",route="_unmatched""#,
        r#"code="405",method="PUT",route="/tasks""#,
        r#"code="500",method="GET",route="/panic""#,
    ] {
        assert!(text.contains(&format!("codeq_http_requests_total{{{labels}}} 1")), "{labels}");
    }
}

#[tokio::test]
async fn only_probes_are_left_out_of_the_requests_in_flight() {
    use futures_util::FutureExt as _;
    let node = Node::new();
    let mut waiting = Box::pin(node.ask(ask(Method::GET, "/wait").empty()));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!(node.metrics.http_requests_in_flight.get(), 1);
    drop(waiting);
    assert_eq!(node.metrics.http_requests_in_flight.get(), 0);
    let text = String::from_utf8(node.metrics.page(Exposition::Text).unwrap()).unwrap();
    assert!(text.contains(r#"codeq_http_requests_total{code="499",method="GET",route="/wait"} 1"#));
}

#[tokio::test]
async fn the_document_describes_the_routes_and_resolves_its_references() {
    #[utoipa::path(get, path = "/things/{id}", params(("id" = String, Path, description = "which")),
        security(("bearer" = [])), responses((status = 200, body = String), responses::Authenticated, responses::RateLimited))]
    async fn thing() -> &'static str {
        "thing"
    }
    let described =
        utoipa_axum::router::OpenApiRouter::<Node>::new().routes(utoipa_axum::routes!(thing));
    let router = around(documented(described, utoipa::openapi::OpenApi::default()), Node::new());
    let response = router.oneshot(ask(Method::GET, "/openapi.json").empty()).await.unwrap();
    let document = Answer::of(response).await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/openapi.json", "/things/{id}"]);
    let codes = document["paths"]["/things/{id}"]["get"]["responses"].as_object().unwrap();
    assert!(codes.contains_key("200") && codes.contains_key("503"));
    for reference in document.to_string().split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let used = &document["paths"]["/things/{id}"]["get"]["security"][0];
    for scheme in used.as_object().unwrap().keys() {
        assert_eq!(document["components"]["securitySchemes"][scheme]["scheme"], "bearer");
    }
}

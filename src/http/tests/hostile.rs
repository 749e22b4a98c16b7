//! Arbitrary bytes in every place a client fills: never a panic, never a `500`.

use std::sync::LazyLock;

use http::HeaderValue;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;

/// Made once: a hundred metrics registries are most of what such a test would cost.
static BENCH: LazyLock<(Node, Runtime)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    (Node::new(), runtime)
});

fn header() -> impl Strategy<Value = HeaderValue> {
    prop::collection::vec(any::<u8>(), 0..200)
        .prop_filter_map("a header's value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

fn json_like() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "[\\[\\]{}\",:a-c0-9.eE+\\-\\\\ ]{0,80}".prop_map(String::into_bytes),
        "\\{\"delaySeconds\":[\\[{\"0-9nulltrue.-]{1,20}\\}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_request_is_answered_with_a_500(
        body in json_like(),
        segment in "[a-zA-Z0-9%{}*.~@:;=,+!$&'()-]{0,40}",
        query in "[a-z=&%0-9*+;\\[\\]]{0,40}",
        [id, trace, state, baggage, lease, length, authorization] in prop::array::uniform7(header()),
    ) {
        let (node, runtime) = &*BENCH;
        let uris = [
            (Method::POST, "/tasks".to_owned(), Some("producer")),
            (Method::POST, format!("/tasks/{segment}/nack"), Some("worker")),
            (Method::POST, format!("/tasks/{segment}/result"), Some("worker")),
            (Method::GET, format!("/admin/queues/{segment}?tenant={query}"), Some("operator")),
            (Method::GET, format!("/list?{query}"), Some("producer")),
            (Method::GET, format!("/list?limit={query}&cursor={segment}"), None),
            (Method::GET, "/trace".to_owned(), None),
            (Method::POST, format!("/{segment}?{query}"), None),
        ];
        for (method, uri, token) in uris {
            let mut request = Request::builder()
                .method(method)
                .header("x-request-id", &id)
                .header("traceparent", &trace)
                .header("tracestate", &state)
                .header("baggage", &baggage)
                .header("x-codeq-lease-token", &lease)
                .header("idempotency-key", &lease);
            let Ok(uri) = uri.parse::<http::Uri>() else { continue };
            request = match token {
                Some(token) => request.uri(uri).token(token),
                None => request.uri(uri).header("authorization", &authorization)
                    .header("content-length", &length),
            };
            let answer = runtime.block_on(node.ask(request.text(body.clone())));
            prop_assert!(answer.status.as_u16() < 500, "{} {}", answer.status, answer.body);
        }
    }

    #[test]
    fn what_is_kept_of_trace_headers_is_short_and_clean(
        text in "[ -~\\t]{0,600}", entries in prop::collection::vec("[a-z@]{1,5}=[ -~]{0,300}", 0..40)
    ) {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for value in [text, entries.join(",")] {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::from_static(parent));
            for name in ["tracestate", "baggage"] {
                let Ok(value) = HeaderValue::from_str(&value) else { continue };
                headers.insert(name, value);
            }
            let kept = TraceHeaders::of(&headers, true);
            prop_assert_eq!(kept.traceparent.as_deref(), Some(parent));
            prop_assert!(kept.tracestate.is_none_or(|kept| (1..=512).contains(&kept.len())));
            prop_assert!(kept.baggage.is_none_or(|kept| (1..=8192).contains(&kept.len())));
        }
    }
}

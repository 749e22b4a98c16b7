//! Context that comes in goes on: through Redis, to workers and to receivers.

use serde_json::{Value, json};

use super::{INCOMING, UNSAMPLED, parent, text, traced, traced_with, within};
use crate::support::{Call, Node, Receiver, Redis, Settings};

fn create(node: &Node, receiver: &Receiver) -> Call {
    let task = json!({"command": "m", "payload": 1, "webhook": receiver.url()});
    node.producer().create(task)
}

async fn end(node: &Node, claimed: &Value) {
    let token = &claimed["leaseToken"];
    node.worker().complete(text(claimed, "id")).lease(token).await.json_of(200);
}

#[tokio::test]
async fn t1_t2_without_tracing_context_passes_through_untouched() {
    let redis = Redis::start().await;
    let settings = Settings::on(&redis).set("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "true");
    let node = settings.start().await;
    let receiver = Receiver::start().await;
    let long = format!(
        "a=1,{}",
        (0..30).map(|n| format!("k{n}={}", "v".repeat(30))).collect::<Vec<_>>().join(",")
    );
    let baggage = "user=x%20y;p=1,b=2";
    let call = within(create(&node, &receiver), INCOMING).header("tracestate", &long);
    let answer = call.header("baggage", baggage).await;
    assert_eq!(answer.header("traceparent"), None, "no span, no answer of one");
    let created = answer.json_of(202);
    let claimed = node.worker().claimed("m").await;
    let state = text(&created, "traceState").to_owned();
    assert!(state.len() <= 512 && long.starts_with(&format!("{state},")), "{state}");
    for task in [&created, &claimed] {
        assert_eq!((parent(task), text(task, "baggage")), (INCOMING, baggage));
        assert_eq!(text(task, "traceState"), state);
    }
    end(&node, &claimed).await;
    let told = receiver.until_count(1).await;
    assert_eq!(told[0].header("traceparent"), Some(INCOMING));
    assert_eq!(told[0].header("tracestate"), Some(&*state));
    assert_eq!(told[0].header("baggage"), Some(baggage));

    let many = (0..65).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    for (name, wrong, field) in [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "traceParent"),
        ("traceparent", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "traceParent"),
        ("baggage", &*many, "baggage"),
        ("baggage", &*format!("a={}", "x".repeat(8191)), "baggage"),
    ] {
        let task = create(&node, &receiver).header(name, wrong).await.json_of(202);
        assert_eq!(task.get(field), None, "{name}: {wrong:.40}");
    }
    let bare = create(&node, &receiver).await.json_of(202);
    for field in ["traceParent", "traceState", "baggage"] {
        assert_eq!(bare.get(field), None, "what did not come in is absent");
    }
}

#[tokio::test]
async fn t1_with_tracing_state_and_baggage_go_on_unchanged_and_baggage_may_be_refused() {
    let redis = Redis::start().await;
    let (node, collector) = traced(&redis).await;
    let receiver = Receiver::start().await;
    let call = within(create(&node, &receiver), INCOMING).header("tracestate", "b=2,a=1");
    call.header("baggage", "who=me").await.json_of(202);
    let claimed = node.worker().claimed("m").await;
    assert_eq!((text(&claimed, "traceState"), text(&claimed, "baggage")), ("b=2,a=1", "who=me"));
    end(&node, &claimed).await;
    let told = receiver.until_count(1).await;
    assert_eq!(told[0].header("tracestate"), Some("b=2,a=1"));
    assert_eq!(told[0].header("baggage"), Some("who=me"));
    assert_eq!(collector.first("codeq.webhook.task_result").await.state, "b=2,a=1");

    let settings = Settings::on(&redis).file(&redis, "tracing: { baggage: false }");
    let without = settings.start().await;
    let call = within(create(&without, &receiver), INCOMING).header("baggage", "who=me");
    assert_eq!(call.await.json_of(202).get("baggage"), None);
}

#[tokio::test]
async fn t20_without_propagators_nothing_is_taken_and_nothing_sent() {
    let redis = Redis::start().await;
    let (node, _collector) = traced_with(&redis, &[("OTEL_PROPAGATORS", "none")]).await;
    let receiver = Receiver::start().await;
    let call = within(create(&node, &receiver), INCOMING).header("tracestate", "a=1");
    let answer = call.header("baggage", "who=me").await;
    assert_eq!(answer.header("traceparent"), None);
    let created = answer.json_of(202);
    assert_ne!(parent(&created)[3..35], INCOMING[3..35], "its own trace");
    assert_eq!((created.get("traceState"), created.get("baggage")), (None, None));
    let claimed = node.worker().claimed("m").await;
    end(&node, &claimed).await;
    let told = receiver.until_count(1).await;
    for header in ["traceparent", "tracestate", "baggage"] {
        assert_eq!(told[0].header(header), None);
    }
}

#[tokio::test]
async fn t24_an_upstream_decision_wins_both_ways_and_is_stored() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let (all, seen) = traced(&redis).await;
    let created = within(create(&all, &receiver), UNSAMPLED).await.json_of(202);
    assert!(parent(&created).ends_with("-00") && parent(&created) != UNSAMPLED);
    let claimed = all.worker().claimed("m").await;
    assert!(parent(&claimed).ends_with("-00") && parent(&claimed) != parent(&created));
    end(&all, &claimed).await;
    let told = receiver.until_count(1).await;
    let sent = told[0].header("traceparent").unwrap().to_owned();
    assert!(sent.starts_with(&UNSAMPLED[..35]) && sent.ends_with("-00"), "{sent}");

    let (none, kept) = traced_with(&redis, &[("TRACING_SAMPLE_RATIO", "0")]).await;
    create(&none, &receiver).await.json_of(202);
    within(create(&none, &receiver), INCOMING).await.json_of(202);
    let span = kept.first("codeq.task.create").await;
    assert_eq!(span.trace_id, INCOMING[3..35]);
    none.stop().await;
    all.stop().await;
    assert!(kept.spans().iter().all(|span| span.trace_id == INCOMING[3..35]), "no root");
    // The workers' calls are roots of their own, and sampled.
    assert!(seen.spans().iter().all(|span| span.trace_id != UNSAMPLED[3..35]));
    assert!(seen.named("POST /v1/codeq/tasks/claim").len() == 1);
}

#[tokio::test]
async fn t5_the_context_survives_a_restart_of_the_node_and_of_redis() {
    let mut redis = Redis::durable().await;
    let (node, _collector) = traced(&redis).await;
    let task = json!({"command": "m", "payload": 1});
    let call = within(node.producer().create(task), INCOMING).header("tracestate", "a=1");
    let created = call.await.json_of(202);
    let id = text(&created, "id");
    assert_eq!(parent(&created).len(), 55);
    node.stop().await;
    redis.restart().await;
    let again = Node::on(&redis).await;
    let found = again.producer().task(id).await;
    assert_eq!((parent(&found), text(&found, "traceState")), (parent(&created), "a=1"));
}

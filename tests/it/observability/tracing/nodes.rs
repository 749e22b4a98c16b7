//! One task, two nodes, a worker in another language, a receiver: one trace.

use std::process::{Command, Stdio};

use serde_json::json;

use super::{INCOMING, TRACE, parent, text, within};
use crate::support::process::{Lines, Process};
use crate::support::{Collector, Receiver, Redis, Reply, Settings, eventually};

#[tokio::test]
async fn t6_t7_t8_t9_one_trace_over_two_nodes_a_worker_and_a_receiver() {
    let redis = Redis::start().await;
    let collector = Collector::start().await;
    let receiver = Receiver::start().await;
    let settings = collector
        .of(Settings::on(&redis))
        .set("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "true")
        .set("RESULT_WEBHOOK_BASE_BACKOFF_SECONDS", "1")
        .set("RESULT_WEBHOOK_MAX_BACKOFF_SECONDS", "1");
    let a = settings.clone().set("HOSTNAME", "node-a").start().await;
    let mut b = settings.set("HOSTNAME", "node-b").start().await;

    let task = json!({"command": "m", "payload": {"n": 1}, "webhook": receiver.url()});
    let created = within(a.producer().create(task), INCOMING).await.json_of(202);
    let id = text(&created, "id");
    // Nobody hears of the end while B lives: the first who asks is refused, then B is killed.
    receiver.answers(Reply::Status(503));
    let mut command = Command::new("python3");
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/worker.py"))
        .arg("m")
        .env("CODEQ_URL", b.anyone().origin)
        .env("CODEQ_TOKEN", "worker")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.origin())
        .env("WORKER_TASKS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut worker = Process::start(&mut command);
    let lines = Lines::of(&mut worker);
    let status = worker.exit(std::time::Duration::from_secs(20)).await;
    assert!(status.success(), "{:?}", lines.all());
    let submit = collector.first("codeq.task.submit_result").await;
    let worked = collector.first("process m").await;
    let requests = eventually("the worker's calls were told of", async || {
        let mut calls = collector.spans();
        calls.retain(|span| span.kind == "SERVER" && span.is_below(&worked));
        (calls.len() == 2).then_some(calls)
    })
    .await;
    // The first attempt is written down, so that nobody waits for the lease of a dead node.
    eventually("the receiver refused", async || {
        let lines = [a.lines(), b.lines()].concat();
        lines.iter().any(|line| line.contains("webhook.retry")).then_some(())
    })
    .await;
    b.kill();
    receiver.answers(Reply::OK);
    receiver
        .until("A delivers", |requests| {
            requests.iter().any(|request| request.answered == Some(200))
        })
        .await;
    let told = receiver.requests().pop().unwrap();
    // The receiver goes on with the trace that it was given.
    let sent = told.header("traceparent").unwrap().to_owned();
    let call = collector.of_traceparent(&sent).await;

    let [create, claim, beat] = ["codeq.task.create", "codeq.task.claim", "codeq.task.heartbeat"]
        .map(|name| {
            let found = collector.named(name);
            assert_eq!(found.len(), 1, "{name}");
            found[0].clone()
        });
    assert!([&create, &claim, &beat, &submit, &call, &worked].iter().all(|s| s.trace_id == TRACE));
    assert_eq!(create.traceparent(), parent(&created));
    assert!(claim.is_below(&create));
    assert!(worked.is_below(&claim), "the worker goes on from the claim: {worked:?}");
    assert!(beat.is_below(&claim));
    assert!(submit.is_below(&beat));
    assert!(call.is_below(&submit));
    let made_by = |span: &crate::support::Span| span.resource["service.instance.id"].clone();
    assert_eq!(made_by(&create), "node-a");
    assert!([&claim, &beat, &submit].iter().all(|span| made_by(span) == "node-b"));
    assert_eq!(made_by(&call), "node-a", "the node that is left delivers");
    assert!(beat.is_linked_to(&requests[0]) || beat.is_linked_to(&requests[1]));
    eventually("the task ended", async || {
        (a.producer().task(id).await["status"] == "COMPLETED").then_some(())
    })
    .await;
}

//! Waits, work, attempts, and what becomes of them.

use std::time::Duration;

use serde_json::json;

use super::{Nodes, at_most, buckets, of_m, quick};
use crate::support::{Receiver, Redis, Reply, eventually};

#[tokio::test]
async fn m38_a_task_that_waited_is_in_the_bucket_of_its_wait() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 2).await;
    let [here, there] = &nodes.0[..] else { panic!("two nodes") };
    here.producer().created("m").await;
    // A wait for a time that was planned is none, and its own begins when it is due.
    here.producer().create(json!({"command": "m", "payload": 1, "delaySeconds": 4})).await;
    tokio::time::sleep(Duration::from_millis(5_200)).await;
    for _ in 0..2 {
        there.worker().claimed("m").await;
    }
    let scrape = there.scrape().await;
    let name = "task_queue_wait_seconds";
    let bounds: Vec<String> = buckets(&scrape, name).into_iter().map(|(le, _)| le).collect();
    let expected = "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 30 60 120 300 600 1800 +Inf";
    assert_eq!(bounds.join(" "), expected);
    let counts = ["1", "5", "10"].map(|bound| at_most(&scrape, name, bound));
    assert_eq!(counts, [0.0, 1.0, 2.0], "by the clock of the store");
    assert_eq!(here.scrape().await.sum("codeq_task_claimed_total", "\"m\""), 0.0);
}

#[tokio::test]
async fn m39_work_is_timed_from_the_claim_to_what_the_worker_says() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 2).await;
    let [here, there] = &nodes.0[..] else { panic!("two nodes") };
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(here.producer().created("m").await["id"].as_str().unwrap().to_owned());
        here.worker().claimed("m").await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    there.worker().complete(&ids[0]).await.json_of(200);
    for _ in 0..2 {
        let answer = there.worker().nack(&ids[1], json!({})).await;
        assert!(answer.status == 200 || answer.status == 409, "{}", answer.shown());
    }
    there.worker().abandon(&ids[2]).await.json_of(200);
    let scrape = there.scrape().await;
    for outcome in ["ack", "nack"] {
        let name = format!("task_execution_seconds{{outcome=\"{outcome}\"}}");
        let counts = ["0.25", "2.5", "+Inf"].map(|bound| at_most(&scrape, &name, bound));
        assert_eq!(counts, [0.0, 1.0, 1.0], "{outcome}");
    }
    let others = nodes
        .counted([
            "task_attempts_count",
            "task_attempts_sum",
            "task_retries_total{reason=\"nack\"}",
            "task_returned_total{reason=\"abandon\"}",
        ])
        .await;
    assert_eq!(others, [1.0, 1.0, 1.0, 1.0]);
    // How long the store takes to decide: from under a millisecond to a second.
    let decided = "codeq_store_operation_duration_seconds_bucket{operation=\"submit\"";
    let bounds = scrape.buckets(&format!("{decided}}}"));
    assert_eq!((bounds[0].0.as_str(), bounds[11].0.as_str()), ("0.00025", "1"));
    assert_eq!(scrape.value(&of_m("queue_depth{queue=\"in_progress\"}")), 0.0);
}

#[tokio::test]
async fn m40_a_slow_receiver_is_in_the_bucket_of_its_delay() {
    let redis = Redis::start().await;
    let settings = quick(&redis).set("WEBHOOK_HMAC_SECRET", "0123456789abcdef0123456789abcdef");
    let nodes = Nodes::with(settings, 1).await;
    let node = &nodes.0[0];
    let receiver = Receiver::start().await;
    receiver.answers(Reply::Slow(Duration::from_millis(300)));
    let id = node.producer().created_with_webhook("m", &receiver.url()).await;
    node.worker().claimed("m").await;
    node.worker().complete(&id).await.json_of(200);
    let series = "codeq_webhook_duration_seconds_bucket{kind=\"task_result\"}";
    eventually("it was told", async || {
        let buckets = node.scrape().await.buckets(series);
        let at_most = |bound: &str| buckets.iter().find(|(le, _)| le == bound).unwrap().1;
        (at_most("+Inf") == 1.0).then(|| {
            assert_eq!((at_most("0.25"), at_most("2.5")), (0.0, 1.0));
        })
    })
    .await;
}

#[tokio::test]
#[expect(clippy::cast_precision_loss, reason = "two tasks")]
async fn m44_every_way_out_of_the_dlq_is_counted() {
    let redis = Redis::start().await;
    let settings = quick(&redis).set("DLQ_RETENTION_SECONDS", "1");
    let nodes = Nodes::with(settings, 2).await;
    let [here, there] = &nodes.0[..] else { panic!("two nodes") };
    let create = async |tasks: usize| {
        for _ in 0..tasks {
            let doomed = json!({"command": "m", "payload": 1, "maxAttempts": 1});
            here.producer().create(doomed).await.json_of(202);
        }
    };
    let bury = async |tasks: u64| {
        for _ in 0..tasks {
            let id = there.worker().claimed("m").await["id"].as_str().unwrap().to_owned();
            there.worker().nack(&id, json!({})).await.json_of(200);
        }
    };
    let moved = |kind: &str| format!("dlq_moved_total{{kind=\"{kind}\"}}");
    create(2).await;
    bury(2).await;
    let back = here.admin().bare_post("/admin/queues/m/dlq/requeue").await.json_of(200);
    let back = back["requeued"].as_u64().unwrap();
    bury(back).await;
    let gone = there.admin().bare_post("/admin/queues/m/dlq/purge").await.json_of(200);
    let gone = gone["purged"].as_u64().unwrap();
    create(1).await;
    bury(1).await;
    let (requeue, purge, expired) = (moved("requeue"), moved("purge"), moved("expired"));
    eventually("all that died has left", async || {
        let counts = nodes.counted([&requeue, &purge, &expired]).await;
        let dead = nodes.counted(["task_dead_lettered_total{reason=\"nack\"}"]).await[0];
        // A busy machine may let one expire before it is asked for.
        let as_answered = counts[..2] == [back as f64, gone as f64];
        (as_answered && counts.iter().sum::<f64>() == dead).then_some(())
    })
    .await;
}

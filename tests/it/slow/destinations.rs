//! Destinations in real time, with three nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Node, Receiver, Redis, Reply, Settings, eventually};

async fn fleet(redis: &Redis) -> [Node; 3] {
    let hooked = || Settings::on(redis).set("RESULT_WEBHOOK_BASE_BACKOFF_SECONDS", "1").start();
    [hooked().await, hooked().await, hooked().await]
}

/// Tasks of forty queues, so that their deliveries are on many partitions, whose end is told.
async fn completed(nodes: &[Node; 3], receiver: &Receiver, tasks: usize) {
    for n in 0..tasks {
        let node = &nodes[n % 3];
        let command = format!("m{}", n % 40);
        let id = node.producer().created_with_webhook(&command, &receiver.url()).await;
        node.worker().claimed(&command).await;
        node.worker().complete(&id).await.json_of(200);
    }
}

async fn only(admin: &Client) -> Option<serde_json::Value> {
    admin.destinations("").await.json_of(200)["items"].get(0).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_for_the_whole_fleet_and_is_used() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let nodes = fleet(&redis).await;
    completed(&nodes, &receiver, 1).await;
    receiver.until_count(1).await;
    let admin = nodes[0].admin();
    let it = eventually("it is known", || only(&admin)).await;
    let id = it["id"].as_str().unwrap();
    admin.pause_destination(id).await.json_of(200);
    admin.put_destination(id, json!({"maxPerSecond": 20})).await.json_of(200);
    completed(&nodes, &receiver, 400).await;
    admin.resume_destination(id).await.json_of(200);
    let patience = Duration::from_secs(60);
    receiver.until_within(patience, "all came", |all| all.len() >= 401).await;
    let came = receiver.requests();
    let seconds = (came[400].at - came[1].at).as_secs_f64();
    let rate = 399.0 / seconds;
    println!("{rate:.2} per second instead of 20");
    assert!((18.0..=21.0).contains(&rate), "{rate} per second");
    // Nor more within any five seconds.
    for (n, first) in came.iter().enumerate().skip(1) {
        let within = |at| at - first.at < Duration::from_secs(5);
        let burst = came[n..].iter().take_while(|one| within(one.at)).count();
        assert!(burst <= 106, "{burst} in five seconds");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_back_is_found_by_one_probe_and_gets_all_at_once() {
    let redis = Redis::start().await;
    let mut receiver = Receiver::start().await;
    let nodes = fleet(&redis).await;
    receiver.leave().await;
    completed(&nodes, &receiver, 60).await;
    let admin = nodes[1].admin();
    eventually("it is open", || async { only(&admin).await.filter(|it| it["state"] == "open") })
        .await;
    receiver.come_back().await;
    // The probe takes a second; until it is answered nobody else comes.
    receiver.answers(Reply::Slow(Duration::from_millis(400)));
    let patience = Duration::from_secs(60);
    receiver.until_within(patience, "all came", |all| all.len() >= 60).await;
    let came = receiver.requests();
    let before = came.iter().filter(|one| one.at - came[0].at < Duration::from_millis(400));
    assert_eq!(before.count(), 1, "one probe in the fleet");
    let ids: BTreeSet<_> = came.iter().map(|one| one.webhook_id().to_owned()).collect();
    assert_eq!(ids.len(), 60);
    let seconds = (came.last().unwrap().at - came[0].at).as_secs_f64();
    println!("all were there {seconds:.2} s after the probe");
    assert!(seconds < 5.0, "{seconds}");
    let line = |node: &Node| node.lines().iter().any(|line| line.contains("destination.recovered"));
    assert_eq!(nodes.iter().filter(|node| line(node)).count(), 1, "told once");
}

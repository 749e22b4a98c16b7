//! What a scrape reads from the store.

use serde_json::json;

use super::{Nodes, of_m, quick, until_gauge};
use crate::support::{Redis, eventually};

#[tokio::test]
async fn m9_the_oldest_ready_task_and_a_paused_queue_show_on_every_node() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 2).await;
    let [here, there] = &nodes.0[..] else { panic!("two nodes") };
    here.producer().created("m").await;
    here.token("globex-producer").created("m").await;
    here.admin().bare_post("/admin/queues/m/pause").await.json_of(200);
    let (age, paused) = (of_m("queue_oldest_ready_age_seconds"), of_m("queue_paused"));
    until_gauge(there, &age, |seconds| (1.0..60.0).contains(&seconds)).await;
    for node in [here, there] {
        until_gauge(node, &paused, |is| is == 1.0).await;
    }
    there.admin().bare_post("/admin/queues/m/resume").await.json_of(200);
    here.token("globex-worker").claimed("m").await;
    until_gauge(here, &paused, |is| is == 0.0).await;
    until_gauge(here, &age, |seconds| seconds > 1.0).await;
    here.worker().claimed("m").await;
    until_gauge(there, &age, |seconds| seconds == 0.0).await;
    assert!(there.scrape().await.has("codeq_delayed_overdue_seconds"));
}

#[tokio::test]
async fn m9_workers_that_called_lately_are_told_apart_over_the_fleet() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 2).await;
    let [here, there] = &nodes.0[..] else { panic!("two nodes") };
    for command in ["m", "idle"] {
        here.producer().created(command).await;
    }
    // Two by name, one of them at both nodes; a third of another tenant; and one that takes anything.
    for node in [here, there] {
        for _ in 0..5 {
            node.worker().claim("M").await;
        }
    }
    there.other_worker().claim("m").await;
    here.token("globex-worker").claim("m").await;
    here.token("worker-same-subject").claim("m").await;
    let workers = of_m("workers_active");
    for node in [here, there] {
        until_gauge(node, &workers, |count| count == 3.0).await;
    }
    let of_idle = "codeq_workers_active{command=\"idle\"}";
    assert_eq!(here.scrape().await.value(of_idle), 0.0);
    let any = there.token("claim-only").claim_as(json!({})).await.json_of(200);
    assert_eq!(any["command"], "idle");
    until_gauge(here, of_idle, |count| count == 1.0).await;
    // What it asks for is anything: also that of which this node has heard.
    until_gauge(here, &workers, |count| count == 4.0).await;
}

#[tokio::test]
async fn m9_tenants_and_priorities_have_series_only_when_the_settings_name_them() {
    let redis = Redis::start().await;
    let plain = Nodes::on(&redis, 1).await;
    let settings =
        quick(&redis).set("METRICS_TENANTS", "acme,nobody").set("METRICS_PRIORITY_COMMANDS", "M");
    let nodes = Nodes::with(settings, 1).await;
    let node = &nodes.0[0];
    for priority in [0, 9, 9] {
        let task = json!({"command": "m", "payload": 1, "priority": priority});
        node.producer().create(task).await.json_of(202);
    }
    for (producer, worker) in [("producer", "worker"), ("globex-producer", "globex-worker")] {
        let id = node.token(producer).created("n").await["id"].as_str().unwrap().to_owned();
        node.token(worker).claimed("n").await;
        node.token(worker).complete(&id).await.json_of(200);
        node.token(producer).created("n").await;
    }
    let ready = |tenant| format!("codeq_tenant_queue_depth{{queue=\"ready\",tenant=\"{tenant}\"}}");
    let by_priority =
        |of| format!("codeq_queue_ready_by_priority{{command=\"m\",priority=\"{of}\"}}");
    eventually("the depths are these", async || {
        let scrape = node.scrape().await;
        let depths = ["acme", "_other", "nobody"].map(|tenant| scrape.value(&ready(tenant)));
        let split = [0, 5, 9].map(|priority| scrape.value(&by_priority(priority)));
        (depths == [4.0, 1.0, 0.0] && split == [1.0, 0.0, 2.0]).then_some(())
    })
    .await;
    let scrape = node.scrape().await;
    for tenant in ["acme", "_other"] {
        let of = |family: &str, rest: &str| {
            scrape.value(&format!("codeq_tenant_{family}_total{{{rest}tenant=\"{tenant}\"}}"))
        };
        assert_eq!(of("task_completed", "status=\"COMPLETED\","), 1.0, "{tenant}");
        assert!(of("execution_seconds", "") < 60.0);
    }
    let families = plain.0[0].scrape().await;
    let families = families.families();
    let opted: Vec<_> = families
        .iter()
        .filter(|name| name.starts_with("codeq_tenant_") || name.ends_with("_by_priority"))
        .collect();
    assert_eq!(opted, [&""; 0], "without being asked for");
}

#[tokio::test]
async fn m26_a_sweep_is_counted_timed_and_fails_visibly() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 1).await;
    let node = &nodes.0[0];
    let later = json!({"command": "m", "payload": 1, "delaySeconds": 1});
    node.producer().create(later).await.json_of(202);
    until_gauge(node, "codeq_sweep_moved_total{kind=\"delayed\"}", |moved| moved == 1.0).await;
    let scrape = node.scrape().await;
    let runs = scrape.value("codeq_sweep_runs_total{outcome=\"ok\"}");
    assert!(runs >= 1.0);
    assert!(scrape.value("codeq_sweep_duration_seconds_count") >= runs);
    redis.freeze();
    until_gauge(node, "codeq_sweep_runs_total{outcome=\"error\"}", |runs| runs >= 1.0).await;
    redis.thaw();
}

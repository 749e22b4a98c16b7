//! Which values the label `command` has.

use serde_json::json;

use super::{Nodes, quick, until_gauge};
use crate::support::{Redis, Scrape};

fn created(scrape: &Scrape, command: &str) -> f64 {
    scrape.value(&format!("codeq_task_created_total{{command=\"{command}\"}}"))
}

const OVERFLOW: &str = "codeq_metrics_label_overflow_total{label=\"command\"}";

#[tokio::test]
async fn m11_the_registry_is_one_for_the_fleet_and_bounded() {
    let redis = Redis::start().await;
    let nodes = Nodes::with(quick(&redis).set("METRICS_MAX_COMMANDS", "2"), 2).await;
    let [here, there] = &nodes.0[..] else { panic!("two nodes") };
    here.producer().created("Mail").await;
    there.producer().created("print").await;
    // The cap is reached, at both nodes and for all that comes.
    for n in 0..20 {
        let node = &nodes.0[n % 2];
        node.producer().created(&format!("flood-{n}")).await;
    }
    there.producer().created("MAIL").await;
    here.producer().created("PRINT").await;
    here.producer().created("_other").await;
    let (here_now, there_now) = (here.scrape().await, there.scrape().await);
    let sum = |command| created(&here_now, command) + created(&there_now, command);
    assert_eq!(["Mail", "print", "_other"].map(sum), [2.0, 2.0, 21.0]);
    assert_eq!(here_now.sum("codeq_task_created_total", ""), 13.0);
    assert_eq!(here_now.value(OVERFLOW) + there_now.value(OVERFLOW), 20.0);
    until_gauge(here, "codeq_queue_depth{command=\"_other\",queue=\"ready\"}", |n| n == 21.0).await;
    until_gauge(there, "codeq_queue_oldest_ready_age_seconds{command=\"_other\"}", |s| s > 0.0)
        .await;
    let line = there.line(|line| line["context"]["command"] == "Mail").await;
    assert_eq!(line["event"], "task.created", "the line of MAIL names its queue as metrics do");
    let own = here.line(|line| line["context"]["command"] == "flood-2").await;
    assert_eq!(own["event"], "task.created", "past the cap a line keeps the task's own spelling");
}

#[tokio::test]
async fn m11_pinned_commands_are_the_only_ones_with_a_label() {
    let redis = Redis::start().await;
    let nodes = Nodes::with(quick(&redis).set("METRICS_COMMANDS", "mail,print"), 1).await;
    let node = &nodes.0[0];
    for command in ["junk", "Mail", "more"] {
        let id = node.producer().created(command).await["id"].as_str().unwrap().to_owned();
        node.worker().claimed(command).await;
        node.worker().nack(&id, json!({})).await.json_of(200);
    }
    let scrape = node.scrape().await;
    assert_eq!(
        ["Mail", "_other", "junk"].map(|command| created(&scrape, command)),
        [1.0, 2.0, 0.0]
    );
    assert_eq!(scrape.sum("codeq_task_retries_total", "_other"), 2.0);
    assert_eq!(scrape.value(OVERFLOW), 2.0);
}

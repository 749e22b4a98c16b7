//! How a scrape is written.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::page::{entries, family_of, series};
use crate::support::{Node, Redis, eventually};

/// One task from its creation to its end.
async fn one_life(node: &Node) {
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    node.worker().claimed("m").await;
    node.worker().complete(&id).await.json_of(200);
}

fn committed_page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap()
}

#[tokio::test]
async fn m1_a_scrape_is_clean_for_promtool() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    one_life(&node).await;
    let answer = node.anyone().get("//metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4"));
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there");
    promtool.stdin.take().unwrap().write_all(&answer.body).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.status.success() && text.is_empty(), "{text}");
}

#[tokio::test]
async fn m22_metrics_have_one_sink() {
    let manifest =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let of_traces = manifest.lines().filter(|line| line.starts_with("opentelemetry"));
    let features: Vec<&str> = of_traces.filter(|line| line.contains("\"metrics\"")).collect();
    assert!(features.is_empty(), "what is counted twice may differ: {features:?}");
}

#[tokio::test]
async fn m24_a_fresh_node_shows_no_series_that_stands_for_nothing() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let answer = node.anyone().get("//metrics").await;
    let entries = entries(&committed_page());
    let mut seen = 0;
    for (name, labels) in series(answer.text()) {
        let entry = &entries[family_of(&name, &entries)];
        for (label, value) in labels.iter().filter(|(label, _)| *label != "le") {
            let values = entry.labels.get(label).unwrap_or_else(|| panic!("{name}: {label}"));
            if let Some(values) = values {
                assert!(values.contains(value), "{name}: {label}={value}");
                seen += 1;
            } else {
                assert!(label != "command" || value == "_other", "{name}: nobody sent a task");
                let stands_for_nothing = ["_init", "unknown", "none", "null", "?"];
                assert!(!stands_for_nothing.contains(&value.as_str()), "{name}: {label}={value}");
                assert!(!value.is_empty() || label == "revision", "{name}: {label} is empty");
            }
        }
    }
    assert!(seen > 50, "closed sets are there from the start: {seen}");
}

#[tokio::test]
async fn m42_the_page_says_of_every_family_what_the_binary_does() {
    let printed = Command::new(env!("CARGO_BIN_EXE_codeq")).arg("metrics").output().unwrap();
    let page = committed_page();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), page);
    let entries = entries(&page);
    assert!(entries.len() > 50, "the page was not read: {}", entries.len());

    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    one_life(&node).await;
    let answer = node.anyone().get("//metrics").await;
    let text = answer.text();
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').unwrap();
        assert_eq!(entries.get(name).map(|entry| entry.help.as_str()), Some(help), "{name}");
    }
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_eq!(entries[name].kind, kind, "{name}");
    }
    for (name, labels) in series(text) {
        let entry = &entries[family_of(&name, &entries)];
        let of_series: Vec<_> = labels.keys().filter(|label| *label != "le").collect();
        assert_eq!(of_series, entry.labels.keys().collect::<Vec<_>>(), "{name}");
    }
}

#[tokio::test]
async fn m43_openmetrics_is_written_for_those_who_ask() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    one_life(&node).await;
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let answer = node.anyone().get("//metrics").header("Accept", accept).await;
    assert_eq!(
        answer.header("Content-Type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = answer.text();
    assert!(text.ends_with("\n# EOF\n"));
    assert!(text.contains("# TYPE codeq_task_created counter\n"), "{text}");
    assert!(text.contains("codeq_task_created_total{command=\"m\"} 1\n"), "{text}");
    assert!(!text.contains("trace_id"), "nothing was sampled");
}

/// Families without a series on a node that has done its work, and the test that shows each.
const NEED_MORE: [(&str, &str, &str); 5] = [
    (
        "codeq_jwks_last_success_timestamp_seconds",
        "exposition/machine.rs",
        "m36_fetches_of_a_key_set_count_and_its_age_is_there_only_with_one",
    ),
    ("codeq_queue_ready_by_priority", OPT_IN.0, OPT_IN.1),
    ("codeq_tenant_execution_seconds_total", OPT_IN.0, OPT_IN.1),
    ("codeq_tenant_queue_depth", OPT_IN.0, OPT_IN.1),
    ("codeq_tenant_task_completed_total", OPT_IN.0, OPT_IN.1),
];
const OPT_IN: (&str, &str) =
    ("counts/gauges.rs", "m9_tenants_and_priorities_have_series_only_when_the_settings_name_them");

#[tokio::test]
async fn m26_every_family_is_alive_after_one_task_or_has_a_test_of_its_own() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    one_life(&node).await;
    let entries = entries(&committed_page());
    let expected: Vec<&str> = NEED_MORE.iter().map(|(name, ..)| *name).collect();
    eventually("every other family has a series", async || {
        let answer = node.anyone().get("//metrics").await;
        let seen: BTreeSet<String> = series(answer.text())
            .iter()
            .map(|(name, _)| family_of(name, &entries).to_owned())
            .collect();
        let dead: Vec<&str> =
            entries.keys().filter(|name| !seen.contains(*name)).map(String::as_str).collect();
        (dead == expected).then_some(()).ok_or_else(|| println!("without a series: {dead:?}")).ok()
    })
    .await;
    for (name, file, test) in NEED_MORE {
        let file = format!("{}/tests/it/observability/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains(&format!("fn {test}()")), "{name}: where is {test}?");
    }
}

//! How many series a node may export.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::Nodes;
use crate::support::Redis;

/// What a series is split by beside closed sets, and how many series each value of it may have.
const BUDGETS: [(&str, usize); 3] = [("command", 150), ("route", 45), ("operation", 30)];
/// All others together.
const OTHERS: usize = 500;

/// The value of a label of a series. A value may hold brackets: routes do.
fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let begins = [format!("{{{name}=\""), format!(",{name}=\"")];
    let (_, rest) = begins.iter().find_map(|begin| series.split_once(begin.as_str()))?;
    rest.split('"').next()
}

#[tokio::test]
async fn m24_series_stay_within_their_budget_and_name_only_what_may_be_named() {
    let redis = Redis::start().await;
    let nodes = Nodes::on(&redis, 1).await;
    let node = &nodes.0[0];
    let commands = ["a", "b", "c"];
    for command in commands {
        for n in 0..3 {
            let webhook = (n == 0).then_some("http://127.0.0.1:9/");
            let task =
                json!({"command": command, "payload": 1, "webhook": webhook, "maxAttempts": 1});
            let id = node.producer().created_as(task).await;
            let lease = node.worker().claimed(command).await["leaseToken"].clone();
            node.worker().heartbeat(&id).lease(&lease).await.json_of(200);
            match n {
                0 => node.worker().complete(&id).lease(&lease).await,
                1 => node.worker().nack(&id, json!({})).lease(&lease).await,
                _ => node.worker().abandon(&id).lease(&lease).await,
            }
            .json_of(200);
        }
        for state in ["ready", "dlq"] {
            node.admin().get(&format!("/admin/queues/{command}/tasks?state={state}")).await;
        }
        node.admin().bare_post(&format!("/admin/queues/{command}/dlq/purge")).await.json_of(200);
    }
    for n in 0..30 {
        node.anyone().get(&format!("//{n}")).await;
        node.producer().read(&format!("unknown-{n}")).await;
    }
    let scrape = node.scrape().await;
    let mut by_value: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut others = Vec::new();
    for series in scrape.series() {
        // `operation` also names closed sets: limits and artifacts.
        let opened = |name: &str| name != "operation" || series.starts_with("codeq_store_");
        let split = BUDGETS.iter().find_map(|(name, _)| Some((*name, label(series, name)?)));
        match split.filter(|(name, _)| opened(name)) {
            Some(of) => *by_value.entry(of).or_default() += 1,
            None => others.push(series),
        }
    }
    for ((name, value), series) in &by_value {
        let budget = BUDGETS.iter().find(|(of, _)| of == name).unwrap().1;
        assert!(*series <= budget, "{name} {value} has {series} series");
    }
    assert!(others.len() <= OTHERS, "{} others: {others:#?}", others.len());
    let named: BTreeSet<&str> =
        by_value.keys().filter(|(name, _)| *name == "command").map(|(_, value)| *value).collect();
    assert_eq!(named, ["_other", "a", "b", "c"].into());
    println!("{by_value:#?}, {} others", others.len());
}

//! Spans, as a collector receives them.

pub mod fails_open;
mod http;
mod life;
mod nodes;
mod passing_on;
mod refused;
mod time;
mod webhooks;

use serde_json::Value;

use crate::support::{Answer, Call, Collector, Node, Redis, Settings};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// A node that traces, and what it sends.
async fn traced(redis: &Redis) -> (Node, Collector) {
    traced_with(redis, &[]).await
}

async fn traced_with(redis: &Redis, variables: &[(&str, &str)]) -> (Node, Collector) {
    let collector = Collector::start().await;
    let settings = collector.of(Settings::on(redis)).set("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "true");
    let set = |settings: Settings, (name, value): &(&str, &str)| settings.set(name, value);
    let node = variables.iter().fold(settings, set).start().await;
    (node, collector)
}

/// The `traceparent` that an answer names.
#[track_caller]
fn server(answer: &Answer) -> String {
    answer.header("traceparent").expect("a traceparent").to_owned()
}

fn parent(task: &Value) -> &str {
    task["traceParent"].as_str().unwrap_or_else(|| panic!("no traceParent: {task}"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field}: {value}"))
}

fn within(call: Call, traceparent: &str) -> Call {
    call.header("traceparent", traceparent)
}

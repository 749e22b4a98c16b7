//! Lines of the log: their schema and story, what never stands in them, and what they cost.
//!
//! That every line of every node follows the schema (L3) is a part of `support::node`.

mod full;
mod levels;
mod markers;
mod story;

use serde_json::Value;

use crate::support::Node;

/// The JSON lines of a node so far that are such.
fn lines_of(node: &Node, such: impl Fn(&Value) -> bool) -> Vec<Value> {
    let lines = node.lines();
    let parsed = lines.iter().map(|line| serde_json::from_str(line).expect(line));
    parsed.filter(|line: &Value| such(line)).collect()
}

fn is_of(line: &Value, task: &str) -> bool {
    line["context"]["task_id"] == task
}

fn events(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap()).collect()
}

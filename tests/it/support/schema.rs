//! What every line of a node's log looks like, whatever wrote it. A node that prints another one
//! fails the test that started it.

use serde_json::{Map, Value};

/// Every category with the levels that it may have.
pub const CATEGORIES: [(&str, &[&str]); 8] = [
    ("task", &["INFO", "DEBUG"]),
    ("queue", &["INFO", "WARN"]),
    ("worker", &["INFO", "DEBUG"]),
    ("webhook", &["INFO", "WARN", "ERROR", "DEBUG"]),
    ("security", &["WARN", "ERROR"]),
    ("audit", &["INFO"]),
    ("system", &["INFO", "WARN", "ERROR"]),
    ("debug", &["INFO", "DEBUG", "TRACE"]),
];

/// Fields on top, each with whether it stands on every line.
const TOP: [(&str, bool); 16] = [
    ("timestamp", true),
    ("level", true),
    ("service", true),
    ("env", true),
    ("version", true),
    ("instance", true),
    ("target", true),
    ("category", true),
    ("event", false),
    ("message", true),
    ("request_id", false),
    ("traceparent", false),
    ("trace_id", false),
    ("span_id", false),
    ("context", false),
    ("error", false),
];

/// Fields of the context that lines are searched by, and what they are.
const TEXTS: [&str; 8] =
    ["task_id", "command", "tenant_id", "worker_id", "producer_id", "status", "reason", "by"];
const NUMBERS: [&str; 8] = [
    "priority",
    "attempt",
    "max_attempts",
    "queue_wait_ms",
    "duration_ms",
    "total_duration_ms",
    "delay_ms",
    "suppressed",
];

/// What is wrong with a line, as it was printed; `None`: nothing.
pub fn flaw(line: &str) -> Option<String> {
    let Ok(Value::Object(line)) = serde_json::from_str(line) else {
        return Some("it is no JSON object".into());
    };
    top(&line)
        .or_else(|| line.get("context").and_then(context))
        .or_else(|| line.get("error").and_then(error))
        .or_else(|| trace(&line))
        .or_else(|| ours(&line))
}

fn text<'a>(line: &'a Map<String, Value>, name: &str) -> &'a str {
    line.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn top(line: &Map<String, Value>) -> Option<String> {
    for (name, is_required) in TOP {
        match line.get(name) {
            None if is_required => return Some(format!("{name} is missing")),
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(Value::Object(_)) if ["context", "error"].contains(&name) => {}
            Some(value) => return Some(format!("{name} is {value}")),
            None => {}
        }
    }
    let stranger = line.keys().find(|name| !TOP.iter().any(|(known, _)| known == name));
    if let Some(name) = stranger {
        return Some(format!("{name} has no place on top"));
    }
    let time = text(line, "timestamp");
    if time.len() != "2026-01-01T00:00:00.000Z".len() || time.parse::<jiff::Timestamp>().is_err() {
        return Some(format!("{time} is no time with milliseconds"));
    }
    let (level, category) = (text(line, "level"), text(line, "category"));
    let known = CATEGORIES.iter().find(|(name, _)| *name == category);
    if !known.is_some_and(|(_, levels)| levels.contains(&level)) {
        return Some(format!("category {category} at level {level}"));
    }
    (text(line, "service") != "codeq").then(|| "another service".into())
}

fn context(context: &Value) -> Option<String> {
    let context = context.as_object().filter(|context| !context.is_empty());
    let Some(context) = context else { return Some("an empty context".into()) };
    context.iter().find_map(|(name, value)| {
        let is_right = match (name.as_str(), value) {
            ("http", Value::Object(http)) => only(http, &["method", "route", "status"]),
            ("webhook", Value::Object(of)) => only(of, &["kind", "host", "attempt"]),
            ("moved" | "span", Value::Object(group)) => group.values().all(is_scalar),
            (name, value) if TEXTS.contains(&name) => value.is_string(),
            (name, value) if NUMBERS.contains(&name) => value.is_number(),
            ("will_retry", value) => value.is_boolean(),
            (_, value) => is_scalar(value),
        };
        (!is_right).then(|| format!("{name} in the context is {value}"))
    })
}

fn error(error: &Value) -> Option<String> {
    let is_right = error.as_object().is_some_and(|error| {
        !error.is_empty()
            && only(error, &["type", "message"])
            && error.values().all(Value::is_string)
    });
    (!is_right).then(|| format!("the error is {error}"))
}

fn only(object: &Map<String, Value>, names: &[&str]) -> bool {
    object.iter().all(|(name, value)| names.contains(&name.as_str()) && is_scalar(value))
}

fn is_scalar(value: &Value) -> bool {
    value.is_string() || value.is_number() || value.is_boolean()
}

fn trace(line: &Map<String, Value>) -> Option<String> {
    let parent = text(line, "traceparent");
    let ids = format!("00-{}-{}-", text(line, "trace_id"), text(line, "span_id"));
    let fits = if parent.is_empty() { ids == "00---" } else { parent.starts_with(&ids) };
    (!fits).then(|| format!("{parent} and {ids} do not fit"))
}

/// What is asked of lines that this program writes, and not of those of a library.
fn ours(line: &Map<String, Value>) -> Option<String> {
    if !text(line, "target").starts_with("codeq") {
        return None;
    }
    let (event, message) = (text(line, "event"), text(line, "message"));
    let is_name = |c: char| c.is_ascii_lowercase() || matches!(c, '.' | '_');
    if event.is_empty() || !event.chars().all(is_name) {
        return Some(format!("event {event:?}"));
    }
    // What differs from line to line is a field.
    if message.contains(|c: char| c.is_ascii_digit() || matches!(c, '{' | '=' | '/')) {
        return Some(format!("message {message:?} holds a value"));
    }
    let is_audit = text(line, "category") == "audit";
    if is_audit != (text(line, "target") == "codeq::audit") {
        return Some("audit lines have a target of their own".into());
    }
    let by = line.get("context").and_then(|context| context.get("by"));
    (is_audit && (by.is_none() || !event.starts_with("admin.")))
        .then(|| "an audit line says who, and what in admin.…".into())
}

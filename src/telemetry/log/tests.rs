use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::telemetry::start::build;
use crate::telemetry::{Options, Telemetry, trace};

/// Keeps what was written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Logged {
    kept: Kept,
    sink: Sink,
    metrics: Metrics,
    telemetry: Telemetry,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Logged {
    fn start(change: impl FnOnce(&mut Options)) -> Self {
        let metrics = Metrics::new();
        let kept = Kept::default();
        let sink = Sink::start(kept.clone(), metrics.log_lines_dropped.clone(), metrics.waits());
        let mut options = Options {
            identity: Identity { env: "test".into(), instance: "node-1".into() },
            format: Format::Json,
            levels: LogLevels::new("info", "").unwrap(),
            task_sample_ratio: 1.0,
            tracing: trace::Options::default(),
        };
        change(&mut options);
        let (subscriber, telemetry) = build(options, &metrics, sink.clone()).unwrap();
        let _guard = tracing::subscriber::set_default(subscriber);
        Self { kept, sink, metrics, telemetry, _guard }
    }

    fn text(&self) -> String {
        self.sink.flush(Duration::from_secs(10));
        String::from_utf8(self.kept.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_tasks_line_has_every_field_in_its_place() {
    let logged = Logged::start(|_| {});
    tracing::info!(
        target: "codeq::task",
        category = "task",
        event = "task.claimed",
        traceparent = TRACEPARENT,
        task_id = "a-1",
        command = "Gen.X",
        priority = 3,
        will_retry = true,
        queue_wait_ms = 1.5,
        reason = None::<&str>,
        http.method = "POST",
        webhook.host = "example.org",
        http.status = 200,
        "task claimed"
    );
    let mut line = logged.lines().remove(0);
    let timestamp = line["timestamp"].take();
    assert!(timestamp.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(timestamp.as_str().unwrap().len(), "2026-01-01T00:00:00.000Z".len());
    assert_eq!(
        line,
        json!({
            "timestamp": null, "level": "INFO", "service": "codeq", "env": "test",
            "version": env!("CARGO_PKG_VERSION"), "instance": "node-1", "target": "codeq::task",
            "category": "task", "event": "task.claimed", "message": "task claimed",
            "traceparent": TRACEPARENT,
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331",
            "context": {
                "task_id": "a-1", "command": "Gen.X", "priority": 3, "will_retry": true,
                "queue_wait_ms": 1.5, "http": { "method": "POST", "status": 200 },
                "webhook": { "host": "example.org" }
            }
        })
    );
}

#[test]
fn an_error_stands_under_error() {
    let logged = Logged::start(|_| {});
    let error = std::io::Error::other("refused \"loudly\"\nand twice");
    tracing::error!(error.r#type = "io", error.message = %error, "it failed");
    tracing::warn!(error = &error as &dyn std::error::Error, "it failed");
    let lines = logged.lines();
    let message = "refused \"loudly\"\nand twice";
    assert_eq!(lines[0]["error"], json!({ "type": "io", "message": message }));
    assert_eq!(lines[1]["error"], json!({ "message": message }));
    assert_eq!(lines[0]["category"], "system");
    assert!(lines[0].get("context").is_none(), "what is absent is left out: {}", lines[0]);
}

#[test]
fn a_value_can_neither_end_its_line_nor_its_string() {
    let logged = Logged::start(|_| {});
    let hostile = "a\"b\\c\nd\u{0}e\u{1b}[31m\u{7f}ü\r\t";
    tracing::info!(command = hostile, shown = %hostile, float = f64::NAN, "hostile");
    let text = logged.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["context"]["command"], hostile);
    assert_eq!(line["context"]["shown"], hostile);
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn l1_text_says_the_same_as_pairs() {
    let logged = Logged::start(|options| options.format = Format::Text);
    tracing::info!(
        category = "task",
        event = "task.created",
        task_id = "a-1",
        http.method = "GET",
        error.message = "no luck",
        "task created"
    );
    let text = logged.text();
    for pair in [
        " service=codeq ",
        " level=INFO ",
        " category=task ",
        " message=\"task created\" ",
        " task_id=a-1 ",
        " http.method=GET ",
        " error.message=\"no luck\"\n",
    ] {
        let level = pair.replace(" level", "level");
        assert!(text.contains(pair) || text.contains(&level), "{pair:?} is not in {text:?}");
    }
    assert!(text.starts_with("timestamp="), "{text}");
}

#[tokio::test]
async fn lines_of_a_request_carry_its_id() {
    let logged = Logged::start(|_| {});
    let task = TaskId::new(crate::model::Partition::new(0), 0);
    within(Request::new("r-7".into(), Some(TRACEPARENT.into())), async {
        tokio::task::yield_now().await;
        tracing::info!("inside");
        tracing::info!(traceparent = "00-1-2-00", request_id = "own", "inside, with its own");
        about(task);
        tracing::info!("of a task");
        tracing::info!(task_id = "own", "of another");
    })
    .await;
    tracing::info!("outside");
    let lines = logged.lines();
    assert_eq!(lines[0]["request_id"], "r-7");
    assert_eq!(lines[0]["traceparent"], TRACEPARENT);
    assert_eq!(lines[1]["request_id"], "own");
    assert_eq!(lines[1]["traceparent"], "00-1-2-00");
    assert!(lines[1].get("trace_id").is_none());
    assert_eq!(lines[2]["context"]["task_id"], task.to_string());
    assert_eq!(lines[3]["context"], json!({ "task_id": "own" }));
    assert!(lines[4].get("request_id").is_none());
}

#[test]
fn the_level_changes_at_run_time_and_a_wrong_one_changes_nothing() {
    let logged = Logged::start(|_| {});
    tracing::debug!("too early");
    logged.telemetry.log.set(Some("debug"), None).unwrap();
    tracing::debug!("in time");
    assert!(logged.telemetry.log.set(Some("loud"), None).is_err());
    assert!(logged.telemetry.log.set(None, Some("codeq=loud")).is_err());
    tracing::debug!("still");
    let now = logged.telemetry.log.set(Some("warn"), Some("codeq::webhooks=trace")).unwrap();
    assert_eq!(now, logged.telemetry.log.get());
    assert_eq!((now.level.as_str(), now.filter.as_str()), ("warn", "codeq::webhooks=trace"));
    tracing::info!("too late");
    tracing::trace!(target: "codeq::webhooks", "one module only");
    let lines = logged.lines();
    let messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["in time", "still", "one module only"]);
    assert_eq!(lines[2]["category"], "debug");
}

#[test]
fn lines_are_counted_by_level() {
    let logged = Logged::start(|_| {});
    tracing::warn!("once");
    tracing::info!("twice");
    tracing::info!("twice");
    tracing::debug!("never");
    let counted = |level| logged.metrics.log_lines.with(level).get();
    assert_eq!(counted(LogLevel::Warn), 1);
    assert_eq!(counted(LogLevel::Info), 2);
    assert_eq!(counted(LogLevel::Debug), 0);
}

#[test]
fn a_sampled_log_keeps_all_lines_of_a_task_or_none() {
    let logged = Logged::start(|options| options.task_sample_ratio = 0.5);
    for id in 0..200 {
        let task_id = format!("task-{id}");
        tracing::info!(category = "task", event = "task.created", task_id, "task created");
        tracing::info!(category = "task", event = "task.claimed", task_id, "task claimed");
    }
    let sampled = TRACEPARENT;
    for _ in 0..20 {
        tracing::info!(category = "task", task_id = "x", traceparent = sampled, "sampled trace");
        tracing::info!(category = "queue", task_id = "x", "another category");
    }
    let lines = logged.lines();
    let of = |what: &str| {
        let texts = lines.iter().filter(|line| line["message"] == what);
        texts.map(|line| line["context"]["task_id"].to_string()).collect::<Vec<_>>()
    };
    let kept = of("task created");
    assert_eq!(kept, of("task claimed"));
    assert!((60..140).contains(&kept.len()), "{} of 200", kept.len());
    assert_eq!((of("sampled trace").len(), of("another category").len()), (20, 20));
}

#[test]
fn a_panic_is_one_error_line() {
    let logged = Logged::start(|_| {});
    let before = std::panic::take_hook();
    panics_become_lines();
    let caught = std::panic::catch_unwind(|| panic!("on purpose: {}", 7));
    std::panic::set_hook(before);
    assert!(caught.is_err());
    let lines = logged.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["level"], &lines[0]["category"]), (&json!("ERROR"), &json!("system")));
    assert_eq!(lines[0]["error"], json!({ "type": "panic", "message": "on purpose: 7" }));
    assert!(lines[0]["context"]["location"].as_str().unwrap().contains("log/tests.rs"));
}

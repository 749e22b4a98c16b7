//! What is never told: every secret and every text of a customer carries a mark, and no line at any
//! level, no span, no metric and no report may show it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::callers::{WORKER_SCOPES, token};
use crate::support::{Client, Node, Receiver, Redis, Reply, Settings};

/// In everything that nobody but its owner may see.
const SECRET: &str = "zqsecret";
/// In what a line may say, and a span, a metric or a report may not.
const LOG_ONLY: &str = "zqlogonly";

/// A text with the mark, long enough for a secret.
fn secret(of: &str) -> String {
    format!("{SECRET}-{of}-0123456789abcdef0123456789abcdef")
}

fn caller(name: &str, scopes: &[&str]) -> Value {
    let mut caller = token(&secret(name), "acme", scopes, &["*"]);
    caller["subject"] = json!(name);
    caller
}

struct Stage {
    node: Node,
    collector: Receiver,
    receiver: Receiver,
    profiles: Client,
    _redis: Redis,
}

impl Stage {
    async fn set() -> Self {
        let password = secret("redis");
        let redis = Redis::with(&["--appendonly", "no", "--requirepass", &password]).await;
        let (collector, receiver) = (Receiver::start().await, Receiver::start().await);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pprof = free.local_addr().unwrap().to_string();
        drop(free);
        let producers = json!([caller("maker", &["codeq:admin", "codeq:operator"])]);
        let workers = json!([caller("doer", &WORKER_SCOPES)]);
        let node = Settings::on(&redis)
            .set("LOG_LEVEL", "trace")
            .set("REDIS_PASSWORD", &password)
            .set("PRODUCER_AUTH_CONFIG", &producers.to_string())
            .set("WORKER_AUTH_CONFIG", &workers.to_string())
            .set("WEBHOOK_HMAC_SECRET", &secret("hmac"))
            .set("RESULT_WEBHOOK_MAX_ATTEMPTS", "2")
            .set("RESULT_WEBHOOK_BASE_BACKOFF_SECONDS", "1")
            .set("TRACING_ENABLED", "true")
            .set("TRACING_STORE_SPANS", "true")
            .set("TRACING_OTLP_ENDPOINT", &collector.origin())
            .set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            .set("CODEQ_PPROF", "1")
            .set("CODEQ_PPROF_ADDR", &pprof)
            .start()
            .await;
        let profiles = Client::anonymous(&format!("http://{pprof}"));
        Self { node, collector, receiver, profiles, _redis: redis }
    }

    fn maker(&self) -> Client {
        self.node.token(&secret("maker"))
    }

    fn doer(&self) -> Client {
        self.node.token(&secret("doer"))
    }

    fn hook(&self, end: &str) -> String {
        format!("{}/{}?{}", self.receiver.origin(), secret("path"), secret(end))
    }

    /// Every call that takes a text or a secret, well and badly.
    async fn play(&self) -> Vec<String> {
        let (maker, doer) = (self.maker(), self.doer());
        let request = format!("{LOG_ONLY}-request");
        let task = json!({
            "command": "marked", "payload": {"text": secret("payload")}, "webhook": self.hook("query"),
            "idempotencyKey": secret("idempotency"),
        });
        let created = maker
            .create(task.clone())
            .header("X-Request-Id", &request)
            .header("Idempotency-Key", &secret("idempotency"))
            .header("baggage", &format!("{SECRET}=1"))
            .await
            .json_of(202);
        maker.create(task).await;
        let id = created["id"].as_str().unwrap();
        let claimed = doer.claimed("marked").await;
        let lease = claimed["leaseToken"].as_str().unwrap().to_owned();
        doer.heartbeat(id).header("X-CodeQ-Lease-Token", &secret("lease")).await;
        doer.heartbeat(id).lease(&claimed["leaseToken"]).await.json_of(200);
        let artifact = STANDARD.encode(secret("artifact"));
        let done = json!({
            "status": "COMPLETED", "result": {"text": secret("result")},
            "artifacts": [{"name": secret("name"), "contentBase64": artifact}],
        });
        doer.submit(id, done).lease(&claimed["leaseToken"]).await.json_of(200);
        let again = maker
            .create(json!({"command": "nacked", "payload": secret("payload"), "maxAttempts": 1}))
            .await
            .json_of(202);
        doer.claimed("nacked").await;
        let reason = json!({"reason": format!("{LOG_ONLY}-reason")});
        doer.nack(again["id"].as_str().unwrap(), reason).await.json_of(200);
        let failing = maker.create(json!({"command": "failed", "payload": 1})).await.json_of(202);
        doer.claimed("failed").await;
        doer.fail(failing["id"].as_str().unwrap(), &secret("error")).await.json_of(200);
        let subscription = json!({"callbackUrl": self.hook("callback"), "eventTypes": ["heard"]});
        doer.post("/workers/subscriptions", subscription).await.json_of(200);
        maker.created("heard").await;
        maker.test_webhook(&self.hook("test")).await.json_of(200);
        maker.get("/admin/webhook-secret").await.json_of(200);
        self.node.token(&secret("stranger")).create(json!({"command": "x"})).await;
        maker.create(json!({"command": format!("{}\n", secret("command")), "payload": 1})).await;
        maker.call("POST", "/tasks").text(format!("{{ not {}", secret("json"))).await;
        maker.get(&format!("/tasks/{}", secret("path"))).await;
        maker.get(&format!("/admin/webhooks?state={}", secret("query"))).await;
        self.node.anyone().get(&format!("//{}", secret("unknown"))).await;
        let _ = self.node.anyone().call(&secret("method").replace('-', ""), "/tasks").sent().await;
        vec![lease]
    }
}

fn contains(bytes: &[u8], mark: &str) -> bool {
    bytes.windows(mark.len()).any(|window| window.eq_ignore_ascii_case(mark.as_bytes()))
}

#[tokio::test]
async fn l9_t11_no_secret_and_no_text_of_a_customer_is_in_any_signal() {
    let stage = Stage::set().await;
    // Refused once and then taken, so that the lines of a failure are seen too.
    let mut seen = std::collections::HashSet::new();
    stage.receiver.answers_by(move |request| match seen.insert(request.path().to_owned()) {
        true => Reply::Status(500),
        false => Reply::OK,
    });
    let leases = stage.play().await;
    let delivered = |line: &Value| line["event"] == "webhook.delivered";
    stage.node.line(delivered).await;
    let told = |line: &Value| line["context"]["webhook"]["kind"] == "queue_ready";
    stage.node.line(told).await;

    let node = &stage.node;
    let mut reports: Vec<(&str, Vec<u8>)> = Vec::new();
    for path in ["//metrics", "//health", "//readyz", "//healthz"] {
        reports.push((path, node.anyone().get(path).await.body.to_vec()));
    }
    for path in [
        "//debug/pprof/flamegraph?seconds=1",
        "//debug/pprof/profile?seconds=1",
        "//debug/pprof/heap",
    ] {
        reports.push((path, stage.profiles.get(path).await.body.to_vec()));
    }
    let Stage { node, collector, .. } = stage;
    let lines = node.stop().await;
    let exported = collector.requests();
    assert!(!exported.is_empty(), "spans came");
    reports.extend(exported.iter().map(|request| ("a span", request.body.to_vec())));

    let below = lines.iter().filter(|line| line.contains("\"level\":\"TRACE\"")).count();
    let debug = lines.iter().filter(|line| line.contains("\"level\":\"DEBUG\"")).count();
    assert!(debug > 20, "{debug} lines at DEBUG and {below} at TRACE");
    for line in &lines {
        assert!(!contains(line.as_bytes(), SECRET), "{line}");
        assert!(!leases.iter().any(|lease| line.contains(lease)), "a lease token: {line}");
    }
    assert!(lines.iter().any(|line| line.contains(LOG_ONLY)), "what a line may say, it says");
    for (what, bytes) in &reports {
        for mark in [SECRET, LOG_ONLY] {
            assert!(
                !contains(bytes, mark),
                "{what} shows {mark}: {}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}

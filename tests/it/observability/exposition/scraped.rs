//! What a real Prometheus makes of a node.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::process::Process;
use crate::support::{Node, Redis};

/// A Prometheus that scrapes a node each second and keeps exemplars.
struct Prometheus {
    _process: Process,
    _folder: tempfile::TempDir,
    origin: String,
    http: reqwest::Client,
}

impl Prometheus {
    fn of(node: &Node) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let target = node.anyone().origin.strip_prefix("http://").unwrap().to_owned();
        let config = json!({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "codeq", "static_configs": [{"targets": [target]}]}],
        });
        // JSON is YAML.
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            .arg("--enable-feature=exemplar-storage")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Process::start(&mut command);
        let http = crate::support::client::plain().build().unwrap();
        Self { _process: process, _folder: folder, origin: format!("http://{free}"), http }
    }

    /// `data` of an answer of its API; `None` while it does not answer.
    async fn ask(&self, call: &str, query: &str) -> Option<Value> {
        let mut url = url::Url::parse(&format!("{}/api/v1/{call}", self.origin)).unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        url.query_pairs_mut().append_pair("query", query);
        if call == "query_exemplars" {
            let (start, end) = ((now - 600).to_string(), (now + 60).to_string());
            url.query_pairs_mut().append_pair("start", &start).append_pair("end", &end);
        }
        let answer = self.http.get(url).send().await.ok()?;
        let answer: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
        Some(answer["data"].clone())
    }

    /// The value of an expression that gives one series.
    async fn value(&self, expression: &str) -> Option<f64> {
        let data = self.ask("query", expression).await?;
        data["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const LATENCY: &str = "codeq_task_processing_latency_seconds";

/// A task from its creation to its end, within a sampled trace.
async fn one_life(node: &Node, command: &str, delay_seconds: u32) {
    let ask = json!({"command": command, "payload": 1, "delaySeconds": delay_seconds});
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let created = node.producer().create(ask).header("traceparent", &parent).await.json_of(202);
    let wait = json!({"commands": [command], "waitSeconds": 20});
    node.worker().claim_as(wait).await.json_of(200);
    node.worker().complete(created["id"].as_str().unwrap()).await.json_of(200);
}

#[tokio::test]
async fn m43_exemplars_lead_from_a_metric_to_a_trace() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let prometheus = Prometheus::of(&node);
    one_life(&node, "render", 0).await;
    let found = eventually_within_a_minute(async || {
        let found = prometheus.ask("query_exemplars", &format!("{LATENCY}_bucket")).await?;
        (!found[0].is_null()).then(|| found[0].clone())
    })
    .await;
    assert_eq!(found["seriesLabels"]["command"], "render", "{found}");
    assert_eq!(found["exemplars"][0]["labels"]["trace_id"], TRACE, "{found}");
    let value: f64 = found["exemplars"][0]["value"].as_str().unwrap().parse().unwrap();
    let bound: f64 = found["seriesLabels"]["le"].as_str().unwrap().parse().unwrap();
    assert!(value <= bound, "{found}");
}

/// As Prometheus documents `histogram_quantile`: linear within the bucket.
fn quantile(q: f64, buckets: &[(f64, f64)]) -> f64 {
    let rank = q * buckets.last().unwrap().1;
    let at = buckets.iter().position(|(_, count)| *count >= rank).unwrap();
    let (low, below) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
    let (high, upto) = buckets[at];
    if high.is_infinite() { low } else { low + (high - low) * (rank - below) / (upto - below) }
}

#[tokio::test]
async fn m12_a_percentile_by_command_is_the_one_of_the_buckets() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for _ in 0..7 {
        one_life(&node, "quick", 0).await;
    }
    one_life(&node, "slow", 0).await;
    for _ in 0..2 {
        one_life(&node, "slow", 1).await;
    }
    let prometheus = Prometheus::of(&node);
    let text = node.anyone().get("//metrics").await.text().to_owned();
    for command in ["quick", "slow"] {
        let start = format!("{LATENCY}_bucket{{command=\"{command}\",status=\"COMPLETED\",le=\"");
        let buckets: Vec<(f64, f64)> = text
            .lines()
            .filter_map(|line| line.strip_prefix(&start)?.split_once("\"} "))
            .map(|(le, count)| (le.parse().unwrap(), count.parse().unwrap()))
            .collect();
        let of_command = format!("{LATENCY}_bucket{{command=\"{command}\"}}");
        let asked = format!("histogram_quantile(0.99, sum by (le, command) ({of_command}))");
        let answer = eventually_within_a_minute(async || prometheus.value(&asked).await).await;
        let ours = quantile(0.99, &buckets);
        assert!((answer - ours).abs() < 1e-9, "{command}: {answer}, not {ours}");
        assert!((command == "slow") == (answer > 1.0), "{command}: {answer}");
    }
}

/// A scrape comes each second, but on a busy machine a Prometheus takes its time to start.
async fn eventually_within_a_minute<T, F>(mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let patience = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let found = tokio::time::timeout(std::time::Duration::from_secs(60), patience).await;
    found.expect("Prometheus answers within a minute")
}

//! The second listener: profiles of CPU, heap and waits.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, Client, Node, Receiver, Redis, Reply, Scrape, Settings, eventually};

/// A node that answers profiles.
struct Profiled {
    node: Node,
    profiles: Client,
}

impl Profiled {
    async fn start(settings: Settings) -> Self {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let node = settings.set("CODEQ_PPROF", "1").set("CODEQ_PPROF_ADDR", &address).start().await;
        Self { node, profiles: Client::anonymous(&format!("http://{address}")) }
    }

    async fn on(redis: &Redis) -> Self {
        Self::start(Settings::on(redis).set("HOSTNAME", "node-1")).await
    }

    /// What this path below `/debug/pprof/` answers. Each answer names the node.
    async fn ask(&self, path: &str) -> Answer {
        let answer = self.profiles.get(&format!("//debug/pprof/{path}")).await;
        assert_eq!(answer.header("X-CodeQ-Instance"), Some("node-1"), "{path}");
        answer
    }

    /// What `pprof -top` of `scripts/tools.sh`, which is Go's, says of it; `index` is the kind of value.
    async fn top(&self, path: &str, index: &str) -> String {
        let answer = self.ask(path).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        top(&answer.body, index).await
    }
}

/// A port that nobody has, as the listener of profiles does not say which it got.
fn free_port() -> u16 {
    loop {
        let port = rand::random_range(32_000..32_700);
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

async fn top(profile: &[u8], index: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile");
    std::fs::write(&file, profile).unwrap();
    let index = format!("-sample_index={index}");
    let run = tokio::task::spawn_blocking(move || {
        Command::new("pprof").args(["-top", "-nodecount=2000", &index]).arg(&file).output().unwrap()
    });
    let output = run.await.unwrap();
    drop(folder);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    said
}

/// Callers that keep a node busy until this is dropped.
struct Load {
    over: Arc<AtomicBool>,
    _callers: JoinSet<()>,
}

impl Load {
    fn on(node: &Node) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..2 {
            let (over, producer, worker) = (over.clone(), node.producer(), node.worker());
            callers.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    producer.created("busy").await;
                    let claimed = worker.claim("busy").await;
                    if claimed.status == 200 {
                        let id = claimed.json()["id"].as_str().unwrap().to_owned();
                        worker.complete(&id).await.json_of(200);
                    }
                }
            });
        }
        Self { over, _callers: callers }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn p1_profiles_are_off_unless_asked_for_and_never_on_the_port_of_the_api() {
    let redis = Redis::start().await;
    let port = free_port();
    let settings = Settings::on(&redis).set("CODEQ_PPROF_ADDR", &format!("127.0.0.1:{port}"));
    let off = settings.start().await;
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens");
    let on = Profiled::on(&redis).await;
    assert_eq!(on.ask("").await.status, 200);
    let line = on.node.line(|line| line["event"] == "node.started").await;
    assert_eq!(line["instance"], "node-1", "the name on every answer is that of the log");
    for node in [&off, &on.node] {
        for path in ["", "profile?seconds=1", "heap", "block"] {
            let answer = node.anyone().get(&format!("//debug/pprof/{path}")).await;
            assert_eq!(answer.status, 404, "{path}");
        }
    }
}

#[tokio::test]
async fn p2_a_capture_of_cpu_names_functions_of_codeq_to_gos_own_tool() {
    let redis = Redis::start().await;
    let node = Profiled::on(&redis).await;
    let load = Load::on(&node.node);
    // Both ask until each had what it wants: who comes first is refused by nobody.
    let capture = until_answered(&node, "profile?seconds=2", 200);
    let refused = until_answered(&node, "heap", 409);
    let (capture, second) = tokio::join!(capture, refused);
    let top = top(&capture.body, "cpu").await;
    drop(load);
    assert!(top.contains(" codeq::"), "{top}");
    assert!(top.contains("Type: cpu"), "{top}");
    assert!(second.text().contains("another capture"), "{}", second.text());
    assert_eq!(node.ask("heap").await.status, 200, "the turn is free again");
    for bad in ["0", "301", "x"] {
        let answer = node.ask(&format!("profile?seconds={bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
}

/// The first answer with this status: asks again while another has the turn, or had it.
async fn until_answered(node: &Profiled, path: &str, status: u16) -> Answer {
    loop {
        let answer = node.ask(path).await;
        if answer.status == status {
            return answer;
        }
        assert!(matches!(answer.status, 200 | 409), "{}", answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn p3_captures_under_load_disturb_nobody() {
    let redis = Redis::start().await;
    let node = Profiled::on(&redis).await;
    capture_again_and_again(&node, 3).await;
}

/// Captures by turns, while callers must get their answers.
async fn capture_again_and_again(node: &Profiled, times: usize) {
    let failed = async || node.node.scrape().await.sum("codeq_http_requests_total", "code=\"5");
    let before = failed().await;
    let _load = Load::on(&node.node);
    for time in 0..times {
        let path = ["profile?seconds=1", "flamegraph?seconds=1", "heap"][time % 3];
        let answer = node.ask(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    }
    let scrape = node.node.scrape().await;
    assert!(scrape.value("codeq_task_created_total{command=\"busy\"}") > 0.0);
    assert_eq!(failed().await, before, "every caller was answered");
}

#[tokio::test]
async fn p4_a_slow_receiver_shows_as_the_webhook_slot_that_others_wait_for() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let settings = Settings::on(&redis)
        .set("HOSTNAME", "node-1")
        .set("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "true")
        .set("WEBHOOK_HMAC_SECRET", "a secret of thirty-two characters")
        .set("WEBHOOK_MAX_CONCURRENCY", "2")
        .set("WEBHOOK_MAX_CONCURRENCY_PER_HOST", "2");
    let node = Profiled::start(settings).await;
    for name in ["block", "mutex"] {
        let top = node.top(&format!("{name}?seconds=1"), "delay").await;
        assert!(!top.contains("webhook"), "no delivery waits: {top}");
    }
    // Nobody is answered until the test is over.
    receiver.answers(Reply::Hang);
    let worker = node.node.worker();
    for _ in 0..6 {
        let id = node.node.producer().created_with_webhook("m", &receiver.url()).await;
        worker.claimed("m").await;
        worker.complete(&id).await.json_of(200);
    }
    receiver.until_count(2).await;
    for name in ["block", "mutex"] {
        let top = node.top(&format!("{name}?seconds=1"), "delay").await;
        let slot = delay_of(&top, "codeq::wait::webhook_slot");
        assert!((0.9..1.6).contains(&slot), "the slots are taken for that second: {top}");
    }
    eventually("the delay adds up", async || {
        let top = node.top("block", "delay").await;
        (delay_of(&top, "codeq::wait::webhook_slot") > 2.0).then_some(())
    })
    .await;
}

/// The seconds before a function in what `-top` says; 0 when it is not there.
fn delay_of(top: &str, function: &str) -> f64 {
    let line = top.lines().find(|line| line.trim_end().ends_with(function));
    let Some(flat) = line.and_then(|line| line.split_whitespace().next()) else { return 0.0 };
    let units = [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("mins", 60.0)];
    let unit = flat.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = flat.strip_suffix(unit).unwrap().parse().unwrap_or_default();
    number * units.iter().find(|(name, _)| *name == unit).map_or(0.0, |(_, seconds)| *seconds)
}

#[tokio::test]
async fn p4_named_waits_are_counted_by_kind() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    node.producer().created("m").await;
    node.anyone().get("//health").await;
    let answer = node.anyone().get("//metrics").await;
    let scrape = Scrape::of(answer.text());
    let count = |kind: &str| scrape.value(&format!("codeq_wait_seconds_count{{kind=\"{kind}\"}}"));
    assert!(count("gather") > 0.0, "items of scripts are gathered");
    assert!(count("pool") == 0.0, "the report's connection was free: nobody waited");
    for kind in ["link", "webhook_slot", "webhook_host_slot", "outbox_claim", "lock", "log_writer"]
    {
        let bucket = format!("codeq_wait_seconds_bucket{{kind=\"{kind}\",le=\"+Inf\"}}");
        assert!(answer.text().contains(&bucket), "{kind}");
    }
}

#[tokio::test]
async fn p5_the_heap_is_read_by_gos_own_tool_and_names_who_allocated() {
    let redis = Redis::start().await;
    let node = Profiled::on(&redis).await;
    // The first look turns sampling on.
    assert_eq!(node.ask("heap").await.status, 200);
    // Only what is held is seen: connections and claims that wait.
    let mut claims = JoinSet::new();
    for _ in 0..300 {
        let claim = node.node.worker().claim_as(json!({"commands": ["m"], "waitSeconds": 30}));
        claims.spawn(claim.into_future());
    }
    eventually("all wait", async || {
        (node.node.scrape().await.sum("codeq_waiters", "") == 300.0).then_some(())
    })
    .await;
    let top = node.top("heap", "inuse_space").await;
    assert!(top.contains("codeq::"), "{top}");
    assert!(top.contains("Type: inuse_space"), "{top}");
}

#[tokio::test]
async fn p6_the_index_leads_to_a_flame_graph_and_the_rest_says_why_it_is_not_there() {
    let redis = Redis::start().await;
    let node = Profiled::on(&redis).await;
    let index = node.ask("").await;
    for link in ["profile?", "flamegraph?", "heap", "block", "mutex", "runtime"] {
        assert!(index.text().contains(&format!("href=\"{link}")), "{link}");
    }
    let load = Load::on(&node.node);
    let graph = node.ask("flamegraph?seconds=1").await;
    drop(load);
    assert_eq!(graph.status, 200);
    assert_eq!(graph.header("Content-Type"), Some("image/svg+xml"));
    let parsed = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("graph.svg");
        std::fs::write(&file, graph.body).unwrap();
        let parse = "import sys, xml.dom.minidom as m; \
                     print(m.parse(sys.argv[1]).documentElement.tagName)";
        Command::new("python3").args(["-c", parse]).arg(file).output().unwrap()
    });
    assert_eq!(String::from_utf8_lossy(&parsed.await.unwrap().stdout).trim(), "svg");

    let runtime: Value = node.ask("runtime").await.json_of(200);
    assert!(!runtime["workers"].as_array().unwrap().is_empty(), "{runtime}");
    for absent in ["allocs", "cmdline", "goroutine", "symbol", "threadcreate", "trace"] {
        let answer = node.ask(absent).await;
        assert_eq!(answer.status, 501, "{absent}");
        assert!(answer.text().starts_with(absent), "{}", answer.text());
    }
    assert_eq!(node.ask("nothing").await.status, 404);
}

#[tokio::test]
async fn e9_the_address_of_profiles_is_a_port_or_an_address_and_a_port() {
    let redis = Redis::start().await;
    for (form, host) in [("", "every interface"), ("127.0.0.1", "loopback")] {
        let port = free_port();
        let address = format!("{form}:{port}");
        let set = [("CODEQ_PPROF", "1"), ("CODEQ_PPROF_ADDR", address.as_str())];
        let _node = Node::with(&redis, &set).await;
        let asked = |ip: &str| {
            let address: SocketAddr = format!("{ip}:{port}").parse().unwrap();
            std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        };
        assert!(asked("127.0.0.1"), "{host}");
        // Another loopback address stands for another interface.
        assert_eq!(asked("127.9.9.9"), form.is_empty(), "{host}");
    }
    let set = [("CODEQ_PPROF", "1"), ("CODEQ_PPROF_ADDR", "6060")];
    let settings = set.iter().fold(Settings::on(&redis), |all, (name, value)| all.set(name, value));
    let (code, said) = settings.fails().await;
    assert_ne!(code, Some(0));
    assert!(said.iter().any(|line| line.contains("CODEQ_PPROF_ADDR")), "{said:#?}");
}

#[tokio::test]
async fn m34_a_wake_up_counts_once_and_its_latency_is_of_the_task_that_came() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let id = node.producer().created("other").await["id"].as_str().unwrap().to_owned();
    node.worker().claimed("other").await;
    let claim = node.worker().claim_as(json!({"commands": ["m"], "waitSeconds": 30}));
    let result = node.producer().result_within(&id, 30);
    let waits = [tokio::spawn(claim.into_future()), tokio::spawn(result.into_future())];
    eventually("both wait", async || {
        (node.scrape().await.sum("codeq_waiters", "") == 2.0).then_some(())
    })
    .await;
    node.producer().created("m").await;
    node.worker().complete(&id).await.json_of(200);
    for wait in waits {
        wait.await.unwrap().json_of(200);
    }
    let scrape = node.scrape().await;
    for kind in ["claim", "result"] {
        let told = format!("{{kind=\"{kind}\",source=\"pubsub\"}}");
        assert_eq!(scrape.value(&format!("codeq_wakeups_total{told}")), 1.0, "{kind}");
        let latency = "codeq_wakeup_latency_seconds";
        assert_eq!(scrape.value(&format!("{latency}_count{told}")), 1.0, "{kind}");
        // Both waited for longer than that before there was anything to be told of.
        let sum = scrape.value(&format!("{latency}_sum{told}"));
        assert!((0.0..1.0).contains(&sum), "{kind}: {sum}");
        assert_eq!(scrape.sum("codeq_wakeups_total", &format!("kind=\"{kind}\"")), 1.0, "{kind}");
    }
}

/// `make soak` only.
mod slow {
    use super::*;

    #[tokio::test]
    async fn p3_fifty_captures_under_load_crash_nothing() {
        let redis = Redis::start().await;
        let node = Profiled::on(&redis).await;
        capture_again_and_again(&node, 50).await;
    }
}

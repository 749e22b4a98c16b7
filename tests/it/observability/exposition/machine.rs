//! What background loops, the store's state and the process leave in a scrape.

use serde_json::json;

use crate::support::{Idp, Node, Redis, Scrape, Settings, eventually};

const LOOPS: [&str; 5] = ["sweeper", "outbox", "wake", "jwks", "health"];

fn all_loops_run(scrape: &Scrape) -> bool {
    let active = |kind: &&str| scrape.value(&format!("codeq_loops_active{{kind=\"{kind}\"}}"));
    LOOPS.iter().all(|kind| active(kind) == 1.0)
}

#[tokio::test]
async fn m29_a_background_loop_that_panics_is_started_again_counted_and_logged() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("CODEQ_FAILPOINTS", "loop.sweeper")]).await;
    let line = node.line(|line| line["event"] == "loop.restarted").await;
    assert_eq!(line["level"], "WARN", "{line}");
    let scrape = eventually("every loop runs again", async || {
        let scrape = node.scrape().await;
        let restarts = scrape.value("codeq_loop_restarts_total{kind=\"sweeper\"}");
        (restarts == 1.0 && all_loops_run(&scrape)).then_some(scrape)
    })
    .await;
    assert_eq!(scrape.sum("codeq_loop_restarts_total", ""), 1.0, "no other loop was");
    let swept = "codeq_sweep_last_success_timestamp_seconds";
    eventually("the new one sweeps", async || {
        (node.scrape().await.value(swept) > scrape.value(swept)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn m32_m35_a_sweep_that_fails_is_one_count_and_one_line() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let keys = redis.keys().await;
    let prefix = keys.iter().find_map(|key| key.strip_suffix(":meta}")).expect("the layout");
    // Something that no sweep can read, where the delayed tasks of a partition are.
    let _: () = redis.command(&format!("SET {prefix}:0}}:d wrong")).await;
    let errors = "codeq_loop_errors_total{kind=\"sweeper\"}";
    eventually("a sweep failed", async || (node.scrape().await.value(errors) > 0.0).then_some(()))
        .await;
    let _: () = redis.command(&format!("DEL {prefix}:0}}:d")).await;
    let swept = "codeq_sweep_last_success_timestamp_seconds";
    let before = node.scrape().await.value(swept);
    eventually("it sweeps again", async || {
        (node.scrape().await.value(swept) > before).then_some(())
    })
    .await;
    eventually("as many lines as counts", async || {
        let scrape = node.scrape().await;
        let lines = node.lines();
        let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count() as f64;
        let failed = count("\"event\":\"loop.failed\"") == scrape.value(errors);
        let warned =
            count("\"level\":\"WARN\"") == scrape.value("codeq_log_lines_total{level=\"warn\"}");
        (failed && warned).then_some(())
    })
    .await;
}

#[tokio::test]
async fn m33_the_first_request_of_all_is_counted() {
    let redis = Redis::away(&[]);
    let node = Settings::on(&redis).launch().await;
    assert_eq!(node.anyone().get("//healthz").await.status, 200);
    let scrape = node.scrape().await;
    let first = "codeq_http_requests_total{code=\"200\",method=\"GET\",route=\"/healthz\"}";
    assert_eq!(scrape.value(first), 1.0);
}

#[tokio::test]
async fn m36_process_allocator_runtime_and_store_show_how_they_are() {
    let redis = Redis::with(&["--appendonly", "no", "--maxmemory", "100mb"]).await;
    let node = Node::on(&redis).await;
    let scrape = eventually("all of it", async || {
        let scrape = node.scrape().await;
        let late = ["codeq_store_memory_bytes{state=\"max\"}", "codeq_store_up"];
        late.iter().all(|series| scrape.value(series) > 0.0).then_some(scrape)
    })
    .await;
    for series in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
        "process_threads",
        "codeq_memory_bytes{state=\"allocated\"}",
        "codeq_memory_bytes{state=\"retained\"}",
        "codeq_runtime_workers",
        "codeq_runtime_alive_tasks",
        "codeq_runtime_worker_busy_seconds_total",
        "codeq_runtime_scheduling_delay_seconds_count",
        "codeq_store_pool_connections{state=\"max\"}",
        "codeq_store_memory_bytes{state=\"used\"}",
        "codeq_cache_requests_total{kind=\"connection\",result=\"miss\"}",
    ] {
        assert!(scrape.value(series) > 0.0, "{series}");
    }
    let memory = |state: &str| scrape.value(&format!("codeq_memory_bytes{{state=\"{state}\"}}"));
    assert!(memory("allocated") <= memory("active") && memory("active") <= memory("resident"));
    assert_eq!(scrape.value("codeq_store_memory_bytes{state=\"max\"}"), 100.0 * 1024.0 * 1024.0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let age = now - scrape.value("process_start_time_seconds");
    assert!((-2.0..60.0).contains(&age), "{age}");
    eventually("the time of the process grows by less than seconds", async || {
        let cpu = "process_cpu_seconds_total";
        let more = node.scrape().await.value(cpu) - scrape.value(cpu);
        (more > 0.0 && more < 0.9).then_some(())
    })
    .await;
}

#[tokio::test]
async fn m36_a_store_that_does_not_answer_is_down_and_up_again_when_it_does() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let up = async || node.scrape().await.value("codeq_store_up");
    assert_eq!(up().await, 1.0);
    redis.freeze();
    eventually("it is down", async || (up().await == 0.0).then_some(())).await;
    redis.thaw();
    eventually("it is up", async || (up().await == 1.0).then_some(())).await;
}

#[tokio::test]
async fn m36_fetches_of_a_key_set_count_and_its_age_is_there_only_with_one() {
    let redis = Redis::start().await;
    let idp = Idp::start().await;
    let provider = idp.provider().to_string();
    let gone = json!({"jwksUrl": "http://127.0.0.1:1/keys", "issuer": "i", "audience": "a"});
    let node = Node::with(
        &redis,
        &[
            ("PRODUCER_AUTH_PROVIDER", "jwks"),
            ("PRODUCER_AUTH_CONFIG", &provider),
            ("WORKER_AUTH_PROVIDER", "jwks"),
            ("WORKER_AUTH_CONFIG", &gone.to_string()),
        ],
    )
    .await;
    let fetches = |kind: &str, outcome: &str| {
        format!("codeq_jwks_fetches_total{{kind=\"{kind}\",outcome=\"{outcome}\"}}")
    };
    let scrape = eventually("both were asked", async || {
        let scrape = node.scrape().await;
        let asked = scrape.value(&fetches("producer", "success")) == 1.0
            && scrape.value(&fetches("worker", "failure")) == 1.0;
        asked.then_some(scrape)
    })
    .await;
    assert_eq!(scrape.value(&fetches("producer", "failure")), 0.0);
    assert_eq!(scrape.value("codeq_loop_errors_total{kind=\"jwks\"}"), 1.0);
    let last = "codeq_jwks_last_success_timestamp_seconds";
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let age = now - scrape.value(&format!("{last}{{kind=\"producer\"}}"));
    assert!((-2.0..60.0).contains(&age), "{age}");
    let text = node.anyone().get("//metrics").await.text().to_owned();
    assert!(!text.contains(&format!("{last}{{kind=\"worker\"")), "one that never was has no age");
}

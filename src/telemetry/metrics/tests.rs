use super::*;
use crate::model::delivery::{Class, Reason};

fn scrape(metrics: &Metrics) -> String {
    String::from_utf8(metrics.page(Exposition::Text).unwrap()).unwrap()
}

#[test]
fn a_fresh_node_shows_only_series_of_closed_sets() {
    let text = scrape(&Metrics::new());
    assert!(text.contains("codeq_rate_limit_hits_total{operation=\"claim\",scope=\"worker\"} 0"));
    assert!(text.contains("codeq_wakeups_total{kind=\"result\",source=\"poll\"} 0"));
    assert!(!text.contains("command="), "{text}");
    assert!(!text.contains("route="), "{text}");
    assert!(!text.contains("operation=\"\""), "{text}");
}

#[test]
fn every_family_says_what_it_means() {
    let metrics = Metrics::new();
    let _ = (metrics.command("a"), metrics.operation("claim"));
    metrics.route(&http::Method::GET, "/x").ended(http::StatusCode::OK, 0.1, 0.0);
    let text = scrape(&metrics);
    let families: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(families.len() >= Families::ALL.len(), "{families:?}");
    for family in families {
        let name = family.split(' ').next().unwrap();
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}

#[test]
fn latency_has_exactly_the_buckets_of_the_contract() {
    let metrics = Metrics::new();
    metrics.command("render").processing_latency.with(Status::Completed).observe(1.2, None);
    let text = scrape(&metrics);
    let bounds: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("codeq_task_processing_latency_seconds_bucket"))
        .filter(|line| line.contains("COMPLETED"))
        .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next())
        .collect();
    let contract = "0.1 0.25 0.5 1 2.5 5 10 30 60 120 300 600 1800 3600 +Inf";
    assert_eq!(bounds.join(" "), contract);
    assert!(text.contains("status=\"COMPLETED\",le=\"1\"} 0"), "{text}");
    assert!(text.contains("status=\"COMPLETED\",le=\"2.5\"} 1"), "{text}");
}

#[test]
fn a_command_is_resolved_once() {
    let metrics = Metrics::new();
    assert!(Arc::ptr_eq(&metrics.command("a"), &metrics.clone().command("a")));
    metrics.command("a").created.inc();
    assert!(scrape(&metrics).contains("codeq_task_created_total{command=\"a\"} 1"));
}

#[test]
fn a_held_gauge_returns_to_zero_also_after_a_panic() {
    let metrics = Metrics::new();
    let first = metrics.waiters.with(Wait::Claim).hold();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _second = metrics.waiters.with(Wait::Claim).hold();
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(metrics.waiters.with(Wait::Claim).get(), 1);
    drop(first);
    assert_eq!(metrics.waiters.with(Wait::Claim).get(), 0);
}

#[test]
fn an_unknown_method_is_one_label_value() {
    let metrics = Metrics::new();
    let brew = http::Method::from_bytes(b"BREW").unwrap();
    metrics.route(&brew, "_unmatched").ended(http::StatusCode::METHOD_NOT_ALLOWED, 0.0, 0.0);
    let line = r#"codeq_http_requests_total{code="405",method="_OTHER",route="_unmatched"} 1"#;
    assert!(scrape(&metrics).contains(line));
}

#[test]
fn every_closed_label_finds_its_own_series() {
    let metrics = Metrics::new();
    metrics.auth_failures.with(Refused(Role::Worker, AuthFailure::Expired)).inc();
    let line = r#"codeq_auth_failures_total{kind="worker",reason="expired"} 1"#;
    assert!(scrape(&metrics).contains(line));
    let attempt = WebhookAttempt(WebhookKind::QueueReady, Class::Http3xx);
    metrics.webhook_attempts.with(attempt).inc();
    let line = r#"codeq_webhook_attempts_total{kind="queue_ready",result="http_3xx"} 1"#;
    assert!(scrape(&metrics).contains(line));
    fn at_home<L: Label>() {
        for (at, member) in L::ALL.iter().enumerate() {
            assert_eq!(member.index(), at);
        }
    }
    at_home::<Refused>();
    at_home::<WebhookAttempt>();
    at_home::<Class>();
    at_home::<Reason>();
}

#[test]
fn only_allowed_label_names_are_declared() {
    let allowed = [
        "command",
        "status",
        "queue",
        "kind",
        "outcome",
        "scope",
        "operation",
        "reason",
        "route",
        "method",
        "code",
        "level",
        "label",
        "result",
        "source",
        "state",
        "version",
        "revision",
    ];
    let only_there = |name: &str, label: &&str| match *label {
        "tenant" => name.starts_with("codeq_tenant_"),
        "priority" => name == "codeq_queue_ready_by_priority",
        label => allowed.contains(&label),
    };
    for declared in Families::ALL.iter().chain(depth::ALL).chain(MACHINE) {
        let mut labels = declared.labels.iter();
        assert!(labels.all(|label| only_there(declared.name, label)), "{declared:?}");
    }
}

#[test]
fn m42_the_page_is_what_the_catalog_declares() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page == reference(), "run: UPDATE_DOCS=1 cargo test --lib metrics::");
    for declared in Families::ALL {
        assert!(declared.when().is_some(), "{}: when is it counted?", declared.name);
    }
}

#[test]
fn m21_a_name_that_is_declared_twice_is_refused() {
    let home = Home::default();
    Families::register(&home).unwrap();
    assert!(Families::register(&home).is_err());
}

#[test]
fn m24_a_gauge_without_a_value_is_absent() {
    let metrics = Metrics::new();
    assert!(!scrape(&metrics).contains("codeq_store_memory_bytes"));
    metrics.store_memory.set(StoreMemory::Max, Some(5.0));
    assert!(scrape(&metrics).contains("codeq_store_memory_bytes{state=\"max\"} 5"));
    metrics.store_memory.set(StoreMemory::Max, None);
    assert!(!scrape(&metrics).contains("codeq_store_memory_bytes"));
}

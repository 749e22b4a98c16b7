//! What requests leave in a scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::page::series;
use crate::support::{Node, Receiver, Redis, Settings, eventually};

const NOBODYS_TASK: &str = "019b0000-0000-7000-8000-000000000000";

/// The values of `route` in the counter of requests.
async fn routes(node: &Node) -> BTreeSet<String> {
    let answer = node.anyone().get("//metrics").await;
    let requests = series(answer.text()).into_iter();
    requests
        .filter(|(name, _)| name == "codeq_http_requests_total")
        .map(|(_, labels)| labels["route"].clone())
        .collect()
}

#[tokio::test]
async fn m25_every_route_is_counted_by_its_template_and_all_unknown_paths_as_one() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let document = node.anyone().get("//openapi.json").await.json_of(200);
    let mut templates = BTreeSet::from(["/openapi.json".to_owned()]);
    for (template, calls) in document["paths"].as_object().unwrap() {
        templates.insert(template.clone());
        for method in calls.as_object().unwrap().keys() {
            let path: Vec<&str> = template
                .split('/')
                .map(|part| if part.starts_with('{') { "x" } else { part })
                .collect();
            let call =
                node.operator().call(&method.to_uppercase(), &format!("/{}", path.join("/")));
            let call = if method == "get" { call } else { call.json(json!({})) };
            call.await;
        }
    }
    assert!(templates.len() > 30, "the calls were not found");
    assert_eq!(routes(&node).await, templates);

    let series_of_requests = async || {
        let answer = node.anyone().get("//metrics").await;
        series(answer.text()).iter().filter(|(name, _)| name == "codeq_http_requests_total").count()
    };
    let before = series_of_requests().await;
    let mut calls = JoinSet::new();
    for n in 0..1000 {
        let path = if n % 2 == 0 { format!("/nothing/{n}") } else { format!("//{n}/there/is") };
        calls.spawn(node.producer().get(&path).into_future());
        if n % 50 == 49 {
            while let Some(answer) = calls.join_next().await {
                assert_eq!(answer.unwrap().status, 404);
            }
        }
    }
    assert_eq!(series_of_requests().await, before + 1);
    templates.insert("_unmatched".to_owned());
    assert_eq!(routes(&node).await, templates);
}

#[tokio::test]
async fn m27_requests_sent_are_requests_counted() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let before = node.scrape().await;
    for _ in 0..5 {
        node.producer().created("m").await;
    }
    for _ in 0..3 {
        assert_eq!(node.token("nobody").read(NOBODYS_TASK).await.status, 401);
    }
    for _ in 0..2 {
        assert_eq!(node.producer().get("/nothing").await.status, 404);
    }
    let after = node.scrape().await;
    let families = [
        "codeq_http_requests_total",
        "codeq_http_request_duration_seconds_count",
        "codeq_http_request_work_seconds_count",
    ];
    for family in families {
        // The first scrape itself was counted at its end.
        assert_eq!(after.sum(family, "") - before.sum(family, ""), 11.0, "{family}");
    }
    let created = r#"codeq_http_requests_total{code="202",method="POST",route="/v1/codeq/tasks"}"#;
    assert_eq!(after.value(created) - before.value(created), 5.0);
}

#[tokio::test]
async fn m27_the_time_a_long_poll_waits_is_duration_and_no_work() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    let claim = node.worker().claim_as(json!({"commands": ["none"], "waitSeconds": 1}));
    let result = node.producer().result_within(&id, 1);
    let (claim, result) = tokio::join!(claim.into_future(), result.into_future());
    assert_eq!((claim.status, result.status), (204, 404));
    let scrape = node.scrape().await;
    let of = |family: &str, labels: &str| scrape.value(&format!("{family}_sum{{{labels}}}"));
    for labels in [
        r#"method="POST",route="/v1/codeq/tasks/claim""#,
        r#"method="GET",route="/v1/codeq/tasks/{id}/result""#,
    ] {
        let wall = of("codeq_http_request_duration_seconds", labels);
        let work = of("codeq_http_request_work_seconds", labels);
        assert!(wall >= 1.0, "{labels}: {wall}");
        assert!(work > 0.0 && work < wall - 0.8, "{labels}: {work} of {wall}");
    }
}

/// Gauges of what is under way.
const GAUGES: [&str; 3] = [
    "codeq_http_requests_in_flight",
    "codeq_waiters{kind=\"claim\"}",
    "codeq_waiters{kind=\"result\"}",
];

#[tokio::test]
async fn m20_gauges_of_what_is_under_way_return_to_zero_however_requests_end() {
    let redis = Redis::start().await;
    let variables = [("CODEQ_FAILPOINTS", "http.panic"), ("MAX_BODY_BYTES", "4096")];
    let node = Arc::new(Node::with(&redis, &variables).await);
    let over = Arc::new(AtomicBool::new(false));
    let (sampled, until) = (node.clone(), over.clone());
    let samples = tokio::spawn(async move {
        let mut samples = 0;
        while !until.load(Ordering::Relaxed) {
            let scrape = sampled.scrape().await;
            for gauge in GAUGES {
                assert!(scrape.value(gauge) >= 0.0, "{gauge} is negative");
            }
            samples += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        samples
    });
    let mut long = JoinSet::new();
    for wave in 0..4 {
        for _ in 0..25 {
            let id = node.producer().created_as(json!({"command": "m", "payload": 1})).await;
            let wait = json!({"commands": ["none"], "waitSeconds": 30});
            long.spawn(node.worker().claim_as(wait).into_future());
            long.spawn(node.producer().result_within(&id, 30).into_future());
        }
        let begun = f64::from(50 * (wave + 1));
        eventually("they wait", async || {
            let scrape = node.scrape().await;
            let waiting = scrape.value(GAUGES[1]) + scrape.value(GAUGES[2]);
            (waiting == begun && scrape.value(GAUGES[0]) == begun).then_some(())
        })
        .await;
    }
    let mut short = JoinSet::new();
    for n in 0..300 {
        let producer = node.producer();
        short.spawn(match n % 3 {
            0 => producer.read(NOBODYS_TASK).header("X-Panic", "now").into_future(),
            1 => node.token("nobody").read(NOBODYS_TASK).into_future(),
            _ => {
                let large = json!({"command": "m", "payload": "x".repeat(5000)});
                producer.create(large).into_future()
            }
        });
    }
    let mut codes = BTreeMap::new();
    while let Some(answer) = short.join_next().await {
        *codes.entry(answer.unwrap().status).or_insert(0.0) += 1.0;
    }
    assert_eq!((codes[&500], codes[&401]), (100.0, 100.0));
    // On a busy machine a body may come too late to be found too large.
    assert!(codes[&413] > 0.0 && codes.keys().all(|code| [500, 401, 413, 408].contains(code)));
    // They are cancelled in the middle, and so are their connections.
    long.abort_all();
    while long.join_next().await.is_some() {}
    eventually("nothing is under way", async || {
        let scrape = node.scrape().await;
        GAUGES.iter().all(|gauge| scrape.value(gauge) == 0.0).then_some(())
    })
    .await;
    over.store(true, Ordering::Relaxed);
    assert!(samples.await.unwrap() > 3, "it was looked at while they were under way");
    let scrape = node.scrape().await;
    codes.insert(499, 200.0);
    for (code, count) in codes {
        let counted = scrape.sum("codeq_http_requests_total", &format!("code=\"{code}\""));
        assert_eq!(counted, count, "{code}");
    }
}

#[tokio::test]
async fn m8_each_limit_that_refuses_counts_once_under_the_names_of_its_answer() {
    let redis = Redis::start().await;
    let mut settings = Settings::on(&redis);
    for (scope, burst) in [("PRODUCER", "2"), ("WORKER", "2"), ("ADMIN", "1"), ("WEBHOOK", "1")] {
        settings = settings
            .set(&format!("RATE_LIMIT_{scope}_REQUESTS_PER_MINUTE"), "1")
            .set(&format!("RATE_LIMIT_{scope}_BURST_SIZE"), burst);
    }
    let node = settings.start().await;
    let receiver = Receiver::start().await;
    for _ in 0..2 {
        let id = node.producer().created_with_webhook("m", &receiver.url()).await;
        node.worker().claimed("m").await;
        node.worker().complete(&id).await.json_of(200);
    }
    let cleanup = || node.admin().bare_post("/admin/tasks/cleanup");
    cleanup().await.json_of(200);
    let refused = [
        node.producer().create(json!({"command": "m", "payload": 1})).await,
        node.worker().claim("m").await,
        cleanup().await,
    ];
    let hits = |scope: &str, operation: &str| {
        format!("codeq_rate_limit_hits_total{{operation=\"{operation}\",scope=\"{scope}\"}}")
    };
    let scrape = node.scrape().await;
    for (answer, names) in
        refused.iter().zip([("producer", "create_task"), ("worker", "claim"), ("admin", "cleanup")])
    {
        let said = answer.json_of(429);
        let told = (said["scope"].as_str().unwrap(), said["operation"].as_str().unwrap());
        assert_eq!(told, names);
        assert_eq!(scrape.value(&hits(names.0, names.1)), 1.0, "{names:?}");
    }
    // A webhook is put off and not refused; nudges have their own test.
    eventually("the second delivery is put off", async || {
        (node.scrape().await.value(&hits("webhook", "task_result")) == 1.0).then_some(())
    })
    .await;
    assert_eq!(receiver.count(), 1);
}

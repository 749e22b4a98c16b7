//! Calls of administrators: who may, for whom; queues, pause, clean-up, log level.

use std::time::Duration;

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Node, Redis, eventually};

#[tokio::test]
async fn only_administrators_come_in() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    for (token, answered) in [
        ("producer", "401 unauthorized unauthorized. Admin only"),
        ("worker", "401 unauthorized invalid token"),
        ("nobody", "401 unauthorized invalid token"),
        ("no-tenant", "401 unauthorized unauthorized. Admin only"),
        ("no-tenant-admin", "403 invalid_tenant invalid tenant claims"),
    ] {
        for (method, path) in [
            ("GET", "/admin/queues"),
            ("GET", "/admin/queues/m"),
            ("GET", "/admin/queues/m/tasks?state=ready"),
            ("POST", "/admin/queues/m/pause"),
            ("POST", "/admin/queues/m/resume"),
            ("POST", "/admin/queues/m/dlq/requeue"),
            ("POST", "/admin/queues/m/dlq/purge"),
            ("POST", "/admin/tasks/cleanup"),
            ("DELETE", "/admin/tasks/x"),
            ("PUT", "/admin/topics/m"),
            ("GET", "/admin/topics/m"),
            ("DELETE", "/admin/topics/m"),
            ("GET", "/admin/log-level"),
            ("PUT", "/admin/log-level"),
        ] {
            let refused = node.token(token).call(method, path).await.refusal();
            assert_eq!(refused, answered, "{token} {method} {path}");
        }
    }
    for token in ["admin", "admin-by-role", "operator"] {
        assert_eq!(node.token(token).get("/admin/queues").await.status, 200, "{token}");
    }
}

#[tokio::test]
async fn queues_show_their_tasks_by_state_and_only_their_tenants() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    assert_eq!(node.admin().get("/admin/queues").await.text(), "[]");
    assert_shown!(node.admin().get("/admin/queues/Never%20Used").await, @r#"
    200 {"command":"Never Used",
    "ready":0,
    "delayed":0,
    "inProgress":0,
    "dlq":0,
    "paused":false,
    "oldestReadyAgeSeconds":0.0,
    "readyByPriority":[0,0,0,0,0,0,0,0,0,0]}
    "#);
    for _ in 0..4 {
        node.producer().created("Mail Out").await;
    }
    node.producer()
        .create(json!({"command": "mail OUT", "payload": 1, "delaySeconds": 60, "priority": 3}))
        .await;
    node.producer()
        .create(json!({"command": "mail out", "payload": 1, "maxAttempts": 1, "priority": 9}))
        .await;
    let dead = node.worker().claimed("mail out").await["id"].as_str().unwrap().to_owned();
    node.worker().nack(&dead, json!({})).await.json_of(200);
    node.worker().claimed("mail out").await;
    node.token("globex-producer").created("theirs").await;
    let queues = node.admin().get("/admin/queues").await.json_of(200);
    let mut queue = queues[0].clone();
    queue.as_object_mut().unwrap().remove("oldestReadyAgeSeconds");
    insta::assert_snapshot!(queue, @r#"{"command":"Mail Out","delayed":1,"dlq":1,"inProgress":1,"paused":false,"ready":3}"#);
    assert_eq!(queues.as_array().unwrap().len(), 1, "{queues}");
    let one = node.admin().get("/admin/queues/MAIL%20OUT").await.json_of(200);
    assert_eq!(one["readyByPriority"], json!([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(one["command"], "Mail Out", "as first registered");
    assert_eq!(node.token("globex-admin").counts("mail%20out").await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn an_empty_queue_is_not_listed_unless_it_is_paused() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let listed =
        async || node.admin().get("/admin/queues").await.json_of(200).as_array().unwrap().len();
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    assert_eq!(listed().await, 1);
    node.worker().claimed("m").await;
    assert_eq!(listed().await, 1);
    node.worker().complete(&id).await.json_of(200);
    eventually("the queue is gone", async || (listed().await == 0).then_some(())).await;
    node.admin().bare_post("/admin/queues/m/pause").await.json_of(200);
    assert_eq!(listed().await, 1);
    node.admin().bare_post("/admin/queues/m/resume").await.json_of(200);
    eventually("the queue is gone", async || (listed().await == 0).then_some(())).await;
}

#[tokio::test]
async fn an_operator_acts_for_other_tenants_and_reads_all() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let operator = node.operator();
    node.producer().created("m").await;
    let theirs =
        node.token("globex-producer").created("m").await["id"].as_str().unwrap().to_owned();
    let all = operator.get("/admin/queues?tenant=*").await.json_of(200);
    let mut rows: Vec<String> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {}", row["tenantId"], row["command"]))
        .collect();
    rows.sort();
    assert_eq!(rows, [r#""acme" "m""#, r#""globex" "m""#]);
    let one = operator.get("/admin/queues?tenant=globex").await.json_of(200);
    assert_eq!((one.as_array().unwrap().len(), &one[0]["ready"]), (1, &json!(1)));
    operator.bare_post("/admin/queues/m/pause?tenant=globex").await.json_of(200);
    assert_eq!(node.token("globex-worker").claim("m").await.status, 204);
    assert_eq!(node.worker().claim("m").await.status, 200, "another tenant's queue goes on");
    operator.delete(&format!("/admin/tasks/{theirs}")).await.refusal();
    operator.delete(&format!("/admin/tasks/{theirs}?tenant=globex")).await.json_of(200);

    let body = "400 invalid_body invalid body";
    for (method, path) in [
        ("POST", "/admin/queues/m/pause?tenant=*"),
        ("POST", "/admin/queues/m/dlq/purge?tenant=*"),
        ("POST", "/admin/tasks/cleanup?tenant=*"),
        ("DELETE", "/admin/tasks/x?tenant=*"),
        ("GET", "/admin/queues?tenant=Not%20One"),
    ] {
        assert_eq!(operator.call(method, path).await.refusal(), body, "{method} {path}");
    }
    for path in
        ["/admin/queues?tenant=globex", "/admin/queues?tenant=acme", "/admin/queues?tenant=*"]
    {
        let refused = node.admin().get(path).await;
        assert_eq!(refused.refusal(), "403 missing_scope missing scope", "{path}");
    }
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_until_it_is_resumed() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let task = node.producer().created("Mail").await;
    assert_eq!(
        node.admin().bare_post("/admin/queues/mail/pause").await.text(),
        r#"{"command":"mail","paused":true}"#
    );
    for body in [json!({"commands": ["mail"]}), json!({})] {
        assert_eq!(node.worker().claim_as(body).await.status, 204);
    }
    assert_eq!(node.admin().get("/admin/queues/mail").await.json_of(200)["paused"], true);
    let claim = tokio::spawn(
        node.worker().claim_as(json!({"commands": ["mail"], "waitSeconds": 30})).into_future(),
    );
    let any = tokio::spawn(node.other_worker().claim_as(json!({"waitSeconds": 1})).into_future());
    assert_eq!(any.await.unwrap().status, 204);
    eventually("the claim waits", async || {
        (node.scrape().await.value("codeq_waiters{kind=\"claim\"}") == 1.0).then_some(())
    })
    .await;
    let began = std::time::Instant::now();
    assert_eq!(
        node.admin().bare_post("/admin/queues/MAIL/resume").await.json_of(200)["paused"],
        false
    );
    assert_eq!(claim.await.unwrap().json_of(200)["id"], task["id"], "a waiting claim wakes");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_clean_up_deletes_nothing_and_says_so() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    let cleanup = |body: Value| node.admin().post("/admin/tasks/cleanup", body);
    assert_shown!(node.admin().bare_post("/admin/tasks/cleanup").await, @r#"
    200 {"deleted":0,
    "before":"<time>",
    "limit":1000}
    "#);
    assert_eq!(
        cleanup(json!({"before": "2030-01-01T00:00:00Z", "limit": 5})).await.text(),
        r#"{"deleted":0,"before":"2030-01-01T00:00:00.000Z","limit":5}"#
    );
    for (asked, used) in [(0, 1), (-4, 1), (5000, 1000)] {
        assert_eq!(cleanup(json!({"limit": asked})).await.json_of(200)["limit"], used);
    }
    assert_eq!(
        cleanup(json!({"before": "yesterday"})).await.refusal(),
        "400 invalid_before invalid 'before' (use RFC3339)"
    );
    assert_eq!(cleanup(json!({"limit": "5"})).await.refusal(), "400 invalid_body invalid body");
    assert_eq!(node.producer().read(&id).await.status, 200);
}

#[tokio::test]
async fn an_operator_changes_what_a_node_logs() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let operator = node.operator();
    let refused = node.admin().get("/admin/log-level").await;
    assert_eq!(refused.refusal(), "403 missing_scope missing scope");
    assert_eq!(node.admin().put("/admin/log-level", json!({"level": "debug"})).await.status, 403);
    assert_eq!(operator.get("/admin/log-level").await.text(), r#"{"level":"info","filter":""}"#);
    let set = operator.put("/admin/log-level", json!({"level": "debug"})).await;
    assert_eq!(set.text(), r#"{"level":"debug","filter":""}"#);
    node.line(|line| line["level"] == "DEBUG").await;
    let set = operator.put("/admin/log-level", json!({"filter": "codeq::http=trace"})).await;
    assert_eq!(
        set.text(),
        r#"{"level":"debug","filter":"codeq::http=trace"}"#,
        "what is left out stays"
    );
    for bad in
        [json!({"level": "loud"}), json!({"filter": "codeq=loud"}), json!({"level": 7}), json!([])]
    {
        let refused = operator.put("/admin/log-level", bad.clone()).await;
        assert_eq!(refused.refusal(), "400 invalid_body invalid body", "{bad}");
    }
    assert_eq!(operator.get("/admin/log-level").await.text(), set.text());
}

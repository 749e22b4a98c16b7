//! Inline artifacts: stored before the submit, named by the record, deleted in every other case.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Door, Doorway, Node, Redis, S3, Settings, eventually};

async fn claimed(node: &Node) -> String {
    node.producer().created("m").await;
    node.worker().claimed("m").await["id"].as_str().unwrap().to_owned()
}

fn content(name: &str, bytes: &[u8]) -> Value {
    json!({"name": name, "contentBase64": STANDARD.encode(bytes), "contentType": "text/plain"})
}

fn done(artifacts: Value) -> Value {
    json!({"status": "COMPLETED", "result": {"ok": true}, "artifacts": artifacts})
}

fn url(answer: &Value, at: usize) -> String {
    answer["artifacts"][at]["url"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// A node that stores in a folder of its own.
async fn on_files(redis: &Redis, place: &Path, more: &[(&str, &str)]) -> Node {
    let store = format!("file://{}", place.display());
    let settings = Settings::on(redis).set("ARTIFACT_STORE", &store);
    more.iter().fold(settings, |settings, (name, value)| settings.set(name, value)).start().await
}

/// Every file below a folder, sorted.
fn files(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect();
    found.sort();
    found
}

/// What the partitions know of folders.
async fn folders(redis: &Redis) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for key in redis.keys().await.into_iter().filter(|key| key.ends_with(":w")) {
        let entries: Vec<String> = redis.command(&format!("ZRANGE {key} 0 -1")).await;
        found.extend(entries.into_iter().map(|entry| (key.clone(), entry)));
    }
    found
}

/// Time goes on for every folder: what is due in minutes is due now.
async fn all_are_due(redis: &Redis) {
    for (key, entry) in folders(redis).await {
        redis.command::<i64>(&format!("ZADD {key} 1 {entry}")).await;
    }
}

async fn no_folder_is_left(redis: &Redis) {
    eventually("no folder is left", || async { folders(redis).await.is_empty().then_some(()) })
        .await;
}

fn is_unavailable(answer: &Answer) {
    assert_eq!(answer.refusal(), "503 store_unavailable store unavailable");
    assert!(answer.header("Retry-After").is_some());
}

async fn still_held(worker: &Client, id: &str) {
    assert_eq!(worker.task(id).await["status"], "IN_PROGRESS");
    worker.heartbeat(id).await.json_of(200);
}

#[tokio::test]
async fn content_arrives_byte_for_byte_in_files_under_tenant_and_task() {
    let (redis, place) = (Redis::start().await, tempfile::tempdir().unwrap());
    let node = on_files(&redis, place.path(), &[]).await;
    let id = claimed(&node).await;
    let every: Vec<u8> = (0..=255).collect();
    let link = json!({"name": "link", "url": "http://files.test/a"});
    let sent = done(json!([content("every byte", &every), link, content("empty", b"")]));
    let record = node.worker().submit(&id, sent).await.json_of(200);
    assert_eq!(record["artifacts"][1], link);
    assert_eq!(record["artifacts"][0]["name"], "every byte");
    let read = |at| {
        let path = url(&record, at).strip_prefix("file://").unwrap().to_owned();
        assert!(path.starts_with(&format!("{}/acme/{id}/", place.path().display())), "{path}");
        std::fs::read(path).unwrap()
    };
    assert_eq!(read(0), every);
    assert_eq!(read(2), b"");
    assert_eq!(files(place.path()).len(), 2);
    let seen = node.producer().result(&id).await.json_of(200);
    assert_eq!(seen["result"]["artifacts"], record["artifacts"]);
    let scrape = node.scrape().await;
    assert_eq!(scrape.sum("codeq_artifact_bytes_total", "operation=\"put\""), 256.0);
    let health = node.anyone().get("//health").await.json_of(200);
    assert_eq!(health["checks"]["artifacts"]["status"], "healthy");
    assert!(health["checks"]["artifacts"]["latency_ms"].is_number());
}

#[tokio::test]
async fn content_arrives_with_its_type_in_s3_and_tenants_are_apart() {
    let (redis, s3) = (Redis::start().await, S3::start().await);
    let node = s3.settings(Settings::on(&redis)).start().await;
    let id = claimed(&node).await;
    let sent = done(json!([content("ü b.txt", b"hello"), {"name": "b", "contentBase64": "AA=="}]));
    let record = node.worker().submit(&id, sent.clone()).await.json_of(200);
    assert!(url(&record, 0).starts_with(&format!("s3://artifacts/kept/acme/{id}/")));
    let (kind, bytes) = s3.object(&url(&record, 0)).await;
    assert_eq!((kind.as_str(), bytes.as_slice()), ("text/plain", &b"hello"[..]));
    let (kind, bytes) = s3.object(&url(&record, 1)).await;
    assert_eq!((kind.as_str(), bytes.as_slice()), ("application/octet-stream", &b"\0"[..]));

    let (theirs, globex) = (node.token("globex-producer"), node.token("globex-worker"));
    theirs.created("m").await;
    let other = globex.claimed("m").await["id"].as_str().unwrap().to_owned();
    globex.submit(&other, sent).await.json_of(200);
    let keys = s3.keys().await;
    let of = |tenant: &str, id: &str| {
        let folder = format!("kept/{tenant}/{id}/");
        keys.iter().filter(|key| key.starts_with(&folder)).count()
    };
    assert_eq!((of("acme", &id), of("globex", &other), keys.len()), (2, 2, 4), "{keys:?}");
    let health = node.anyone().get("//health").await.json_of(200);
    assert_eq!(health["checks"]["artifacts"]["status"], "healthy", "{health}");
    assert!(!node.lines().iter().any(|line| line.contains("the-secret-key")));
}

#[tokio::test]
async fn what_is_badly_formed_is_refused_by_name_and_stores_nothing() {
    let (redis, place) = (Redis::start().await, tempfile::tempdir().unwrap());
    let node = on_files(&redis, place.path(), &[("MAX_BODY_BYTES", "4096")]).await;
    let id = claimed(&node).await;
    let (worker, good) = (node.worker(), content("good", b"x"));
    for (bad, field) in [
        (json!({"name": "b", "contentBase64": "?"}), "artifacts[1].contentBase64: "),
        (json!({"name": "b", "contentBase64": "AA==", "url": "http://x"}), "artifacts[1].url: "),
        (json!({"name": "b", "contentType": "text/plain"}), "artifacts[1].url: "),
        (json!({"name": "good", "contentBase64": ""}), "artifacts[1].name: "),
        (
            json!({"name": "b", "contentBase64": "", "contentType": "é"}),
            "artifacts[1].contentType: ",
        ),
    ] {
        let answer = worker.submit(&id, done(json!([good, bad]))).await;
        assert_eq!(answer.refusal(), "400 invalid_body invalid request body");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(field), "{}", answer.text());
    }
    let large = worker.submit(&id, done(json!([content("large", &[7; 4096])]))).await;
    assert_eq!(large.refusal(), "413 body_too_large body too large");
    assert!(files(place.path()).is_empty() && folders(&redis).await.is_empty());
    worker.submit(&id, done(json!([good]))).await.json_of(200);
}

#[tokio::test]
async fn a_store_that_is_away_fails_the_submit_and_leaves_the_lease() {
    let (redis, s3) = (Redis::start().await, S3::start().await);
    let door = Doorway::before(&s3).await;
    let node = door.settings(Settings::on(&redis)).start().await;
    let id = claimed(&node).await;
    let sent = done(json!([content("a", b"hello")]));
    door.is(Door::Shut);
    is_unavailable(&node.worker().submit(&id, sent.clone()).await);
    still_held(&node.worker(), &id).await;
    let line = node.line(|line| line["event"] == "artifacts.failed").await;
    assert_eq!(line["level"], "WARN");
    let health = node.anyone().get("//health").await.json_of(200);
    assert_eq!(health["status"], "degraded", "{health}");
    assert_eq!(health["checks"]["artifacts"]["status"], "degraded");
    assert_eq!(node.anyone().get("//readyz").await.status, 200, "tasks go on");
    let plain = claimed(&node).await;
    node.worker().complete(&plain).await.json_of(200);

    door.is(Door::Open);
    let record = node.worker().submit(&id, sent).await.json_of(200);
    assert_eq!(s3.object(&url(&record, 0)).await.1, b"hello");
    assert_eq!(s3.keys().await.len(), 1);
}

#[tokio::test]
async fn one_bad_item_of_a_batch_touches_no_other() {
    let (redis, s3) = (Redis::start().await, S3::start().await);
    let node = s3.settings(Settings::on(&redis)).start().await;
    let (good, bad, gone) = (claimed(&node).await, claimed(&node).await, claimed(&node).await);
    node.worker().complete(&gone).await.json_of(200);
    let item = |id: &str, artifact: Value| {
        let mut item = done(json!([artifact]));
        item["taskId"] = json!(id);
        item
    };
    let batch = json!({"results": [
        item(&good, content("a", b"good")),
        item(&bad, json!({"name": "a", "contentBase64": "?"})),
        item(&gone, content("a", b"late")),
    ]});
    let answer = node.worker().post("/tasks/batch/results", batch).await.json_of(200);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(s3.object(&url(&results[0]["result"], 0)).await.1, b"good");
    assert_eq!(results[1]["code"], "invalid_body");
    assert!(results[1]["detail"].as_str().unwrap().contains("artifacts[0].contentBase64"));
    assert_eq!(results[2]["replayed"], true, "artifacts do not count: {answer}");
    assert_eq!(results[2]["result"]["artifacts"], Value::Null);
    still_held(&node.worker(), &bad).await;
    assert_eq!(s3.keys().await.len(), 1, "neither a refused nor a replayed submit stores anything");
}

#[tokio::test]
async fn a_submit_that_is_refused_leaves_no_object() {
    let (redis, place) = (Redis::start().await, tempfile::tempdir().unwrap());
    let node = on_files(&redis, place.path(), &[]).await;
    let id = claimed(&node).await;
    let sent = done(json!([content("a", b"x")]));
    let thief = node.other_worker().submit(&id, sent.clone()).await;
    assert_eq!(thief.refusal(), "403 not_owner not-owner");
    let stale = node.worker().submit(&id, sent.clone()).lease(&json!("0123456789abcdef")).await;
    assert_eq!(stale.refusal(), "409 lease_lost lease-lost");
    let strange = node.token("globex-worker").submit(&id, sent.clone()).await;
    assert_eq!(strange.refusal(), "404 not_found task not found");
    assert!(files(place.path()).is_empty() && folders(&redis).await.is_empty());

    let record = node.worker().submit(&id, sent.clone()).await.json_of(200);
    let again = node.worker().submit(&id, sent.clone()).await;
    assert!(again.is_replayed());
    assert_eq!(again.json_of(200)["artifacts"], record["artifacts"]);
    assert_eq!(files(place.path()).len(), 1, "the replay stored nothing");
}

#[tokio::test]
async fn a_lease_that_ends_during_the_upload_costs_the_objects_at_once() {
    let (redis, s3) = (Redis::start().await, S3::start().await);
    let door = Doorway::before(&s3).await;
    let node = door.settings(Settings::on(&redis)).start().await;
    let id = claimed(&node).await;
    door.is(Door::Silent);
    let (worker, task) = (node.worker(), id.clone());
    let submitting = tokio::spawn(async move {
        worker.submit(&task, done(json!([content("a", b"x")]))).await.refusal()
    });
    eventually("the object is there", || async { (s3.keys().await.len() == 1).then_some(()) })
        .await;
    node.worker().nack(&id, json!({"delaySeconds": 600})).await.json_of(200);
    door.is(Door::Open);
    assert_eq!(submitting.await.unwrap(), "409 not_in_progress not-in-progress");
    no_folder_is_left(&redis).await;
    assert!(s3.keys().await.is_empty());
}

#[tokio::test]
async fn a_node_killed_between_upload_and_submit_leaves_no_orphan() {
    let (redis, s3) = (Redis::start().await, S3::start().await);
    let door = Doorway::before(&s3).await;
    let mut node = door.settings(Settings::on(&redis)).start().await;
    let id = claimed(&node).await;
    door.is(Door::Silent);
    let (worker, task) = (node.worker(), id.clone());
    let submitting = tokio::spawn(async move {
        worker.submit(&task, done(json!([content("a", b"x")]))).sent().await
    });
    eventually("the object is there", || async { (s3.keys().await.len() == 1).then_some(()) })
        .await;
    node.kill();
    assert!(submitting.await.unwrap().is_err(), "nobody answered");

    let other = s3.settings(Settings::on(&redis)).start().await;
    still_held(&other.worker(), &id).await;
    assert_eq!(folders(&redis).await.len(), 1);
    assert_eq!(s3.keys().await.len(), 1, "an upload on its way is not an orphan");
    all_are_due(&redis).await;
    no_folder_is_left(&redis).await;
    assert!(s3.keys().await.is_empty());

    let sent = done(json!([content("a", b"again")]));
    let record = other.worker().submit(&id, sent).await.json_of(200);
    assert_eq!(s3.object(&url(&record, 0)).await.1, b"again");
}

#[tokio::test]
async fn a_store_that_is_away_when_a_sweep_deletes_is_asked_again() {
    let (redis, s3) = (Redis::start().await, S3::start().await);
    let door = Doorway::before(&s3).await;
    let settings = Settings::on(&redis).set("TASK_RETENTION_SECONDS", "1");
    let node = door.settings(settings).start().await;
    let id = claimed(&node).await;
    node.worker().submit(&id, done(json!([content("a", b"x")]))).await.json_of(200);
    door.is(Door::Shut);
    node.line(|line| line["event"] == "artifacts.not_deleted").await;
    assert_eq!(s3.keys().await.len(), 1);
    assert!(folders(&redis).await[0].1.starts_with('x'));
    door.is(Door::Open);
    all_are_due(&redis).await;
    no_folder_is_left(&redis).await;
    assert!(s3.keys().await.is_empty());
}

#[tokio::test]
async fn artifacts_go_with_the_retention_of_their_task() {
    let (redis, place) = (Redis::start().await, tempfile::tempdir().unwrap());
    let node = on_files(&redis, place.path(), &[("TASK_RETENTION_SECONDS", "2")]).await;
    let id = claimed(&node).await;
    node.worker().submit(&id, done(json!([content("a", b"x")]))).await.json_of(200);
    assert_eq!(files(place.path()).len(), 1);
    no_folder_is_left(&redis).await;
    assert_eq!(node.producer().read(&id).await.status, 404);
    assert!(std::fs::read_dir(place.path()).unwrap().next().is_none(), "no empty folder either");
}

#[tokio::test]
async fn a_node_starts_without_its_store_and_not_with_a_wrong_url() {
    let redis = Redis::start().await;
    let nowhere = Settings::on(&redis).set("ARTIFACT_STORE", "gs://bucket");
    let node = nowhere.set("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file").start().await;
    let id = claimed(&node).await;
    is_unavailable(&node.worker().submit(&id, done(json!([content("a", b"x")]))).await);
    node.worker().complete(&id).await.json_of(200);
    let wrong = Settings::on(&redis).set("ARTIFACT_STORE", "ftp://host/x");
    let (code, said) = wrong.fails().await;
    assert_eq!(code, Some(2));
    assert!(said.iter().any(|line| line.contains("ARTIFACT_STORE")), "{said:#?}");
}

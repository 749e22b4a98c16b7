//! Which ends are told, when, and what is said of them.

use std::time::UNIX_EPOCH;

use codeq::model::delivery::State;
use serde_json::{Value, json};

use super::super::text;
use super::{SECRET, completed, delivery, died, hooked, until_outbox_is_empty, until_state};
use crate::support::{Client, Keys, Node, Receiver, Redis, Reply, eventually};

/// The result as a worker writes it: no library would write it so.
const RESULT: &str = r#"{ "pages" : 3.0, "who":"Zo\u00eb & ☃", "e":1E2 }"#;
const ARTIFACTS: &str = r#"[{"name":"a.pdf","url":"http://files.test/a.pdf"}]"#;

/// A way in which a task ends.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Completed,
    Failed,
    CompletedInBatch,
    FailedInBatch,
    Nacked,
    Expired,
    CancelledByProducer,
    CancelledByAdmin,
}

const WAYS: [Way; 8] = [
    Way::Completed,
    Way::Failed,
    Way::CompletedInBatch,
    Way::FailedInBatch,
    Way::Nacked,
    Way::Expired,
    Way::CancelledByProducer,
    Way::CancelledByAdmin,
];

impl Way {
    fn command(self) -> String {
        format!("{self:?}")
    }

    /// `type` and, as `webhookOn` has it, the end.
    fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Completed | Self::CompletedInBatch => ("task.completed", "COMPLETED"),
            Self::Failed | Self::FailedInBatch => ("task.failed", "FAILED"),
            Self::Nacked | Self::Expired => ("task.dead_lettered", "DLQ"),
            Self::CancelledByProducer | Self::CancelledByAdmin => ("task.cancelled", "CANCELLED"),
        }
    }

    /// Makes a task and brings it to the step before its end.
    async fn begin(self, node: &Node, mut task: Value) -> String {
        task["command"] = self.command().into();
        task["payload"] = 1.into();
        task["maxAttempts"] = 1.into();
        let id = node.producer().created_as(task).await;
        if !matches!(self, Self::CancelledByProducer | Self::CancelledByAdmin) {
            let lease = if self == Self::Expired { 1 } else { 300 };
            let ask = json!({"commands": [self.command()], "leaseSeconds": lease});
            node.worker().claim_as(ask).await.json_of(200);
        }
        id
    }

    /// The last step.
    async fn end(self, node: &Node, id: &str) {
        let completed =
            format!(r#""status":"COMPLETED","result":{RESULT},"artifacts":{ARTIFACTS}"#);
        let failed = r#""status":"FAILED","error":"no \"ink\"""#;
        let worker = node.worker();
        let submit = async |verdict: &str| {
            let call = worker.bare_post(&format!("/tasks/{id}/result"));
            call.text(format!("{{{verdict}}}")).await.json_of(200);
        };
        let submit_in_batch = async |verdict: &str| {
            let item = format!(r#"{{"results":[{{"taskId":"{id}",{verdict}}}]}}"#);
            let answer = worker.bare_post("/tasks/batch/results").text(item).await.json_of(200);
            assert!(answer["results"][0]["result"].is_object(), "{answer}");
        };
        match self {
            Self::Completed => submit(&completed).await,
            Self::Failed => submit(failed).await,
            Self::CompletedInBatch => submit_in_batch(&completed).await,
            Self::FailedInBatch => submit_in_batch(failed).await,
            Self::Nacked => {
                worker.nack(id, json!({"reason": "no ink"})).await.json_of(200);
            }
            // Its worker says nothing any more.
            Self::Expired => {}
            Self::CancelledByProducer => {
                node.producer().bare_post(&format!("/tasks/{id}/cancel")).await.json_of(200);
            }
            Self::CancelledByAdmin => {
                node.admin().delete(&format!("/admin/tasks/{id}")).await.json_of(200);
            }
        }
    }
}

/// What the broker says of a task's end when it is asked.
async fn recorded(producer: &Client, id: &str) -> Value {
    producer.result(id).await.json_of(200)["result"].clone()
}

#[tokio::test]
async fn every_way_to_end_is_told_once_and_as_it_was_recorded() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let receiver = Receiver::start().await;
    for way in WAYS {
        let id = way.begin(&node, json!({"webhook": receiver.url()})).await;
        let told = |requests: &[crate::support::receiver::Request]| {
            requests.iter().any(|request| request.task_id() == id)
        };
        // An expired lease may be swept at any moment.
        if way != Way::Expired {
            assert!(!told(&receiver.requests()), "{way:?} was told before it was there");
        }
        way.end(&node, &id).await;
        receiver.until(&format!("{way:?} is told"), told).await;
        let request = receiver.requests().pop().unwrap();
        request.verify(&Keys::of(SECRET)).unwrap();
        assert_eq!(request.webhook_id(), format!("{id}_1"));
        let said = request.json();
        let recorded = recorded(&node.producer(), &id).await;
        assert_eq!(said["type"], way.told().0);
        assert_eq!(said["eventType"], way.command());
        for field in ["taskId", "status", "completedAt"] {
            assert_eq!(said[field], recorded[field], "{way:?}: {field}");
        }
        assert_eq!(said["timestamp"], said["completedAt"]);
        let error = recorded["error"].as_str().unwrap_or_default();
        assert_eq!(said["error"], error, "{way:?}");
        assert_eq!(error.is_empty(), way.told().1 == "COMPLETED", "{way:?}");
        let body = std::str::from_utf8(&request.body).unwrap();
        if way.told().1 == "COMPLETED" {
            let whole = format!(r#""result":{RESULT},"error":"","artifacts":{ARTIFACTS},"#);
            assert!(body.contains(&whole), "{body}");
        } else {
            assert!(said["result"].is_null() && said["artifacts"].is_null(), "{body}");
        }
        let completed: jiff::Timestamp = text(&said, "completedAt").parse().unwrap();
        let arrived = request.time.duration_since(UNIX_EPOCH).unwrap().as_millis();
        assert!(completed.as_millisecond() <= i64::try_from(arrived).unwrap(), "{way:?}");
    }
    until_outbox_is_empty(&redis).await;
    assert_eq!(receiver.count(), WAYS.len());
}

#[tokio::test]
async fn a_repeated_submit_and_a_lost_race_for_the_end_tell_nothing_more() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let receiver = Receiver::start().await;
    let id = completed(&node, "m", &receiver).await;
    receiver.until_count(1).await;
    node.worker().complete(&id).await.json_of(200);
    assert_eq!(node.worker().fail(&id, "no").await.status, 409);
    assert_eq!(node.producer().bare_post(&format!("/tasks/{id}/cancel")).await.status, 409);
    // Of a batch with the same end twice, one counts.
    let other = node.producer().created_with_webhook("m", &receiver.url()).await;
    node.worker().claimed("m").await;
    let item = json!({"taskId": other, "status": "FAILED", "error": "no"});
    node.worker().post("/tasks/batch/results", json!({"results": [item, item]})).await.json_of(200);
    receiver.until_count(2).await;
    until_outbox_is_empty(&redis).await;
    assert_eq!(receiver.deliveries().len(), 2);
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn webhook_on_chooses_the_ends_that_are_told() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let receiver = Receiver::start().await;
    let chosen = ["COMPLETED", "FAILED", "DLQ", "CANCELLED"];
    let ways = [Way::Completed, Way::Failed, Way::Nacked, Way::CancelledByProducer];
    let mut expected = Vec::new();
    for on in chosen {
        for way in ways {
            let task = json!({"webhook": receiver.url(), "webhookOn": [on]});
            let id = way.begin(&node, task).await;
            way.end(&node, &id).await;
            if way.told().1 == on {
                expected.push(id);
            } else {
                assert_eq!(delivery(&redis, &id, 1).await, None, "{on}: {way:?}");
            }
        }
    }
    until_outbox_is_empty(&redis).await;
    let mut told: Vec<_> = receiver.requests().iter().map(|request| request.task_id()).collect();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_thin_or_too_large_delivery_says_where_its_result_is() {
    let redis = Redis::start().await;
    let node = hooked(&redis).set("WEBHOOK_MAX_BODY_BYTES", "1024").start().await;
    let receiver = Receiver::start().await;
    let small = json!({"n": 1});
    let large = json!({"n": "x".repeat(1024)});
    // A result that is kept apart from its record is no other.
    let larger = json!({"n": "x".repeat(9000)});
    let artifacts = json!([{"name": "a", "url": format!("http://x/{}", "y".repeat(1024))}]);
    let cases = [
        ("thin", &small, json!(null), true),
        ("full", &small, json!(null), false),
        ("full", &large, json!(null), true),
        ("full", &larger, json!(null), true),
        ("full", &small, artifacts, true),
    ];
    for (form, result, artifacts, omitted) in cases {
        let task = json!({
            "command": "m", "payload": 1, "webhook": receiver.url(), "webhookBody": form,
        });
        let id = node.producer().created_as(task).await;
        node.worker().claimed("m").await;
        let mut verdict = json!({"status": "COMPLETED", "result": result});
        if !artifacts.is_null() {
            verdict["artifacts"] = artifacts.clone();
        }
        node.worker().submit(&id, verdict).await.json_of(200);
        receiver.until("it is told", |all| all.iter().any(|one| one.task_id() == id)).await;
        let said = receiver.requests().pop().unwrap().json();
        assert_eq!(said["status"], "COMPLETED");
        if !omitted {
            assert_eq!((&said["result"], said.get("resultOmitted")), (result, None));
            continue;
        }
        assert_eq!(said["resultOmitted"], true, "{said}");
        assert!(said["result"].is_null() && said["artifacts"].is_null(), "{said}");
        let path = text(&said, "resultUrl");
        let read = node.producer().get(path.strip_prefix("/v1/codeq").unwrap()).await.json_of(200);
        assert_eq!(&read["result"]["result"], result);
    }
}

#[tokio::test]
async fn a_task_that_comes_back_takes_its_untold_end_with_it_and_tells_the_next() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let mut receiver = Receiver::start().await;
    let task = json!({"command": "m", "payload": 1, "webhook": receiver.url()});
    let told = died(&node, task.clone()).await;
    until_state(&redis, &told, 1, State::Delivered).await;
    receiver.leave().await;
    let untold = died(&node, task).await;
    super::until_delivery(&redis, &untold, 1, |of| of.attempts > 0).await;
    let back = node.admin().bare_post("/admin/queues/m/dlq/requeue").await;
    back.json_of(200);
    let superseded = until_state(&redis, &untold, 1, State::Superseded).await;
    assert_eq!((superseded.attempts, superseded.log.len()), (1, 1));
    let before = delivery(&redis, &told, 1).await.unwrap();
    assert_eq!(before.state, State::Delivered);
    super::until_outbox_is_empty(&redis).await;
    receiver.come_back().await;
    for _ in 0..2 {
        let id = text(&node.worker().claimed("m").await, "id");
        node.worker().complete(&id).await.json_of(200);
    }
    receiver.until_count(3).await;
    until_outbox_is_empty(&redis).await;
    let ids: Vec<String> = receiver.deliveries().into_keys().collect();
    let mut expected = [format!("{told}_1"), format!("{told}_2"), format!("{untold}_2")];
    expected.sort();
    assert_eq!(ids, expected);
    assert_eq!(delivery(&redis, &told, 1).await, Some(before));
    let scrape = node.scrape().await;
    let counted = |outcome: &str| {
        let of = format!("kind=\"task_result\",outcome=\"{outcome}\"");
        scrape.sum("codeq_webhook_deliveries_total", &of)
    };
    assert_eq!((counted("superseded"), counted("success"), counted("failure")), (1.0, 3.0, 0.0));
}

#[tokio::test]
async fn a_dead_task_that_is_purged_is_still_told() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::Status(500));
    let task = json!({"command": "m", "payload": {"large": "x".repeat(3000)},
        "webhook": receiver.url()});
    let id = died(&node, task).await;
    let first = receiver.until_count(1).await.remove(0);
    super::until_delivery(&redis, &id, 1, |of| of.attempts > 0).await;
    node.admin().bare_post("/admin/queues/m/dlq/purge").await.json_of(200);
    assert_eq!(node.producer().read(&id).await.status, 404);
    receiver.answers(Reply::OK);
    let second = receiver.until_count(2).await.remove(1);
    assert_eq!(second.body, first.body);
    assert_eq!(second.json()["error"], "no \"paper\"");
    assert_eq!(second.webhook_id(), first.webhook_id());
    assert_eq!(second.header("traceparent"), first.header("traceparent"));
    second.verify(&Keys::of(SECRET)).unwrap();
    until_state(&redis, &id, 1, State::Delivered).await;
    until_outbox_is_empty(&redis).await;
    eventually("nothing is left of the task", || async {
        let left = redis.keys().await;
        let short = super::Place::of(&id, 1).short[..22].to_owned();
        left.iter().all(|key| key.contains(":v:") || !key.contains(&short)).then_some(())
    })
    .await;
}

//! Queue policies: stored, versioned, in force for new tasks.

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Node, Redis};

#[tokio::test]
async fn a_policy_is_created_replayed_updated_read_and_removed() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let admin = node.admin();
    let put = |body: Value| admin.put("/admin/topics/mail-out", body);
    let missing = admin.get("/admin/topics/mail-out").await;
    assert_eq!(missing.refusal(), r#"404 not_found queue topic "acme.mail-out" not found"#);
    let policy = json!({"priorityTiers": [0, 5, 9], "maxAttempts": 3, "deadLetterTopicRef": "dead", "retentionSeconds": 3600, "maxConsumers": 4});
    assert_shown!(put(policy.clone()).await, @r#"
    201 {"id":"acme.mail-out",
    "name":"mail-out",
    "version":1,
    "priorityTiers":[0,5,9],
    "maxAttempts":3,
    "deadLetterTopicRef":"dead",
    "retentionSeconds":3600,
    "maxConsumers":4}
    "#);
    let replayed = put(policy.clone()).await;
    assert_eq!((replayed.status, &replayed.json()["version"]), (200, &json!(1)), "a replay");
    let mut changed = policy.clone();
    changed["maxAttempts"] = json!(4);
    let updated = put(changed).await;
    assert_eq!((updated.status, &updated.json()["version"]), (200, &json!(2)));
    assert_eq!(admin.get("/admin/topics/mail-out").await.json_of(200), updated.json());
    assert_eq!(node.token("globex-admin").get("/admin/topics/mail-out").await.status, 404);

    let plain = admin.delete("/admin/topics/mail-out").await;
    assert_eq!(plain.refusal(), "400 deletion_policy_required deletionPolicy=Delete is required");
    for _ in 0..2 {
        let deleted = admin.delete("/admin/topics/mail-out?deletionPolicy=Delete").await;
        assert_eq!((deleted.status, deleted.text()), (204, ""), "also when absent");
    }
    assert_eq!(admin.get("/admin/topics/mail-out").await.status, 404);
}

#[tokio::test]
async fn a_policy_is_strict() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let put = |name: &str, body: Value| node.admin().put(&format!("/admin/topics/{name}"), body);
    let many: Vec<u8> = vec![1; 11];
    for (body, status, field) in [
        (json!({"maxAttempts": 0}), 422, "maxAttempts"),
        (json!({"maxAttempts": 101}), 422, "maxAttempts"),
        (json!({"priorityTiers": [11]}), 422, "priorityTiers"),
        (json!({"priorityTiers": [-1]}), 422, "priorityTiers"),
        (json!({"priorityTiers": many}), 422, "priorityTiers"),
        (json!({"priorityTiers": []}), 422, "priorityTiers"),
        (json!({"deadLetterTopicRef": "mail"}), 422, "deadLetterTopicRef"),
        (json!({"maxAttempts": "3"}), 400, ""),
        (json!({"maxAttemps": 3}), 400, ""),
        (json!([]), 400, ""),
    ] {
        let refused = put("mail", body.clone()).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.text());
        if status == 422 {
            let said = refused.json();
            assert_eq!(
                (&said["field"], &said["code"]),
                (&json!(field), &json!("invalid_policy")),
                "{body}"
            );
            assert!(
                said["error"].as_str().unwrap().starts_with(&format!("invalid {field}: ")),
                "{said}"
            );
        }
    }
    let text = put("mail", json!({"maxAttempts": 101})).await.json()["error"].clone();
    assert_eq!(text, "invalid maxAttempts: must be between 1 and 100");
    assert_eq!(put("mail", json!({"priorityTiers": [10]})).await.status, 201, "ten acts as nine");
    for name in ["Mail", "-mail", "mail_out", "mail%20out", &"x".repeat(64)] {
        assert!(matches!(put(name, json!({"maxAttempts": 1})).await.status, 400 | 422), "{name}");
    }
}

#[tokio::test]
async fn a_policy_holds_for_new_tasks_of_its_command_and_tenant() {
    let redis = Redis::start().await;
    let node = Node::on(&redis).await;
    let policy = json!({"maxAttempts": 2, "retentionSeconds": 60});
    assert_eq!(node.admin().put("/admin/topics/mail", policy).await.status, 201);
    assert_eq!(node.producer().created("MAIL").await["maxAttempts"], 2);
    assert_eq!(node.producer().created("other").await["maxAttempts"], 5);
    assert_eq!(node.token("globex-producer").created("mail").await["maxAttempts"], 5);
    let own =
        node.producer().create(json!({"command": "mail", "payload": 1, "maxAttempts": 7})).await;
    assert_eq!(own.json_of(202)["maxAttempts"], 7, "a task's own wish wins");
    node.admin().delete("/admin/topics/mail?deletionPolicy=Delete").await;
    assert_eq!(node.producer().created("mail").await["maxAttempts"], 5);
}

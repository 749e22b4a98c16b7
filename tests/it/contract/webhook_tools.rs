//! What helps those who set up a receiver: the keys, a test call, and the rules for its URL.

use std::process::Command;

use serde_json::{Value, json};

use crate::assert_shown;
use crate::support::{Keys, Node, Receiver, Redis, Reply};

const SECRET: &str = "an operator's plain secret";

#[tokio::test]
async fn the_shared_key_is_for_operators_only() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("WEBHOOK_HMAC_SECRET", SECRET)]).await;
    let refused = node.admin().get("/admin/webhook-secret").await;
    assert_shown!(refused, @r#"
    403 {"error":"missing scope",
    "code":"missing_scope",
    "requestId":"<request>",
    "detail":"codeq:operator"}
    "#);
    let answer = node.operator().get("/admin/webhook-secret").await;
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    // printf "an operator's plain secret" | base64
    let key = "whsec_YW4gb3BlcmF0b3IncyBwbGFpbiBzZWNyZXQ=";
    assert_eq!(answer.json_of(200), json!({"keys": [key]}));
    assert_eq!(node.producer().get("/admin/webhook-secret").await.status, 401);
}

#[tokio::test]
async fn a_tenants_own_key_is_shown_to_its_administrators_and_verifies_a_test_call() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let secrets = json!([SECRET, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).to_string();
    let variables = [("WEBHOOK_HMAC_SECRET", secrets.as_str()), ("WEBHOOK_SECRET_SCOPE", "tenant")];
    let node = Node::with(&redis, &variables).await;
    let keys_of = async |token: &str, path: &str| -> Vec<String> {
        let answer = node.token(token).get(path).await.json_of(200);
        serde_json::from_value(answer["keys"].clone()).unwrap()
    };
    let acme = keys_of("admin", "/admin/webhook-secret").await;
    let globex = keys_of("globex-admin", "/admin/webhook-secret").await;
    assert_eq!((acme.len(), globex.len()), (2, 2), "one for each secret");
    assert_eq!(keys_of("operator", "/admin/webhook-secret?tenant=globex").await, globex);
    let all = node.operator().get("/admin/webhook-secret?tenant=*").await;
    assert_eq!(all.refusal(), "400 invalid_body invalid body", "keys are one tenant's");

    let called = node.admin().post("/admin/webhooks/test", json!({"url": receiver.url()})).await;
    assert_eq!(called.json_of(200)["ok"], true);
    let [request] = receiver.requests().try_into().unwrap();
    for key in &acme {
        let webhook = standardwebhooks::Webhook::new(key).unwrap();
        webhook.verify(request.body.as_ref(), &request.headers()).unwrap();
    }
    request.verify(&Keys::of_tenant(&acme[0])).unwrap();
    request.verify(&Keys::of_tenant(&globex[0])).unwrap_err();
}

#[tokio::test]
async fn a_test_call_tells_how_it_went_and_nothing_of_the_answer() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = Node::with(&redis, &[]).await;
    let test =
        async |url: &str| node.admin().post("/admin/webhooks/test", json!({"url": url})).await;

    let answer = test(&receiver.url()).await.json_of(200);
    assert_eq!(
        (&answer["ok"], &answer["status"], &answer["class"]),
        (&json!(true), &json!(200), &json!("2xx"))
    );
    assert!(answer["durationMs"].is_u64());
    let [request] = receiver.requests().try_into().unwrap();
    assert_eq!(request.json()["type"], "codeq.test");
    assert!(request.webhook_id().starts_with("test_"));
    assert_eq!(request.attempt(), 1);

    let body = "the password is swordfish".into();
    receiver.answers(Reply::Full { status: 503, headers: Vec::new(), body });
    let failed = test(&receiver.url()).await;
    assert!(!failed.text().contains("swordfish"), "{}", failed.text());
    let failed = failed.json_of(200);
    assert_eq!(
        (&failed["ok"], &failed["status"], &failed["class"]),
        (&json!(false), &json!(503), &json!("http_5xx"))
    );

    let nowhere = test("http://no.such.host.invalid/").await.json_of(200);
    assert_eq!((&nowhere["status"], &nowhere["class"]), (&Value::Null, &json!("dns")));

    let refused = test("http://169.254.169.254/").await;
    assert_shown!(refused, @r#"
    400 {"error":"invalid webhook url",
    "code":"invalid_url",
    "requestId":"<request>",
    "detail":"url: not an address that is private, local or reserved"}
    "#);
    assert_eq!(node.producer().post("/admin/webhooks/test", json!({})).await.status, 401);
}

#[tokio::test]
async fn a_tenant_has_ten_test_calls_a_minute_among_all_its_administrators() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = Node::with(&redis, &[]).await;
    let test = async |token: &str, url: &str| {
        node.token(token).post("/admin/webhooks/test", json!({"url": url})).await
    };
    assert_eq!(test("admin", "http://169.254.169.254/").await.status, 400, "costs nothing");
    for call in 0..10 {
        let token = if call % 2 == 0 { "admin" } else { "admin-by-role" };
        assert_eq!(test(token, &receiver.url()).await.status, 200);
    }
    let limited = test("admin-by-role", &receiver.url()).await;
    assert_eq!(limited.refusal(), "429 rate_limited rate limit exceeded");
    let said = limited.json();
    assert_eq!((&said["scope"], &said["operation"]), (&json!("webhook"), &json!("test")));
    assert!(limited.header("Retry-After").is_some());
    assert_eq!(test("globex-admin", &receiver.url()).await.status, 200, "another tenant's bucket");
    let hits = "codeq_rate_limit_hits_total{operation=\"test\",scope=\"webhook\"}";
    assert_eq!(node.scrape().await.value(hits), 1.0);
    assert_eq!(receiver.count(), 11);
}

#[tokio::test]
async fn a_literal_address_that_is_refused_is_told_when_the_task_is_created() {
    let redis = Redis::start().await;
    let variables = [("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "false"), ("WEBHOOK_ALLOWED_PORTS", "443")];
    let node = Node::with(&redis, &variables).await;
    let create = async |url: &str| {
        let task = json!({"command": "m", "payload": 1, "webhook": url});
        node.producer().create(task).await
    };
    for host in ["[::1]", "127.0.0.1", "0x7f.1", "2130706433", "①②⑦.⓪.⓪.①", "[::ffff:a00:1]"]
    {
        let refused = create(&format!("https://{host}/")).await;
        assert_eq!(refused.refusal(), "400 invalid_url invalid webhook url", "{host}");
        let rule = "webhook: not an address that is private, local or reserved";
        assert_eq!(refused.json()["detail"], rule, "{host}");
    }
    let port = create("https://a.example:6379/").await;
    assert_eq!(port.json()["detail"], "webhook: a port that deliveries may go to");
    assert_eq!(create("https://a.example/").await.status, 202);
    assert_eq!(create("https://localhost/").await.status, 202, "a name is looked up at delivery");
}

#[test]
fn the_command_prints_the_keys_that_the_node_signs_with() {
    let run = |arguments: &[&str], scope: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_codeq"))
            .env_clear()
            .env("WEBHOOK_HMAC_SECRET", SECRET)
            .env("WEBHOOK_SECRET_SCOPE", scope)
            .args(["webhook", "secret"])
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let shared = "whsec_YW4gb3BlcmF0b3IncyBwbGFpbiBzZWNyZXQ=\n";
    assert_eq!(run(&[], "shared"), (Some(0), shared.to_owned()));
    assert_eq!(run(&["--tenant", "acme"], "shared"), (Some(0), shared.to_owned()));
    let (acme, globex, events) = (
        run(&["--tenant", "acme"], "tenant"),
        run(&["--tenant", "globex"], "tenant"),
        run(&[], "tenant"),
    );
    for (code, line) in [&acme, &globex, &events] {
        assert_eq!((code, line.len()), (&Some(0), "whsec_".len() + 44 + 1), "{line}");
    }
    assert!(acme != globex && acme != events && globex != events);
    assert_eq!(run(&["--tenant", "No Tenant"], "tenant").0, Some(1));
}

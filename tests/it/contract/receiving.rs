//! `examples/receiver`, the receiver that others copy: it takes what is signed, and once.

use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::process::{Lines, Process};
use crate::support::{Answer, Client, Keys, Node, Raw, Redis, eventually};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NEXT: &str = "a secret that is only beginning";
const BODY: &str = r#"{"taskId":"a","type":"task.completed","result":{"b": 1}}"#;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The receiver as a process.
struct Example {
    process: Process,
    lines: Lines,
    client: Client,
}

impl Example {
    async fn with(secret: &str, arguments: &[&str]) -> Self {
        let mut process = Process::start(example(arguments).env("WEBHOOK_HMAC_SECRET", secret));
        let lines = Lines::of(&mut process);
        let origin = eventually("the receiver listens", || {
            let ended = process.ended();
            let all = lines.all();
            async move {
                assert!(ended.is_none(), "it ended: {all:#?}");
                let line = all.into_iter().find_map(|line| {
                    Some(line.strip_prefix("receiver: ")?.trim_end_matches('/').to_owned())
                });
                line.filter(|origin| origin.starts_with("http"))
            }
        })
        .await;
        Self { process, lines, client: Client::anonymous(&origin) }
    }

    /// Delivers a body with these headers.
    async fn takes(&self, headers: Vec<(&'static str, String)>, body: &str) -> Answer {
        let call = self.client.call("POST", "//hook").text(body.to_owned());
        headers.iter().fold(call, |call, (name, value)| call.header(name, value)).await
    }

    /// Delivers what is signed with these keys just now.
    async fn takes_signed(&self, keys: &Keys, id: &str) -> Answer {
        self.takes(keys.sign(id, now(), BODY), BODY).await
    }

    /// The line about a delivery.
    async fn line_about(&self, id: &str) -> Value {
        eventually("a line about it", || {
            let line = self.lines.find(|line| line["webhookId"] == id);
            async move { line }
        })
        .await
    }
}

fn example(arguments: &[&str]) -> Command {
    let mut command = Command::new("examples/receiver/receiver.py");
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["--port", "0"])
        .args(arguments)
        .env_remove("WEBHOOK_HMAC_SECRET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn done() -> Value {
    json!({"ok": true, "duplicate": false})
}

fn done_before() -> Value {
    json!({"ok": true, "duplicate": true})
}

#[tokio::test]
async fn what_is_signed_is_done_once_and_what_is_not_is_refused_with_its_reason() {
    let receiver = Example::with(SECRET, &[]).await;
    let keys = Keys::of(SECRET);
    assert_eq!(receiver.takes_signed(&keys, "a_1").await.json_of(200), done());
    assert_eq!(receiver.takes_signed(&keys, "a_1").await.json_of(200), done_before());
    assert_eq!(receiver.takes_signed(&keys, "a_2").await.json_of(200), done());

    let refused = |answer: Answer| answer.json_of(401)["error"].as_str().unwrap().to_owned();
    let changed = BODY.replace("1}", "2}");
    let answer = receiver.takes(keys.sign("b_1", now(), BODY), &changed).await;
    assert!(refused(answer).starts_with("webhook-signature was made with another secret"));
    let answer = receiver.takes_signed(&Keys::of(NEXT), "b_1").await;
    assert!(refused(answer).starts_with("webhook-signature was made with another secret"));
    for (time, side) in [(now() - 330, "old"), (now() + 330, "early")] {
        let reason = refused(receiver.takes(keys.sign("b_1", time, BODY), BODY).await);
        assert!(reason.contains(&format!("s too {side}: is one of the clocks wrong?")), "{reason}");
    }
    for n in 0..5 {
        let mut headers = keys.sign("b_1", now(), BODY);
        let (name, value) = headers.remove(n);
        let reason = refused(receiver.takes(headers.clone(), BODY).await);
        assert!(reason.starts_with(&format!("{name} is missing")), "{reason}");
        // A second one beside it is no better.
        headers.extend([(name, value.clone()), (name, value)]);
        assert!(refused(receiver.takes(headers, BODY).await).starts_with(name));
    }
    // Of the two, either one alone does not do.
    let mut headers = keys.sign("b_1", now(), BODY);
    headers[1] = Keys::of(NEXT).sign("b_1", now(), BODY).remove(1);
    let reason = refused(receiver.takes(headers, BODY).await);
    assert!(reason.starts_with("X-CodeQ-Signature was made with another secret"), "{reason}");
    // Nothing of all this counts as done.
    assert_eq!(receiver.takes_signed(&keys, "b_1").await.json_of(200), done());

    let headers = keys.sign("c_1", now(), "no JSON");
    assert_eq!(receiver.takes(headers, "no JSON").await.status, 400);
    assert_eq!(receiver.client.get("//hook").await.status, 405);
}

#[tokio::test]
async fn it_takes_what_a_node_sends_and_goes_on_with_its_trace() {
    let redis = Redis::start().await;
    let signing = [("WEBHOOK_HMAC_SECRET", SECRET), ("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "true")];
    let node = Node::with(&redis, &signing).await;
    let receiver = Example::with(SECRET, &[]).await;
    let url = format!("{}/hook", receiver.client.origin);
    let body = json!({"command": "mail", "payload": 1, "webhook": url});
    let traced = format!("00-{TRACE}-b7ad6b7169203331-01");
    let create = node.producer().create(body).header("traceparent", &traced).await;
    let id = create.json_of(202)["id"].as_str().unwrap().to_owned();
    node.worker().claimed("mail").await;
    node.worker().complete(&id).await.json_of(200);

    let line = receiver.line_about(&format!("{id}_1")).await;
    assert_eq!((&line["status"], &line["duplicate"]), (&json!(200), &json!(false)), "{line}");
    assert_eq!((&line["taskId"], &line["type"]), (&json!(id), &json!("task.completed")));
    assert_eq!((&line["traceId"], &line["attempt"]), (&json!(TRACE), &json!("1")));
    let hook = eventually("the node knows that it was taken", || async {
        let hook = node.producer().task_webhook(&id).await.json_of(200);
        (hook["state"] == "delivered").then_some(hook)
    })
    .await;
    assert_eq!(hook["attempts"][0]["status"], 200, "{hook}");
}

#[tokio::test]
async fn each_form_of_a_secret_is_taken_and_several_while_they_change() {
    let shown = format!("whsec_{}", STANDARD.encode(SECRET));
    let both = json!([NEXT, shown]).to_string();
    let receiver = Example::with(&both, &[]).await;
    // A new secret, the key shown for a plain one or a tenant, the same text when configured so.
    for (keys, id) in
        [(Keys::of(NEXT), "a_1"), (Keys::of_tenant(&shown), "a_2"), (Keys::of(&shown), "a_3")]
    {
        assert_eq!(receiver.takes_signed(&keys, id).await.json_of(200), done());
    }
    assert_eq!(receiver.takes_signed(&Keys::of("another secret"), "a_4").await.status, 401);
}

#[tokio::test]
async fn the_trace_of_a_delivery_goes_on() {
    let receiver = Example::with(SECRET, &[]).await;
    let deliver = async |id: &str, traceparent: &str| {
        let mut headers = Keys::of(SECRET).sign(id, now(), BODY);
        headers.push(("traceparent", traceparent.to_owned()));
        headers.push(("tracestate", "vendor=1".to_owned()));
        let answer = receiver.takes(headers, BODY).await;
        let own = answer.header("traceparent").unwrap().to_owned();
        (own, answer.header("tracestate").map(str::to_owned))
    };
    let (own, state) = deliver("a_1", &format!("00-{TRACE}-b7ad6b7169203331-01")).await;
    let line = receiver.line_about("a_1").await;
    assert_eq!(own, format!("00-{TRACE}-{}-01", line["spanId"].as_str().unwrap()));
    assert_eq!(state.as_deref(), Some("vendor=1"));
    assert_eq!(line["traceId"], TRACE);
    assert_eq!(line["parentSpanId"], "b7ad6b7169203331");
    assert_ne!(line["spanId"], "b7ad6b7169203331");
    assert_eq!((&line["taskId"], &line["type"]), (&json!("a"), &json!("task.completed")));
    // What cannot be read begins a trace; what comes from a later version is read as far as known.
    let zeros = "0".repeat(32);
    for bad in [
        "",
        "00",
        &format!("ff-{TRACE}-b7ad6b7169203331-01"),
        &format!("00-{zeros}-b7ad6b7169203331-01"),
        &format!("00-{TRACE}-b7ad6b7169203331-01-x"),
    ] {
        let (own, state) = deliver("a_2", bad).await;
        assert!(own.ends_with("-00") && !own.contains(TRACE), "{bad} became {own}");
        assert_eq!(state, None);
    }
    let (own, _) = deliver("a_3", &format!("cc-{TRACE}-b7ad6b7169203331-05-more")).await;
    assert!(own.starts_with(&format!("00-{TRACE}-")) && own.ends_with("-01"), "{own}");
}

#[tokio::test]
async fn what_it_remembers_is_bounded() {
    let receiver = Example::with(SECRET, &["--remember", "2"]).await;
    let keys = Keys::of(SECRET);
    for id in ["a_1", "b_1", "a_1", "c_1"] {
        receiver.takes_signed(&keys, id).await.json_of(200);
    }
    // b was seen longest ago.
    assert_eq!(receiver.takes_signed(&keys, "a_1").await.json_of(200), done_before());
    assert_eq!(receiver.takes_signed(&keys, "b_1").await.json_of(200), done());
    let long = "x".repeat(2 << 20);
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", long.len());
    let mut raw = Raw::to(&receiver.client.origin).await;
    raw.send(&head).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn told_to_stop_it_finishes_what_is_in_hand() {
    let mut receiver = Example::with(SECRET, &[]).await;
    // One connection is idle, on another half a request has come.
    let mut idle = Raw::to(&receiver.client.origin).await;
    let mut busy = Raw::to(&receiver.client.origin).await;
    let keys = Keys::of(SECRET);
    let mut head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", BODY.len());
    head += "Expect: 100-continue\r\n";
    for (name, value) in keys.sign("a_1", now(), BODY) {
        head += &format!("{name}: {value}\r\n");
    }
    busy.send(&format!("{head}\r\n{}", &BODY[..9])).await;
    assert!(busy.head().await.starts_with("HTTP/1.1 100 "));
    receiver.process.signal(libc::SIGTERM);
    assert_eq!(idle.rest().await, "");
    busy.send(&BODY[9..]).await;
    let answer = busy.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("Connection: close"),
        "{answer}"
    );
    assert_eq!(receiver.process.exit(Duration::from_secs(10)).await.code(), Some(0));
}

#[tokio::test]
async fn a_mistake_of_the_operator_ends_it_with_a_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let rows: [(&str, &[&str], &str); 5] = [
        ("", &[], "WEBHOOK_HMAC_SECRET is not set"),
        ("whsec_!", &[], "WEBHOOK_HMAC_SECRET holds a secret that is not base64 after whsec_"),
        ("[\"a\"", &[], "WEBHOOK_HMAC_SECRET begins with [ but is no JSON array"),
        (SECRET, &["--port", &port], "cannot listen on 127.0.0.1:"),
        (SECRET, &["--remember", "0"], "'0' is not a number above 0"),
    ];
    for (secret, arguments, sentence) in rows {
        let output = example(arguments).env("WEBHOOK_HMAC_SECRET", secret).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(sentence), "{said}");
        assert!(!said.contains("Traceback"), "{said}");
    }
    let help = example(&["--help"]).output().unwrap();
    let said = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success() && said.contains("--tolerance") && said.contains("whsec_"));
}

//! Requests that nobody would send in good faith: whatever comes, the answer is never a 5xx, an error
//! is always the JSON object of the page, nothing panics, the node goes on, and no text of a request
//! becomes part of a key in Redis.

mod generate;
mod wire;

use std::time::Duration;

use codeq::model::{Command, Partitions, QueueName, TaskId, TenantId};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use self::generate::{ROUTES, body, path, query, token};
use self::wire::{Got, Wire, request};
use crate::support::{Node, Redis};

/// Every hostile text carries it, so that it can be looked for in keys.
const MARK: &str = "RAWTEXT";

/// How long a sound request may take to be answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node under fire.
struct Target {
    redis: Redis,
    node: Node,
    wire: Wire,
}

impl Target {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let node = Node::on(&redis).await;
        let wire = Wire::to(&node.anyone().origin);
        Self { redis, node, wire }
    }

    /// Plays `cases` requests, the same ones each time.
    fn play<S: Strategy<Value = Vec<u8>>>(&self, cases: u32, requests: S, whole: bool) {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let mut runner =
            TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let played = runner.run(&requests, |bytes| {
            // What is not sound may leave the node waiting for the rest of it.
            let patience = if whole { PATIENCE } else { Duration::from_millis(300) };
            let got = self.wire.exchange(&bytes, patience);
            harmless(got, whole).map_err(TestCaseError::fail)
        });
        if let Err(failed) = played {
            match failed {
                TestError::Fail(why, bytes) => panic!("{why}\n{}", String::from_utf8_lossy(&bytes)),
                TestError::Abort(why) => panic!("{why}"),
            }
        }
    }

    /// The node goes on, nothing panicked, and no key holds what was sent.
    async fn goes_on(self) {
        self.node.anyone().get("//readyz").await.json_of(200);
        self.node.producer().created("after").await;
        for key in self.redis.keys().await {
            assert!(is_one_of_ours(&key), "a key of no known kind: {key:?}");
            assert!(!key.contains(MARK), "a request's text in a key: {key:?}");
        }
        for line in self.node.stop().await {
            assert!(!line.contains("panic"), "{line}");
        }
    }
}

/// `{codeq:<partition>}` and a suffix of `lua/lib/keys.lua`, with characters of ids and digests only.
fn is_one_of_ours(key: &str) -> bool {
    const KINDS: &str = include_str!("../../../lua/lib/keys.lua");
    if key == "{codeq:meta}" {
        return true;
    }
    let Some((partition, rest)) = key.strip_prefix("{codeq:").and_then(|rest| rest.split_once('}'))
    else {
        return false;
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_');
    let kinds = KINDS.lines().filter_map(|line| line.split('"').nth(1));
    let known = |kind: &str| match kind.ends_with(':') {
        true => rest.starts_with(kind) && rest.len() > kind.len(),
        false => rest == kind,
    };
    partition.parse::<u16>().is_ok() && rest.bytes().all(plain) && kinds.into_iter().any(known)
}

/// What any request may be answered with. `whole` requests are sound HTTP, so that an error is ours.
fn harmless(got: Option<Got>, whole: bool) -> Result<(), String> {
    let Some(got) = got else {
        return if whole { Err("no answer".to_owned()) } else { Ok(()) };
    };
    if got.status >= 500 {
        return Err(format!("{} {}", got.status, got.text()));
    }
    // A head that is too large is answered before there is a request.
    if got.status < 400 || (got.body.is_empty() && (!whole || got.status == 431)) {
        return Ok(());
    }
    let error: serde_json::Value =
        serde_json::from_slice(&got.body).map_err(|_| format!("no JSON: {}", got.text()))?;
    for field in ["error", "code", "requestId"] {
        if error[field].as_str().is_none_or(str::is_empty) {
            return Err(format!("{field} is missing: {}", got.text()));
        }
    }
    match got.header("x-request-id") == error["requestId"].as_str() {
        true => Ok(()),
        false => Err(format!("another id than in the header: {}", got.text())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn property_no_body_breaks_a_node() {
    let target = Target::start().await;
    let requests = (0..ROUTES.len(), body()).prop_map(|(route, body)| {
        let (method, path, token, _) = ROUTES[route];
        let token = format!("authorization: Bearer {token}\r\n");
        request(method, path.as_bytes(), token.as_bytes(), &body)
    });
    target.play(1500, requests, true);
    target.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn property_no_odd_value_of_a_field_breaks_a_node() {
    let target = Target::start().await;
    for (route, (method, path, token, _)) in ROUTES.iter().enumerate() {
        for body in generate::one_odd_field(route) {
            let token = format!("authorization: Bearer {token}\r\n");
            let sent = request(method, path.as_bytes(), token.as_bytes(), &body);
            let got = target.wire.exchange(&sent, PATIENCE);
            harmless(got, true)
                .unwrap_or_else(|why| panic!("{why}\n{}", String::from_utf8_lossy(&sent)));
        }
    }
    target.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn property_no_field_of_any_call_breaks_a_node() {
    let target = Target::start().await;
    let requests = (0..ROUTES.len()).prop_flat_map(|route| {
        generate::near_valid(route).prop_map(move |body| {
            let (method, path, token, _) = ROUTES[route];
            let token = format!("authorization: Bearer {token}\r\n");
            request(method, path.as_bytes(), token.as_bytes(), &body)
        })
    });
    target.play(2000, requests, true);
    target.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn property_no_path_query_or_token_breaks_a_node() {
    let target = Target::start().await;
    let method =
        prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "BREW"]);
    let requests = (method, path(), query(), token()).prop_map(|(method, path, query, token)| {
        let target = [path.as_bytes(), query.as_bytes()].concat();
        request(method, &target, &token, b"{}")
    });
    target.play(2000, requests, false);
    target.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn property_no_cursor_breaks_a_node() {
    let target = Target::start().await;
    for delay in [0, 0, 3600, 3600] {
        let task = serde_json::json!({"command": "mail", "payload": 1, "delaySeconds": delay});
        target.node.producer().created_as(task).await;
    }
    target.node.worker().claimed("mail").await;
    let admin = b"authorization: Bearer admin\r\n";
    let requests = generate::cursor().prop_map(|path| request("GET", path.as_bytes(), admin, b""));
    target.play(500, requests, true);
    target.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn property_no_headers_break_a_node() {
    let target = Target::start().await;
    let requests = generate::headers().prop_map(|headers| {
        let body = format!(r#"{{"command":"{MARK}","payload":1}}"#);
        let head = [b"authorization: Bearer producer\r\n", headers.as_slice()].concat();
        request("POST", b"/v1/codeq/tasks", &head, body.as_bytes())
    });
    target.play(800, requests, false);
    target.goes_on().await;
}

/// 200 requests that never end and 100 bodies of a gigabyte cost a bounded amount of memory.
#[tokio::test(flavor = "multi_thread")]
async fn slow_and_huge_requests_do_not_grow_a_node() {
    let target = Target::start().await;
    let resident = async || {
        let report = target.node.anyone().get("//health").await.json();
        report["checks"]["resources"]["memory_bytes"].as_u64().expect("a number of bytes")
    };
    target.node.producer().created("before").await;
    let before = resident().await;
    let slow: Vec<_> = (0..200)
        .map(|n| target.wire.begin(format!("POST /v1/codeq/tasks HTTP/1.1\r\nx-{n}: ").as_bytes()))
        .collect();
    let announced =
        b"POST /v1/codeq/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer producer\r\n\
        content-length: 1073741824\r\n\r\n{";
    let chunked = b"POST /v1/codeq/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer producer\r\n\
        transfer-encoding: chunked\r\n\r\n40000000\r\n";
    let huge: Vec<_> = (0..50)
        .flat_map(|_| {
            [
                target.wire.begin(announced),
                target.wire.begin(&[chunked, &[b' '; 200_000][..]].concat()),
            ]
        })
        .collect();
    let got =
        target.wire.exchange(announced, PATIENCE).expect("an answer before the body is there");
    assert_eq!(got.status, 413, "{}", got.text());
    let after = resident().await;
    let grown = after.saturating_sub(before) >> 20;
    assert!(grown < 64, "{grown} MiB more: {before} → {after}");
    drop((slow, huge));
    target.goes_on().await;
}

fn tenants() -> impl Strategy<Value = TenantId> {
    "[a-z][a-z0-9-]{1,62}".prop_map(|text| TenantId::parse(&text).expect("a tenant"))
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof!["[a-c]{1,2}", "\\PC{1,60}", "[{}:*?\\[\\]ÄßIİ /-]{1,20}"]
        .prop_filter_map("a command", |text: String| Command::parse(&text).ok())
}

proptest! {
    #[test]
    fn property_no_two_queues_share_a_name(a in tenants(), b in tenants(), x in commands(), y in commands()) {
        let names = [(&a, &x), (&b, &x), (&a, &y), (&b, &y)];
        for (tenant, command) in names {
            let name = QueueName::of(tenant, command);
            prop_assert_eq!(QueueName::from_text(name.as_str()), Some(name));
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')));
            for (other, with) in names {
                let same = tenant == other && command.lower() == with.lower();
                prop_assert_eq!(name == QueueName::of(other, with), same);
            }
        }
    }

    #[test]
    fn property_ids_are_read_as_they_are_written(ms in 0..1_u64 << 48, count in 1..=1024_u16, text in "\\PC{0,40}") {
        for partition in Partitions::new("codeq", count).all() {
            let id = TaskId::new(partition, ms);
            prop_assert_eq!(TaskId::parse(&id.to_string()), Some(id));
            prop_assert_eq!(TaskId::from_short(&id.short()), Some(id));
            prop_assert_eq!(id.partition(), partition);
        }
        // What is read at all is written the same.
        if let Some(id) = TaskId::parse(&text) {
            prop_assert_eq!(id.to_string(), text.clone());
        }
        if let Some(id) = TaskId::from_short(&text) {
            prop_assert_eq!(id.short(), text);
        }
    }
}

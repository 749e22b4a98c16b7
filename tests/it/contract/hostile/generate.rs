//! What to send.

use proptest::prelude::*;

use super::MARK;

/// Method, path, token, and a body that would be accepted.
type Route = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const ID: &str = "01a1fe58-fae2-7000-83f1-46ac63a0b5aa";

macro_rules! of_task {
    ($call:literal) => {
        concat!("/v1/codeq/tasks/01a1fe58-fae2-7000-83f1-46ac63a0b5aa", $call)
    };
}

/// Every call that reads a body.
pub const ROUTES: &[Route] = &[
    ("POST", "/v1/codeq/tasks", "producer", TASK),
    ("POST", "/v1/codeq/tasks/batch", "producer", &[("tasks", r#"[{"command":"a","payload":1}]"#)]),
    ("POST", "/v1/codeq/tasks/claim", "worker", CLAIM),
    ("POST", "/v1/codeq/tasks/claim/batch", "worker", CLAIM),
    ("POST", of_task!("/heartbeat"), "worker", &[("extendSeconds", "5"), ("leaseToken", "\"a\"")]),
    ("POST", of_task!("/abandon"), "worker", &[("leaseToken", "\"a\"")]),
    ("POST", of_task!("/nack"), "worker", &[("delaySeconds", "5"), ("reason", "\"r\"")]),
    ("POST", of_task!("/result"), "worker", RESULT),
    ("POST", "/v1/codeq/tasks/batch/results", "worker", &[("results", r#"[{"taskId":"a"}]"#)]),
    ("POST", "/v1/codeq/workers/subscriptions", "worker", SUBSCRIPTION),
    (
        "POST",
        "/v1/codeq/workers/subscriptions/AAAAAAAAAAAAAAAAAAAA/heartbeat",
        "worker",
        &[("ttlSeconds", "5")],
    ),
    ("POST", "/v1/codeq/admin/tasks/cleanup", "admin", &[("limit", "1"), ("before", "\"\"")]),
    ("PUT", "/v1/codeq/admin/topics/mail", "admin", POLICY),
    ("POST", "/v1/codeq/admin/queues/mail/dlq/requeue", "admin", DEAD),
    ("POST", "/v1/codeq/admin/queues/mail/dlq/purge", "admin", DEAD),
    ("POST", "/v1/codeq/admin/webhooks/recover", "admin", RECOVER),
    (
        "PUT",
        "/v1/codeq/admin/webhook-destinations/AAAAAAAAAAAAAAAA",
        "admin",
        &[("maxPerSecond", "5"), ("maxConcurrency", "2")],
    ),
    ("PUT", "/v1/codeq/admin/log-level", "operator", &[("level", "\"info\""), ("filter", "\"\"")]),
];

const TASK: &[(&str, &str)] = &[
    ("command", "\"mail\""),
    ("payload", "{}"),
    ("priority", "3"),
    ("webhook", "\"https://example.com/h\""),
    ("maxAttempts", "3"),
    ("idempotencyKey", "\"k\""),
    ("runAt", "\"2026-01-01T00:00:00Z\""),
    ("delaySeconds", "0"),
];
const CLAIM: &[(&str, &str)] =
    &[("commands", r#"["mail"]"#), ("leaseSeconds", "5"), ("waitSeconds", "0"), ("count", "1")];
const RESULT: &[(&str, &str)] = &[
    ("status", "\"COMPLETED\""),
    ("result", "{}"),
    ("error", "\"e\""),
    ("artifacts", r#"[{"name":"a","url":"b"}]"#),
    ("leaseToken", "\"a\""),
];
const SUBSCRIPTION: &[(&str, &str)] = &[
    ("callbackUrl", "\"http://127.0.0.1:9/ready\""),
    ("eventTypes", r#"["mail"]"#),
    ("ttlSeconds", "5"),
    ("deliveryMode", "\"group\""),
    ("groupId", "\"g\""),
    ("minIntervalSeconds", "5"),
];
const RECOVER: &[(&str, &str)] = &[
    ("since", "\"2026-01-01T00:00:00Z\""),
    ("until", "\"2027-01-01T00:00:00Z\""),
    ("destination", "\"AAAAAAAAAAAAAAAA\""),
    ("command", "\"mail\""),
    ("reason", "\"gone\""),
    ("limit", "1"),
    ("ratePerSecond", "50"),
    ("dryRun", "true"),
];
const POLICY: &[(&str, &str)] = &[
    ("priorityTiers", "[1]"),
    ("maxAttempts", "3"),
    ("deadLetterTopicRef", "\"other\""),
    ("retentionSeconds", "60"),
    ("maxConsumers", "1"),
];
const DEAD: &[(&str, &str)] =
    &[("ids", r#"["01a1fe58-fae2-7000-83f1-46ac63a0b5aa"]"#), ("limit", "1")];

/// Text that has hurt somebody's keys, scripts or parsers.
fn nasty() -> impl Strategy<Value = String> {
    let known = [
        "",
        " ",
        "*",
        "..",
        "../../etc/passwd",
        "{codeq:3}:b:x",
        "}{",
        "{",
        "}",
        "\0",
        "\n",
        "\r\nDEL x",
        "[a-z]*?",
        "%00",
        "%s%n",
        "'; return 1 --",
        "\u{feff}",
        "\u{202e}",
        "İIıß",
        "\u{10ffff}",
        ID,
        "01A1FE58-FAE2-7000-83F1-46AC63A0B5AA",
        "01a1fe58-fae2-7fff-83f1-46ac63a0b5aa",
        "eyJzaGFyZCI6NjU1MzUsInNjb3JlIjoieCIsImFmdGVyIjoiIn0",
        "eyJzaGFyZCI6MCwic2NvcmUiOiJuYW4iLCJhZnRlciI6InsifQ",
        "9999-12-31T23:59:59Z",
        "-9999-01-01T00:00:00Z",
        "http://[::1",
        "http://a:99999/",
        "file:///x",
    ];
    let known = prop::sample::select(known.to_vec()).prop_map(|text| format!("{text}{MARK}"));
    let bare = prop::sample::select(vec!["", "*", "dlq", "ready", ID]).prop_map(str::to_owned);
    let long = (1_usize..4).prop_map(|n| format!("{MARK}{}", "ä{".repeat(n * 4000)));
    prop_oneof![6 => known, 1 => bare, 3 => "\\PC{0,24}", 2 => any::<String>(), 1 => long]
}

/// JSON text, some of it broken, that a field may not expect.
pub const ODD: &[&str] = &[
    "null",
    "true",
    "1.5",
    "1e999",
    "-1e999",
    "-0",
    "1.0",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551616",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "{\"a\":1,\"a\":2}",
    r#""\u0000""#,
    r#""\ud800""#,
    r#""\udc00\ud800""#,
    "\"",
    "nul",
    "01",
    "+1",
    "0x1",
    "'a'",
    "[1,]",
    "{,}",
    "\u{feff}1",
    "\"\x01\"",
];

/// JSON text for a field: of any type, of any size, or none.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => prop::sample::select(ODD.to_vec()).prop_map(str::to_owned),
        5 => nasty().prop_map(|text| serde_json::to_string(&text).expect("text")),
        2 => nasty().prop_map(|text| serde_json::json!([text.clone(), text]).to_string()),
        2 => nasty().prop_map(|text| serde_json::json!({text: 1}).to_string()),
        2 => any::<i64>().prop_map(|n| n.to_string()),
        1 => (100_usize..2000).prop_map(|n| "[".repeat(n) + &"]".repeat(n)),
        1 => (100_usize..2000).prop_map(|n| "{\"a\":".repeat(n) + "1" + &"}".repeat(n)),
    ]
}

/// Bodies of this route with one field replaced by each odd value, one after the other, or left out.
pub fn one_odd_field(route: usize) -> impl Iterator<Item = Vec<u8>> {
    let fields = super::ROUTES[route].3;
    let odd = ODD.iter().map(|value| Some(*value)).chain([None]);
    odd.flat_map(move |value| {
        (0..fields.len()).map(move |at| {
            let now = fields.iter().enumerate().filter_map(|(n, (name, usual))| {
                let value = if n == at { value? } else { usual };
                // Nobody wants to wait here.
                let waits = *name == "waitSeconds" && value.parse().is_ok_and(|n: i64| n > 0);
                Some(format!("\"{name}\":{}", if waits { "-1" } else { value }))
            });
            format!("{{{}}}", now.collect::<Vec<_>>().join(",")).into_bytes()
        })
    })
}

/// A body of this route with some fields replaced, doubled or left out.
pub fn near_valid(route: usize) -> impl Strategy<Value = Vec<u8>> {
    let fields = super::ROUTES[route].3;
    let changes = prop::collection::vec((0..fields.len(), 0..3_u8, value()), 0..3);
    (changes, 0..12_u8).prop_map(move |(changes, whole)| {
        let mut now: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for (at, how, value) in changes {
            // Nobody wants to wait here.
            let waits = fields[at].0 == "waitSeconds" && value.parse().is_ok_and(|n: i64| n > 0);
            let value = if waits { "-1".to_owned() } else { value };
            match how {
                0 => now[at].1 = value,
                1 => now.push((fields[at].0.to_owned(), value)),
                _ => now[at].0 = MARK.to_owned(),
            }
        }
        let fields: Vec<_> =
            now.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let object = format!("{{{}}}", fields.join(","));
        // A batch of the same, too.
        match whole {
            0 => format!("[{object},{object}]"),
            1 => format!("{{\"tasks\":[{object}],\"results\":[{object}]}}"),
            2 => return object.as_bytes()[..object.len() / 2].to_vec(),
            _ => object,
        }
        .into_bytes()
    })
}

/// A body that owes nothing to any route.
pub fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..256),
        4 => value().prop_map(String::into_bytes),
        4 => "[\\[\\]{}\",:a1e.\\\\u \\-]{0,64}".prop_map(String::into_bytes),
        1 => (1_usize..3).prop_map(|n| vec![b'['; n * 600_000]),
    ]
}

/// Percent-encoded as a client would, or raw as none would.
fn encoded(text: &str, raw: bool) -> String {
    if raw {
        let visible = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#');
        return text.bytes().filter(|b| visible(*b)).map(char::from).collect();
    }
    text.bytes().map(|b| format!("%{b:02x}")).collect()
}

/// A path near one of ours.
pub fn path() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "/v1/codeq/tasks/@",
        "/v1/codeq/tasks/@/result",
        "/v1/codeq/tasks/@/timeline",
        "/v1/codeq/tasks/@/cancel",
        "/v1/codeq/tasks/@/heartbeat",
        "/v1/codeq/admin/queues/@",
        "/v1/codeq/admin/queues/@/tasks",
        "/v1/codeq/admin/queues/@/pause",
        "/v1/codeq/admin/queues/@/dlq/requeue",
        "/v1/codeq/admin/topics/@",
        "/v1/codeq/admin/tasks/@",
        "/v1/codeq/tasks/@/webhook",
        "/v1/codeq/admin/webhooks/@",
        "/v1/codeq/admin/webhooks/@/replay",
        "/v1/codeq/admin/webhooks/recoveries/@",
        "/v1/codeq/@",
        "/@",
        "/v1/codeq/tasks/@/../admin/queues",
        "/v1/codeq/admin/queues",
        "/metrics",
        "/health",
        "/openapi.json",
    ]);
    let broken = prop::sample::select(vec![
        "%",
        "%2",
        "%zz",
        "%ff%fe",
        "%c0%af",
        "%ed%a0%80",
        "{id}",
        "{*}",
    ]);
    let part = prop_oneof![
        6 => (nasty(), any::<bool>()).prop_map(|(text, raw)| encoded(&text, raw)),
        2 => broken.prop_map(str::to_owned),
    ];
    (known, part).prop_map(|(known, part)| known.replace('@', &part))
}

/// A query string, or none.
pub fn query() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "tenant",
        "waitSeconds",
        "limit",
        "cursor",
        "state",
        "deletionPolicy",
        "x",
        "",
    ]);
    let value = prop_oneof![
        (nasty(), any::<bool>()).prop_map(|(text, raw)| encoded(&text, raw)),
        prop::sample::select(vec![
            "0",
            "-1",
            "1.5",
            "1e9",
            "99999999999999999999",
            "ready",
            "dlq",
            "Delete",
            "*"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec((name, value), 0..4).prop_map(|pairs| {
        // Nobody wants to wait here.
        let pairs =
            pairs.into_iter().filter(|(name, value)| *name != "waitSeconds" || value.len() != 2);
        let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    })
}

/// A cursor that looks like one of ours, for a list in some state.
pub fn cursor() -> impl Strategy<Value = String> {
    use base64::Engine as _;
    let shard =
        prop::sample::select(vec!["0", "1", "65535", "65536", "-1", "1e9", "null", "\"0\""]);
    let score = prop::sample::select(vec![
        "-inf", "+inf", "inf", "nan", "(1", "[1", "1", "-1e999", "0x10", "", " ", "1\\r\\n", "1 2",
    ])
    .prop_map(str::to_owned);
    let score =
        prop_oneof![3 => score, 1 => nasty().prop_map(|text| text.escape_debug().to_string())];
    let after = nasty().prop_map(|text| serde_json::to_string(&text).expect("text"));
    let state = prop::sample::select(vec!["ready", "delayed", "in_progress", "dlq"]);
    (shard, score, after, state).prop_map(|(shard, score, after, state)| {
        let json = format!(r#"{{"shard":{shard},"score":"{score}","after":{after}}}"#);
        let cursor = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
        format!("/v1/codeq/admin/queues/mail/tasks?state={state}&limit=5&cursor={cursor}")
    })
}

/// An `Authorization` header, or several, or none.
pub fn token() -> impl Strategy<Value = Vec<u8>> {
    const JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwidGlkIjoiYWNtZSJ9.";
    let known = prop::sample::select(vec!["producer", "worker", "admin", "operator", "no-tenant"])
        .prop_map(|token| format!("Bearer {token}").into_bytes());
    let shapes = prop::sample::select(vec![
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "bearer  producer",
        "Bearer producer x",
        "Bearer ..",
        "Bearer a.b.c",
        "Bearer ....",
        "Bearer eyJhbGciOiJIUzI1NiJ9.e30.",
        "Bearer eyJ.eyJ.eyJ",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    let tampered = (0..JWT.len(), any::<u8>()).prop_map(|(at, byte)| {
        let mut token = format!("Bearer {JWT}").into_bytes();
        token[7 + at] = byte;
        token
    });
    let bytes = prop::collection::vec(any::<u8>(), 0..64);
    let long =
        (1_usize..3).prop_map(|n| format!("Bearer {}", "a.".repeat(n * 10_000)).into_bytes());
    let value = prop_oneof![8 => known, 3 => shapes, 3 => tampered, 3 => bytes, 1 => long];
    prop::collection::vec(value, 1..3).prop_map(|values| {
        let mut values = values;
        // Mostly one, so that what lies behind it is reached.
        if values[0].len() % 4 != 0 {
            values.truncate(1);
        }
        let lines = values.into_iter().map(|value| {
            let value: Vec<_> = value.into_iter().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
            [b"authorization: ".as_slice(), &value, b"\r\n"].concat()
        });
        lines.collect::<Vec<_>>().concat()
    })
}

/// Lines of headers: many, long, not ASCII, repeated, and those that we read.
pub fn headers() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "idempotency-key",
        "x-codeq-lease-token",
        "x-request-id",
        "traceparent",
        "tracestate",
        "baggage",
        "content-type",
        "content-length",
        "transfer-encoding",
        "expect",
        "upgrade",
        "x-a",
        "cookie",
        "connection",
        "te",
        ":path",
        "x b",
    ]);
    let value = prop_oneof![
        4 => nasty().prop_map(String::into_bytes),
        3 => prop::collection::vec(any::<u8>(), 0..64),
        2 => prop::sample::select(vec![
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-0-0-00", "100-continue",
            "chunked", "h2c", "0", "-1", "99999999999999999999", "websocket", "a=b;c=%",
        ]).prop_map(|text| text.as_bytes().to_vec()),
    ];
    let lines = prop::collection::vec((name, value), 0..6);
    (lines, prop_oneof![9 => Just(0_usize), 1 => 1_usize..400]).prop_map(|(lines, more)| {
        let mut head = Vec::new();
        for (name, value) in lines {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend(value.into_iter().filter(|b| !matches!(b, b'\r' | b'\n')));
            head.extend_from_slice(b"\r\n");
        }
        for n in 0..more {
            head.extend_from_slice(format!("x-{n}: {n}\r\n").as_bytes());
        }
        head
    })
}

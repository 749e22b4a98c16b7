//! Signatures of real deliveries, verified by others: Standard Webhooks' own libraries in three
//! languages (`tests/verify`), and openssl.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::receiver::Request;
use crate::support::{Node, Receiver, Redis};

const SECRET: &str = "an operator's plain secret, 1 of 2";
const NEXT: &str = "an operator's plain secret, 2 of 2";

/// A delivery, a key in the form that libraries take, and whether the two belong together.
struct Case {
    about: String,
    request: Request,
    key: String,
    holds: bool,
}

/// The same for `X-CodeQ-Signature`, with the bytes of the key.
struct CodeqCase {
    about: String,
    request: Request,
    key: Vec<u8>,
    holds: bool,
}

/// Both lists, as they are put together.
#[derive(Default)]
struct Cases {
    standard: Vec<Case>,
    codeq: Vec<CodeqCase>,
}

#[tokio::test]
async fn other_implementations_verify_what_is_sent() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let mut cases = Cases::default();
    let whsec = format!("whsec_{}", STANDARD.encode("thirty-two bytes of a key, random"));
    shared(&redis, &receiver, SECRET, &[SECRET], &mut cases).await;
    shared(&redis, &receiver, &whsec, &[&whsec], &mut cases).await;
    let both = json!([NEXT, whsec]).to_string();
    shared(&redis, &receiver, &both, &[NEXT, &whsec], &mut cases).await;
    tenants(&redis, &receiver, &mut cases).await;

    let wrong = Case {
        about: "a changed body".to_owned(),
        request: Request { body: "{}".into(), ..cases.standard[0].request.clone() },
        key: cases.standard[0].key.clone(),
        holds: false,
    };
    cases.standard.push(wrong);
    for library in ["npm", "pypi", "go"] {
        let verdicts = verdicts_of(library, &cases.standard);
        assert_eq!(verdicts.len(), cases.standard.len(), "{library}");
        for (case, verdict) in cases.standard.iter().zip(verdicts) {
            assert_eq!(verdict, case.holds, "{library} about {}", case.about);
        }
    }
    for CodeqCase { about, request, key, holds } in cases.codeq {
        let given = request.header("x-codeq-signature").unwrap();
        assert_eq!(openssl(&request, &key) == given, holds, "openssl about {about}");
    }
}

/// One key for all tenants: every secret verifies `webhook-signature`, the first the other one.
async fn shared(
    redis: &Redis,
    receiver: &Receiver,
    setting: &str,
    secrets: &[&str],
    cases: &mut Cases,
) {
    let node = Node::with(redis, &signing(setting)).await;
    let request = delivered(&node, receiver, "").await;
    let keys: Vec<_> = secrets.iter().map(|secret| shown(&key_of(secret))).collect();
    let told = node.operator().webhook_secret().await.json_of(200);
    assert_eq!(told["keys"], json!(keys));
    // Whoever is no operator learns nothing that signs for others.
    assert_eq!(node.admin().webhook_secret().await.refusal(), "403 missing_scope missing scope");
    for (n, (key, secret)) in keys.into_iter().zip(secrets).enumerate() {
        let about = format!("secret {n} of {}", secrets.len());
        let (request, codeq) = (request.clone(), request.clone());
        cases.standard.push(Case { about: about.clone(), request, key, holds: true });
        let key = secret.as_bytes().to_vec();
        cases.codeq.push(CodeqCase { about, request: codeq, key, holds: n == 0 });
    }
    node.stop().await;
}

/// A key for each tenant, which verifies both signatures, and those of no other tenant.
async fn tenants(redis: &Redis, receiver: &Receiver, cases: &mut Cases) {
    let mut settings = signing(SECRET);
    settings.push(("WEBHOOK_SECRET_SCOPE", "tenant"));
    let node = Node::with(redis, &settings).await;
    let mut sent = Vec::new();
    for (tenant, prefix) in [("acme", ""), ("globex", "globex-")] {
        let request = delivered(&node, receiver, prefix).await;
        let key = derived(&key_of(SECRET), tenant);
        let told = node.token(&format!("{prefix}admin")).webhook_secret().await.json_of(200);
        assert_eq!(told["keys"], json!([shown(&key)]));
        sent.push((tenant, request, shown(&key)));
    }
    for (sender, request, _) in &sent {
        for (owner, _, key) in &sent {
            let about = format!("a delivery of {sender} and the key of {owner}");
            let bytes = STANDARD.decode(key.strip_prefix("whsec_").unwrap()).unwrap();
            let holds = sender == owner;
            let (request, key) = (request.clone(), key.clone());
            let codeq = request.clone();
            cases.codeq.push(CodeqCase { about: about.clone(), request: codeq, key: bytes, holds });
            cases.standard.push(Case { about, request, key, holds });
        }
        let (about, key) = (format!("a delivery of {sender} and the secret"), SECRET.as_bytes());
        let request = request.clone();
        cases.codeq.push(CodeqCase { about, request, key: key.to_vec(), holds: false });
    }
    node.stop().await;
}

/// What Standard Webhooks signs with.
fn key_of(secret: &str) -> Vec<u8> {
    match secret.strip_prefix("whsec_") {
        Some(rest) => STANDARD.decode(rest).unwrap(),
        None => secret.as_bytes().to_vec(),
    }
}

/// In the form that every library takes.
fn shown(key: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(key))
}

/// A tenant's key: HKDF-SHA256 by another hand than the broker's.
fn derived(key: &[u8], tenant: &str) -> Vec<u8> {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
    let info = format!("codeq-webhook-v1\0{tenant}");
    let mut out = vec![0; 32];
    let (pseudorandom, info) = (salt.extract(key), [info.as_bytes()]);
    let expanded = pseudorandom.expand(&info, hkdf::HKDF_SHA256).unwrap();
    expanded.fill(&mut out).unwrap();
    out
}

fn signing(secret: &str) -> Vec<(&'static str, &str)> {
    vec![("WEBHOOK_HMAC_SECRET", secret), ("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "true")]
}

/// What arrives when a task of this tenant ends.
async fn delivered(node: &Node, receiver: &Receiver, tenant: &str) -> Request {
    let before = receiver.count();
    let (producer, worker) = (format!("{tenant}producer"), format!("{tenant}worker"));
    let id = node.token(&producer).created_with_webhook("mail", &receiver.url()).await;
    let worker = node.token(&worker);
    worker.claimed("mail").await;
    let result =
        json!({"status": "COMPLETED", "result": {"text": "grüße \u{1f41f} \"quoted\" \\"}});
    worker.submit(&id, result).await.json_of(200);
    let requests = receiver.until_count(before + 1).await;
    assert_eq!(requests[before].task_id(), id);
    requests[before].clone()
}

/// What a library says about each case.
fn verdicts_of(library: &str, cases: &[Case]) -> Vec<bool> {
    let cases = cases.iter().map(|Case { request, key, .. }| {
        let headers = request.headers();
        let headers: BTreeMap<_, _> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        json!({"key": key, "headers": headers, "body": STANDARD.encode(&request.body)})
    });
    let asked = json!(cases.collect::<Vec<_>>()).to_string();
    let said = ran(&format!("standardwebhooks-{library}"), &[], asked.as_bytes());
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{library}: {error}: {said}"))
}

/// The signature that openssl makes.
fn openssl(request: &Request, key: &[u8]) -> String {
    let timestamp = request.header("x-codeq-timestamp").unwrap();
    let signed = [timestamp.as_bytes(), b".", &request.body].concat();
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("hexkey:{key}");
    let said = ran("openssl", &["dgst", "-sha256", "-mac", "HMAC", "-macopt", &key], &signed);
    said.trim().rsplit(' ').next().unwrap().to_owned()
}

/// Runs a tool; what it wrote. A tool that is missing is a failure: an unverified signature is no
/// verified one.
fn ran(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let tools = std::env::var_os("CODEQ_TOOLS")
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools").into());
    let mut path = OsString::from(Path::new(&tools).join("bin"));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let spawned = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = spawned.unwrap_or_else(|error| {
        panic!("{program}: {error}: `scripts/tools.sh openssl standardwebhooks` installs it")
    });
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The verifiers themselves, with signatures made by hand.
#[test]
fn the_verifiers_tell_right_from_wrong() {
    let key = format!("whsec_{}", STANDARD.encode(SECRET));
    let keys = crate::support::Keys::of(SECRET);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let signed = |id: &str, time: u64| Request::by_hand(&keys.sign(id, time, "{}"), "{}");
    let case = |request: Request, key: &str, holds: bool| Case {
        about: String::from_utf8_lossy(&request.head).into_owned(),
        request,
        key: key.to_owned(),
        holds,
    };
    let other = format!("whsec_{}", STANDARD.encode(NEXT));
    let cases = [
        case(signed("a_1", now), &key, true),
        case(signed("a_1", now), &other, false),
        case(signed("a_1", now - 400), &key, false),
        case(Request { body: "{ }".into(), ..signed("a_1", now) }, &key, false),
    ];
    for library in ["npm", "pypi", "go"] {
        let verdicts = verdicts_of(library, &cases);
        assert_eq!(verdicts, cases.iter().map(|case| case.holds).collect::<Vec<_>>(), "{library}");
    }
    let request = signed("a_1", now);
    let given = request.header("x-codeq-signature").unwrap();
    assert_eq!(openssl(&request, SECRET.as_bytes()), given);
    assert_ne!(openssl(&request, NEXT.as_bytes()), given);
}

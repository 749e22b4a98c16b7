//! Who calls: the static tokens that every node of a test knows.

use serde_json::{Value, json};

/// Every scope that a worker call asks for.
pub const WORKER_SCOPES: [&str; 6] = [
    "codeq:claim",
    "codeq:heartbeat",
    "codeq:abandon",
    "codeq:nack",
    "codeq:result",
    "codeq:subscribe",
];

/// A token with its tenant in `tid`.
pub fn token(token: &str, tenant: &str, scopes: &[&str], event_types: &[&str]) -> Value {
    json!({
        "token": token,
        "subject": token,
        "scopes": scopes,
        "eventTypes": event_types,
        "raw": {"tid": tenant},
    })
}

/// Who produces: a token is its own subject.
pub fn producers() -> Value {
    let mut by_role = token("admin-by-role", "acme", &[], &[]);
    by_role["raw"]["role"] = json!("admin");
    let mut refreshed = token("producer-refreshed", "acme", &[], &[]);
    refreshed["subject"] = json!("producer");
    json!([
        token("producer", "acme", &[], &[]),
        refreshed,
        token("producer-2", "acme", &[], &[]),
        token("admin", "acme", &["codeq:admin"], &[]),
        by_role,
        token("operator", "acme", &["codeq:admin", "codeq:operator"], &[]),
        token("globex-producer", "globex", &[], &[]),
        token("globex-admin", "globex", &["codeq:admin"], &[]),
        token("no-tenant", "Not A Tenant", &[], &[]),
        token("no-tenant-admin", "Not A Tenant", &["codeq:admin"], &[]),
    ])
}

/// Who works: a token is its own subject.
pub fn workers() -> Value {
    let all = |name: &str, tenant: &str| token(name, tenant, &WORKER_SCOPES, &["*"]);
    let mut shared = all("worker-same-subject", "acme");
    shared["subject"] = json!("worker");
    json!([
        all("worker", "acme"),
        all("worker-2", "acme"),
        shared,
        token("mail-worker", "acme", &WORKER_SCOPES, &["mail"]),
        token("claim-only", "acme", &["codeq:claim"], &["*"]),
        token("scope-of-nothing", "acme", &["codeq:subscribe"], &["*"]),
        token("worker-without-scopes", "acme", &[], &["*"]),
        token("worker-without-events", "acme", &WORKER_SCOPES, &[]),
        all("no-tenant-worker", "Not A Tenant"),
        all("globex-worker", "globex"),
    ])
}

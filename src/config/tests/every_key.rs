//! Every key, one by one.

use std::fmt::Write as _;

use super::*;

/// For every key: text that differs from the default, and how the key appears with it in `show`
/// where that is not the text itself.
pub(super) const VALUES: &[(&str, &str, &str)] = &[
    ("port", "9000", ""),
    ("bindAddr", "127.0.0.1", "bindAddr: \"127.0.0.1\""),
    ("env", "staging", "env: \"staging\""),
    ("redis.url", "rediss://u:pw@r:1/2", "url: \"rediss://u:***@r:1/2\""),
    ("redis.keyPrefix", "other", "keyPrefix: \"other\""),
    ("redis.durability", "synced", "durability: \"synced\""),
    ("redis.poolSize", "3", ""),
    ("redis.connectTimeoutMs", "77", ""),
    ("redis.commandTimeoutMs", "78", ""),
    ("redis.softMemoryRatio", "0.5", ""),
    ("redisAddr", "elsewhere:7000", "url: \"redis://elsewhere:7000\""),
    ("redisPassword", "pw/1", "url: \"redis://:***@localhost:6379\""),
    ("partitions", "32", ""),
    ("spread", "", "spread: {\"send.mail\":4}"),
    ("producerAuthProvider", "jwks", "producerAuthProvider: \"jwks\""),
    ("producerAuthConfig", "{\"jwksUrl\":\"https://i/p\"}", "\"jwksUrl\":\"https://i/p\""),
    ("identityJwksUrl", "https://i/flat", "\"jwksUrl\":\"https://i/flat\""),
    ("identityIssuer", "me", "\"issuer\":\"me\""),
    ("identityAudience", "us", "\"audience\":\"us\""),
    ("workerAuthProvider", "jwks", "workerAuthProvider: \"jwks\""),
    ("workerAuthConfig", "{\"jwksUrl\":\"https://i/w\"}", "\"jwksUrl\":\"https://i/w\""),
    ("workerJwksUrl", "https://i/wflat", "\"jwksUrl\":\"https://i/wflat\""),
    ("workerIssuer", "they", "\"issuer\":\"they\""),
    ("workerAudience", "them", "\"audience\":\"them\""),
    ("allowedClockSkewSeconds", "7", "\"clockSkewSeconds\":7"),
    ("allowProducerAsWorker", "true", ""),
    ("defaultLeaseSeconds", "30", ""),
    ("maxAttemptsDefault", "9", ""),
    ("backoffPolicy", "linear", "backoffPolicy: \"linear\""),
    ("backoffBaseSeconds", "6", ""),
    ("backoffMaxSeconds", "901", ""),
    ("taskRetentionSeconds", "60", ""),
    ("dlqRetentionSeconds", "61", ""),
    ("maxBodyBytes", "2048", ""),
    ("maxClaimBatch", "100", ""),
    ("webhookHmacSecret", "0123456789abcdef0123456789abcdef", "webhookHmacSecret: \"***\""),
    ("resultWebhookMaxAttempts", "4", ""),
    ("resultWebhookBaseBackoffSeconds", "3", ""),
    ("resultWebhookMaxBackoffSeconds", "61", ""),
    ("webhook.timeoutMs", "15001", ""),
    ("webhook.connectTimeoutMs", "5001", ""),
    ("webhook.maxConcurrency", "257", ""),
    ("webhook.maxConcurrencyPerHost", "17", ""),
    ("webhook.retryTailSeconds", "1,2", "retryTailSeconds: [1,2]"),
    ("webhook.maxAgeSeconds", "259201", ""),
    ("webhook.deadRetentionSeconds", "604801", ""),
    ("webhook.deadBodyBytes", "0", ""),
    ("webhook.disableAfterSeconds", "0", ""),
    ("webhook.maxBodyBytes", "262145", ""),
    ("webhook.maxSubscriptions", "1001", ""),
    ("webhook.secretScope", "tenant", "secretScope: \"tenant\""),
    ("webhook.opsUrl", "https://ops.example.com:1/x", "opsUrl: \"https://ops.example.com:1/***\""),
    ("webhook.extraCaFile", "/dev/null", "extraCaFile: \"/dev/null\""),
    ("webhook.proxyUrl", "socks5://p:1", "proxyUrl: \"socks5://p:1/***\""),
    ("webhook.allowPrivateNetworks", "false", ""),
    ("webhook.allowCidrs", "10.1.0.0/16, fd00::/8", "allowCidrs: [\"10.1.0.0/16\",\"fd00::/8\"]"),
    ("webhook.denyCidrs", "8.8.8.8", "denyCidrs: [\"8.8.8.8/32\"]"),
    ("webhook.allowedPorts", "443,8443", "allowedPorts: [443,8443]"),
    ("subscriptionMinIntervalSeconds", "6", ""),
    ("subscriptionCleanupIntervalSeconds", "61", ""),
    ("rateLimit.producer.requestsPerMinute", "601", ""),
    ("rateLimit.producer.burstSize", "41", ""),
    ("rateLimit.worker.requestsPerMinute", "602", ""),
    ("rateLimit.worker.burstSize", "42", ""),
    ("rateLimit.webhook.requestsPerMinute", "603", ""),
    ("rateLimit.webhook.burstSize", "43", ""),
    ("rateLimit.admin.requestsPerMinute", "604", ""),
    ("rateLimit.admin.burstSize", "44", ""),
    ("artifactStore", "s3://bucket/a", "artifactStore: \"s3://bucket/a\""),
    ("localArtifactsDir", "/var/lib/codeq", "artifactStore: \"file:///var/lib/codeq\""),
    ("logLevel", "debug", "logLevel: \"debug\""),
    ("logFormat", "text", "logFormat: \"text\""),
    ("logTaskSampleRatio", "0.25", ""),
    ("metrics.maxCommands", "50", ""),
    ("metrics.commands", "a,b", "commands: [\"a\",\"b\"]"),
    ("metrics.tenants", "acme", "tenants: [\"acme\"]"),
    ("metrics.priorityCommands", "b", "priorityCommands: [\"b\"]"),
    ("tracingEnabled", "true", ""),
    ("tracingServiceName", "broker", "tracingServiceName: \"broker\""),
    ("tracingOtlpEndpoint", "otel:1", "tracingOtlpEndpoint: \"otel:1\""),
    ("tracingOtlpInsecure", "true", ""),
    ("tracingSampleRatio", "0.75", ""),
    ("tracing.storeSpans", "true", ""),
    ("tracing.baggage", "false", ""),
    ("shutdown.delaySeconds", "8", ""),
    ("shutdown.drainSeconds", "26", ""),
];

/// What else a key needs before it says something.
pub(super) fn beside(key: &str) -> &'static [(&'static str, &'static str)] {
    const PRODUCER: &[(&str, &str)] = &[("IDENTITY_JWKS_URL", "https://i/p")];
    const WORKER: &[(&str, &str)] = &[("WORKER_JWKS_URL", "https://i/w")];
    match key {
        "producerAuthProvider"
        | "identityIssuer"
        | "identityAudience"
        | "allowedClockSkewSeconds" => PRODUCER,
        "workerAuthProvider" | "workerIssuer" | "workerAudience" => WORKER,
        "producerAuthConfig" => &[("PRODUCER_AUTH_PROVIDER", "jwks")],
        "workerAuthConfig" => &[("WORKER_AUTH_PROVIDER", "jwks")],
        "rateLimit.producer.burstSize" => &[("RATE_LIMIT_PRODUCER_REQUESTS_PER_MINUTE", "9")],
        "rateLimit.worker.burstSize" => &[("RATE_LIMIT_WORKER_REQUESTS_PER_MINUTE", "9")],
        "rateLimit.webhook.burstSize" => &[("RATE_LIMIT_WEBHOOK_REQUESTS_PER_MINUTE", "9")],
        "rateLimit.admin.burstSize" => &[("RATE_LIMIT_ADMIN_REQUESTS_PER_MINUTE", "9")],
        _ => &[],
    }
}

/// A key with a value as YAML: numbers and flags bare, lists as lists, the rest in quotes.
fn yaml_of(key: &str, text: &str) -> String {
    let mut yaml = String::new();
    let parts: Vec<&str> = key.split('.').collect();
    for (depth, part) in parts.iter().enumerate() {
        let end = if depth + 1 < parts.len() { "\n" } else { " " };
        write!(yaml, "{:indent$}{part}:{end}", "", indent = depth * 2).unwrap();
    }
    let bare = text.parse::<f64>().is_ok() || text == "true" || text == "false";
    match text.starts_with('{') || bare {
        true => write!(yaml, "{text}"),
        false if text.contains(',') => write!(yaml, "[{text}]"),
        false => write!(yaml, "'{text}'"),
    }
    .unwrap();
    yaml
}

pub(super) fn shown(key: &str, text: &str, as_text: &str) -> String {
    match as_text {
        "" => format!("{}: {text}\n", key.rsplit('.').next().unwrap()),
        as_text => as_text.to_owned(),
    }
}

#[test]
fn the_commented_defaults_load_and_every_key_of_them_is_found() {
    Settings::defaults();
    let tree = ::config::Source::collect(&::config::File::from_str(
        super::keys::DEFAULTS,
        ::config::FileFormat::Yaml,
    ))
    .unwrap();
    let mut parsed = Vec::new();
    leaves("", &::config::Value::new(None, ::config::ValueKind::Table(tree)), &mut parsed);
    parsed.sort();
    let mut scanned: Vec<String> = KEYS.iter().map(|key| key.name.clone()).collect();
    scanned.sort();
    assert_eq!(scanned, parsed);
    let mut tested: Vec<String> = VALUES.iter().map(|(key, ..)| (*key).to_owned()).collect();
    tested.sort();
    assert_eq!(tested, scanned, "a key without a row in VALUES");
}

fn leaves(head: &str, value: &::config::Value, found: &mut Vec<String>) {
    match &value.kind {
        ::config::ValueKind::Table(table) if !table.is_empty() => {
            for (part, value) in table {
                let name = if head.is_empty() { part.clone() } else { format!("{head}.{part}") };
                leaves(&name, value, found);
            }
        }
        _ => found.push(head.to_owned()),
    }
}

#[test]
fn every_key_is_read_from_its_variable() {
    for (key, text, as_text) in VALUES.iter().filter(|(key, ..)| *key != "spread") {
        let name = KEYS.iter().find(|k| k.name == *key).unwrap().env.clone().unwrap();
        let mut env = beside(key).to_vec();
        let expected = shown(key, text, as_text);
        let before = load_env(&env).map(|settings| show(&settings)).unwrap_or_default();
        env.push((&name, text));
        let after = show(&load_env(&env).unwrap_or_else(|problems| panic!("{key}: {problems}")));
        assert!(after.contains(&expected), "{name}={text}: no {expected} in\n{after}");
        assert!(before != after || key.ends_with("Provider"), "{name} changes nothing");
    }
}

#[test]
fn every_key_is_read_from_yaml() {
    for (key, text, as_text) in VALUES {
        let yaml = match *key {
            "spread" => "spread: { Send.Mail: 4 }".to_owned(),
            key => yaml_of(key, text),
        };
        let settings = load_from(&yaml, beside(key));
        let after = show(&settings.unwrap_or_else(|problems| panic!("{yaml}: {problems}")));
        let expected = shown(key, text, as_text);
        assert!(after.contains(&expected), "{yaml}: no {expected} in\n{after}");
    }
}

#[test]
fn every_rule_refuses_and_names_its_key() {
    let table: &[(&str, &[&str])] = &[
        ("port", &["65536", "-1", "x", "80.5", ""]),
        ("bindAddr", &["localhost", "1.2.3.4:80"]),
        ("redis.url", &["localhost:6379", "http://h", "redis://", "redis://h:0", "redis://h/x"]),
        ("redis.keyPrefix", &["a b", "{x}", "a:b"]),
        ("redis.durability", &["fast"]),
        ("redis.poolSize", &["0", "1025"]),
        ("redis.connectTimeoutMs", &["0", "60001"]),
        ("redis.commandTimeoutMs", &["0", "60001"]),
        ("redis.softMemoryRatio", &["0", "1.1", "NaN", "inf"]),
        ("redisAddr", &["http://h:1", ":6379", "u:p@h:1"]),
        ("partitions", &["0", "1025"]),
        ("producerAuthProvider", &["ldap"]),
        ("workerAuthProvider", &["ldap"]),
        ("producerAuthConfig", &["tok"]),
        ("workerAuthConfig", &["tok"]),
        ("identityJwksUrl", &["id.example.com", "ftp://h/x", "https://u:p@h/"]),
        ("workerJwksUrl", &["id.example.com"]),
        ("allowedClockSkewSeconds", &["-1", "3601"]),
        ("allowProducerAsWorker", &["maybe"]),
        ("defaultLeaseSeconds", &["0", "43201"]),
        ("maxAttemptsDefault", &["0", "1001"]),
        ("backoffPolicy", &["random"]),
        ("backoffBaseSeconds", &["-1", "86401"]),
        ("backoffMaxSeconds", &["4", "604801"]),
        ("taskRetentionSeconds", &["0", "31536001"]),
        ("dlqRetentionSeconds", &["0", "31536001"]),
        ("maxBodyBytes", &["1023", "67108865"]),
        ("maxClaimBatch", &["0", "101"]),
        ("webhookHmacSecret", &["[1]", "[]", "[\"\"]", "whsec_!!!", "[\"a\""]),
        ("resultWebhookMaxAttempts", &["0", "101"]),
        ("resultWebhookBaseBackoffSeconds", &["0", "86401"]),
        ("resultWebhookMaxBackoffSeconds", &["1", "86401"]),
        ("webhook.timeoutMs", &["99", "300001"]),
        ("webhook.connectTimeoutMs", &["0", "15001"]),
        ("webhook.maxConcurrency", &["0", "65537"]),
        ("webhook.maxConcurrencyPerHost", &["0", "257"]),
        (
            "webhook.retryTailSeconds",
            &["0", "1,x", "604801", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"],
        ),
        ("webhook.maxAgeSeconds", &["59", "31536001"]),
        ("webhook.deadRetentionSeconds", &["59", "31536001"]),
        ("webhook.deadBodyBytes", &["-1", "67108865"]),
        ("webhook.disableAfterSeconds", &["-1", "31536001"]),
        ("webhook.maxBodyBytes", &["1023", "67108865"]),
        ("webhook.maxSubscriptions", &["0", "100001"]),
        ("webhook.secretScope", &["global"]),
        ("webhook.opsUrl", &["ops", "socks5://h"]),
        ("webhook.extraCaFile", &["/does/not/exist"]),
        ("webhook.proxyUrl", &["ftp://p"]),
        ("webhook.allowPrivateNetworks", &["sometimes"]),
        ("webhook.allowCidrs", &["10.0.0.0/33", "x"]),
        ("webhook.denyCidrs", &["10.0.0.0/33"]),
        ("webhook.allowedPorts", &["0", "65536", "http"]),
        ("subscriptionMinIntervalSeconds", &["0", "86401"]),
        ("subscriptionCleanupIntervalSeconds", &["0", "86401"]),
        ("rateLimit.producer.requestsPerMinute", &["0", "1000001"]),
        ("rateLimit.worker.burstSize", &["0", "5"]),
        (
            "artifactStore",
            &[
                "/tmp/x",
                "ftp://h/x",
                "s3://",
                "file://host/x",
                "s3://k:s@b/x",
                "s3://b/x?y=1",
                "s3://b/#x",
            ],
        ),
        ("localArtifactsDir", &["relative"]),
        ("logLevel", &["loud"]),
        ("logFormat", &["xml"]),
        ("logTaskSampleRatio", &["-0.1", "1.1", "abc", "NaN"]),
        ("metrics.maxCommands", &["0", "10001"]),
        ("metrics.commands", &["a,A"]),
        ("metrics.tenants", &["Acme"]),
        ("metrics.priorityCommands", &["1,2,3,4,5,6,7,8,9,10,11"]),
        ("tracingEnabled", &["maybe"]),
        ("tracingOtlpEndpoint", &["ftp://h:1", "http://u:p@h:1", "h:99999"]),
        ("tracingOtlpInsecure", &["maybe"]),
        ("tracingSampleRatio", &["-0.1", "1.1", "abc"]),
        ("tracing.storeSpans", &["maybe"]),
        ("tracing.baggage", &["maybe"]),
        ("shutdown.delaySeconds", &["-1", "601"]),
        ("shutdown.drainSeconds", &["0", "3601"]),
    ];
    for (key, bad) in table {
        let name = KEYS.iter().find(|k| k.name == *key).unwrap().env.clone().unwrap();
        for text in bad.iter().filter(|text| !text.is_empty()) {
            let Err(problems) = load_env(&[(&name, text)]) else { panic!("{key} took {text}") };
            assert!(problems.problems.iter().any(|p| p.key == *key), "{name}={text}: {problems}");
            assert!(problems.problems.iter().all(|p| !p.rule.is_empty()), "{problems}");
        }
    }
}

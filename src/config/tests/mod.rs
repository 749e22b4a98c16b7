//! The promises of the settings as a whole; each reader has its own beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keys::KEYS;
use super::*;

mod every_key;
mod providers;
mod store_url;
mod tracing;

/// Loads a file and an environment.
fn load_from(yaml: &str, env: &[(&str, &str)]) -> Result<Settings, Problems> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("codeq.yaml");
    std::fs::write(&file, yaml).unwrap();
    load(&Sources { file: Some(file), env: vars(env), ..Sources::default() })
}

fn load_env(env: &[(&str, &str)]) -> Result<Settings, Problems> {
    load(&Sources { env: vars(env), ..Sources::default() })
}

fn vars(env: &[(&str, &str)]) -> BTreeMap<String, String> {
    env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What an installation with authentication and a webhook secret sets.
const PRODUCTION: &[(&str, &str)] = &[
    ("ENV", "production"),
    ("IDENTITY_JWKS_URL", "https://id.example.com/p"),
    ("IDENTITY_ISSUER", "https://id.example.com"),
    ("WORKER_JWKS_URL", "https://id.example.com/w"),
    ("WORKER_ISSUER", "https://id.example.com"),
    ("WEBHOOK_HMAC_SECRET", "0123456789abcdef0123456789abcdef"),
];

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    assert_eq!(load_from("", &[]).unwrap().port, 8080);
    assert_eq!(load_from("port: 1000", &[]).unwrap().port, 1000);
    assert_eq!(load_from("port: 1000", &[("PORT", "2000")]).unwrap().port, 2000);
    // Within one section each key on its own.
    let yaml = "redis: { poolSize: 2, keyPrefix: file }";
    let settings = load_from(yaml, &[("REDIS_POOL_SIZE", "3")]).unwrap();
    assert_eq!((settings.redis.pool_size, &*settings.redis.key_prefix), (3, "file"));
    assert_eq!(settings.redis.command_timeout, Duration::from_secs(2));
}

#[test]
fn what_is_empty_counts_as_unset() {
    assert_eq!(load_env(&[("PORT", "")]).unwrap().port, 8080);
    assert_eq!(load_from("port:\nredis:\nlogLevel: ''", &[]).unwrap().port, 8080);
    assert_eq!(load_from("port: 1000", &[("PORT", "")]).unwrap().port, 1000);
}

#[test]
fn every_problem_is_told_at_once_with_key_value_source_and_rule() {
    let problems = load_from("prot: 1\nlogLevel: lud", &[("PORT", "99999"), ("ENV", "prod")]);
    let said = problems.unwrap_err().to_string();
    for part in [
        "port = \"99999\" (from PORT): must be a whole number, 0 to 65535",
        "prot (from ",
        "did you mean port?",
        "logLevel = \"lud\" (from ",
        "producerAuthProvider: is required in production",
        "workerAuthProvider: is required in production",
        "webhookHmacSecret: is required in production",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    assert!(said.starts_with("6 problems in the settings:"), "{said}");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_and_a_foreign_one_is_a_warning() {
    let rule = |yaml| load_from(yaml, &[]).unwrap_err().problems[0].clone();
    let problem = rule("redis:\n  poolsize: 3");
    assert_eq!(problem.key, "redis.poolsize");
    assert_eq!(problem.rule, "is not a known key; did you mean redis.poolSize?");
    assert_eq!(rule("reddis:\n  url: x").rule, "is not a known key; did you mean redis?");
    assert_eq!(rule("zzz: 1").rule, "is not a known key");
    assert_eq!(rule("port: { a: 1 }").key, "port");
    assert_eq!(rule("redis: 5").rule, "is a section: its keys go below");

    let yaml = "persistenceProvider: x\nraft: { id: 1 }\ncluster: [1]\nworkerStreamAddr: a\n\
                producerStreamAddr: b\nrequeueInspectLimit: 5\ntimezone: UTC\n\
                identityServiceUrl: http://x";
    let settings = load_from(yaml, &[]).unwrap();
    assert_eq!(settings.warnings.len(), 8, "{:?}", settings.warnings);
}

#[test]
fn a_file_that_cannot_be_used_is_named_and_nothing_of_it_is_repeated() {
    for text in ["s3cr3t-marker", "[s3cr3t-marker]", "a: [s3cr3t-marker", "a: 'x' s3cr3t-marker: b"]
    {
        let said = load_from(text, &[]).unwrap_err().to_string();
        assert!(said.contains("codeq.yaml"), "{said}");
        assert!(!said.contains("s3cr3t-marker"), "{said}");
    }
    let missing = Sources { file: Some("/does/not/exist.yaml".into()), ..Sources::default() };
    assert!(load(&missing).unwrap_err().to_string().contains("/does/not/exist.yaml"));
}

#[test]
fn production_asks_for_authentication_and_a_secret_and_warns_of_the_rest() {
    let settings = load_env(PRODUCTION).unwrap();
    assert!(settings.env.is_production());
    assert_eq!(settings.shutdown.delay, Duration::from_secs(5));
    assert!(!settings.webhook.allow_private_networks);
    let warned = settings.warnings.join("\n");
    assert!(warned.contains("artifactStore"), "{warned}");
    assert!(warned.contains("secretScope"), "{warned}");
    for missing in &PRODUCTION[1..] {
        let env: Vec<_> = PRODUCTION.iter().copied().filter(|pair| pair != missing).collect();
        assert!(load_env(&env).is_err(), "production without {}", missing.0);
    }
    let tokens: &[(&str, &str)] = &[
        ("ENV", "Prod"),
        ("PRODUCER_AUTH_PROVIDER", "static"),
        ("PRODUCER_AUTH_CONFIG", "producer-token"),
        ("WORKER_AUTH_PROVIDER", "static"),
        ("WORKER_AUTH_CONFIG", "worker-token"),
        ("WEBHOOK_HMAC_SECRET", "0123456789abcdef0123456789abcdef"),
    ];
    assert!(load_env(tokens).unwrap().env.is_production());
}

#[test]
fn other_names_are_lenient_and_only_dev_reaches_private_networks() {
    let dev = Settings::defaults();
    assert!(dev.env.is_dev() && dev.webhook.allow_private_networks);
    assert_eq!(dev.shutdown.delay, Duration::ZERO);
    let staging = load_env(&[("ENV", "staging")]).unwrap();
    assert_eq!(staging.env, Env::Named("staging".into()));
    assert!(!staging.webhook.allow_private_networks);
    assert_eq!(staging.shutdown.delay, Duration::ZERO);
    let set = [("ENV", "staging"), ("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "yes")];
    assert!(load_env(&set).unwrap().webhook.allow_private_networks);
}

#[test]
fn a_secret_is_never_shown() {
    let marker = "s3cr3t-marker-s3cr3t-marker";
    let ops = format!("https://u:{marker}@ops.example.com/{marker}?t={marker}");
    let env: &[(&str, &str)] = &[
        ("REDIS_URL", &format!("redis://user:{marker}@h:1")),
        ("PRODUCER_AUTH_PROVIDER", "static"),
        (
            "PRODUCER_AUTH_CONFIG",
            &format!("[{{\"token\":\"{marker}\",\"raw\":{{\"k\":\"{marker}\"}}}}]"),
        ),
        ("WORKER_AUTH_PROVIDER", "static"),
        ("WORKER_AUTH_CONFIG", marker),
        ("WEBHOOK_HMAC_SECRET", marker),
        ("WEBHOOK_OPS_URL", &ops),
        ("WEBHOOK_PROXY_URL", &ops),
        ("OTEL_EXPORTER_OTLP_HEADERS", &format!("api-key={marker}")),
    ];
    let settings = load_env(env).unwrap();
    for said in [show(&settings), settings.warnings.join(" ")] {
        assert!(!said.contains(marker), "{said}");
    }
    assert!(!format!("{settings:?}").contains(marker), "{settings:?}");

    let shapes = [
        "{m}",
        "{\"m\":",
        "[\"{m}\"]",
        "redis://{m}",
        "x://:{m}@h",
        "{\"token\":5,\"{m}\":\"{m}\"}",
    ];
    for secret in KEYS.iter().filter(|key| key.is_secret()) {
        for shape in shapes {
            for provider in ["static", "jwks", "multi"] {
                let text = shape.replace("{m}", marker);
                let env = [
                    (secret.env.as_deref().unwrap(), &*text),
                    ("PRODUCER_AUTH_PROVIDER", provider),
                    ("WORKER_AUTH_PROVIDER", provider),
                    ("PORT", "wrong"),
                ];
                let said = load_env(&env).unwrap_err();
                assert!(!format!("{said} {said:?}").contains(marker), "{said}");
            }
        }
    }
}

#[test]
fn a_secret_may_come_from_a_file_without_its_last_newline() {
    use every_key::{VALUES, beside, shown};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    let file = path.to_str().unwrap();
    for secret in KEYS.iter().filter(|key| key.is_secret()) {
        let name = format!("{}_FILE", secret.env.as_deref().unwrap());
        let (_, text, as_text) = VALUES.iter().find(|(key, ..)| *key == secret.name).unwrap();
        std::fs::write(&path, format!("{text}\n")).unwrap();
        let mut env = beside(&secret.name).to_vec();
        env.push((&name, file));
        let after = show(&load_env(&env).unwrap_or_else(|problems| panic!("{name}: {problems}")));
        assert!(after.contains(&shown(&secret.name, text, as_text)), "{name} has no effect");

        env.push((secret.env.as_deref().unwrap(), text));
        let problems = load_env(&env).unwrap_err();
        assert!(problems.problems[0].rule.contains("both set"), "{problems}");
        assert_eq!(problems.problems[0].key, secret.name);
    }

    use secrecy::ExposeSecret as _;
    std::fs::write(&path, "two\n\n").unwrap();
    let settings = load_env(&[("WEBHOOK_HMAC_SECRET_FILE", file)]).unwrap();
    assert_eq!(settings.webhook.secrets[0].expose_secret(), "two\n");
    std::fs::write(&path, "\n").unwrap();
    assert!(load_env(&[("WEBHOOK_HMAC_SECRET_FILE", file)]).is_err(), "an empty file");
    assert!(load_env(&[("WEBHOOK_HMAC_SECRET_FILE", "/does/not/exist")]).is_err());
}

#[test]
fn what_is_shown_can_be_loaded_again() {
    let env: Vec<(&str, &str)> = vec![
        ("PORT", "9000"),
        ("METRICS_COMMANDS", "a,b"),
        ("TRACING_OTLP_ENDPOINT", "otel:1"),
        ("WORKER_JWKS_URL", "https://id.example.com/w"),
        ("ENV", "staging"),
    ];
    let first = show(&load_env(&env).unwrap());
    assert_eq!(show(&load_from(&first, &[]).unwrap()), first);
}

#[test]
fn the_page_about_configuration_is_what_the_settings_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(page == reference(), "run: UPDATE_DOCS=1 cargo test --lib config::");
}

#[test]
fn spread_is_keyed_by_lower_case_and_bounded_by_the_partitions() {
    let settings = load_from("spread: { SendMail: 3, other: 16 }", &[]).unwrap();
    let command = crate::model::Command::parse("SENDMAIL").unwrap();
    assert_eq!(settings.spread_of(&command), 3);
    assert_eq!(settings.spread_of(&crate::model::Command::parse("x").unwrap()), 1);
    for bad in ["{ a: 17 }", "{ a: 0 }", "{ a: x }", "{ a: 1, A: 2 }", "{ ' ': 1 }", "5"] {
        let problems = load_from(&format!("spread: {bad}"), &[]).unwrap_err();
        assert!(problems.problems[0].key.starts_with("spread"), "{problems}");
    }
}

#[test]
fn only_attempts_configured_means_no_tail() {
    assert_eq!(Settings::defaults().webhook.retry_tail.len(), 5);
    let only = load_env(&[("RESULT_WEBHOOK_MAX_ATTEMPTS", "3")]).unwrap();
    assert!(only.webhook.retry_tail.is_empty());
    let both = [("RESULT_WEBHOOK_MAX_ATTEMPTS", "3"), ("WEBHOOK_RETRY_TAIL_SECONDS", "9")];
    assert_eq!(load_env(&both).unwrap().webhook.retry_tail, [Duration::from_secs(9)]);
}

#[test]
fn secrets_are_one_or_a_list_and_short_ones_are_a_warning() {
    let count = |text| load_env(&[("WEBHOOK_HMAC_SECRET", text)]).unwrap().webhook.secrets.len();
    assert_eq!(count("one, with a comma"), 1);
    assert_eq!(count("[\"one\", \"two\"]"), 2);
    let yaml = "webhookHmacSecret: [one, two, three]";
    assert_eq!(load_from(yaml, &[]).unwrap().webhook.secrets.len(), 3);
    let warned = |text| load_env(&[("WEBHOOK_HMAC_SECRET", text)]).unwrap().warnings.len();
    assert_eq!(warned("23 bytes are not enough"), 1);
    assert_eq!(warned("24 bytes are enough here"), 0);
    // 18 bytes behind 24 characters.
    assert_eq!(warned("whsec_MDEyMzQ1Njc4OWFiY2RlZjAx"), 1);
}

#[test]
fn flavours_of_later_versions_are_checked_and_reported() {
    assert!(Settings::defaults().not_yet_supported().is_empty());
    for url in ["rediss://h", "redis+sentinel://a,b/m", "redis+cluster://a,b"] {
        let settings = load_env(&[("REDIS_URL", url)]).unwrap();
        assert_eq!(settings.not_yet_supported()[0].key, "redis.url", "{url}");
    }
    let settings = load_env(&[("REDIS_DURABILITY", "synced")]).unwrap();
    assert_eq!(settings.not_yet_supported().len(), 1);
    assert!(settings.warnings[0].contains("synced: this version"), "{:?}", settings.warnings);
}

#[test]
fn the_profiler_listens_only_when_asked() {
    let address = |env| load_env(env).unwrap().pprof.map(|address| address.to_string());
    assert_eq!(address(&[]), None);
    assert_eq!(address(&[("CODEQ_PPROF_ADDR", ":7000")]), None);
    assert_eq!(address(&[("CODEQ_PPROF", "1")]).as_deref(), Some("0.0.0.0:6060"));
    let env = [("CODEQ_PPROF", "1"), ("CODEQ_PPROF_ADDR", "127.0.0.1:6061")];
    assert_eq!(address(&env).as_deref(), Some("127.0.0.1:6061"));
    assert!(load_env(&[("CODEQ_PPROF_ADDR", "6060")]).is_err());
    assert!(load_env(&[("CODEQ_PPROF", "maybe")]).is_err());
    assert!(load_env(&[("RUST_LOG", "codeq=loud")]).is_err());
    assert!(load_env(&[("RUST_LOG", "codeq::store=debug")]).unwrap().log.filters.is_some());
}

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ::config::ValueKind;
use tracing_subscriber::EnvFilter;

use super::layers::{Sources, in_order};
use super::read::{Reader, quoted, truth};
use super::report::Problems;
use super::{
    Auth, Backoff, BackoffPolicy, Bucket, Env, Limits, Log, LogFormat, MetricsSettings, Provider,
    RateLimits, Redis, Settings, Shutdown, Subscriptions, Tasks, Tracing, Webhook,
};
use crate::model::{Command, TenantId};

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;
const MIB: i64 = 1 << 20;

const LEVELS: &[(&str, tracing::Level)] = &[
    ("info", tracing::Level::INFO),
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

/// Reads, checks and returns the settings.
///
/// # Errors
/// With every problem at once; each names key, value (`***` for a secret) and rule.
///
/// ```
/// let sources = codeq::config::Sources {
///     env: [("PORT".to_owned(), "9000".to_owned())].into(),
///     ..Default::default()
/// };
/// assert_eq!(codeq::config::load(&sources).unwrap().port, 9000);
/// ```
pub fn load(sources: &Sources) -> Result<Settings, Problems> {
    let mut reader = Reader::new(sources);
    let r = &mut reader;
    let env = read_env(r);
    let partitions = r.int("partitions", 1..=1024);
    let mut settings = Settings {
        port: r.int("port", 0..=65535),
        bind_addr: bind_addr(r),
        redis: Redis::read(r),
        partitions,
        spread: spread(r, partitions),
        auth: Auth::read(r),
        tasks: tasks(r),
        limits: Limits {
            max_body_bytes: r.int("maxBodyBytes", 1024..=64 * MIB),
            max_claim_batch: r.int("maxClaimBatch", 1..=100),
        },
        webhook: Webhook::read(r, &env),
        rate_limit: RateLimits {
            producer: bucket(r, "producer"),
            worker: bucket(r, "worker"),
            webhook: bucket(r, "webhook"),
            admin: bucket(r, "admin"),
        },
        log: log(r),
        metrics: metrics(r),
        tracing: Tracing::read(r),
        pprof: pprof(r),
        shutdown: shutdown(r, &env),
        subscriptions: Subscriptions {
            min_interval_seconds: r.int("subscriptionMinIntervalSeconds", 1..=DAY),
            cleanup_interval_seconds: r.int("subscriptionCleanupIntervalSeconds", 1..=DAY),
        },
        artifact_store: artifact_store(r),
        env,
        warnings: Vec::new(),
    };
    if settings.env.is_production() {
        production_rules(r, &settings);
    }
    let (problems, warnings) = reader.finish();
    settings.warnings = warnings;
    let later = settings.not_yet_supported();
    settings.warnings.extend(later.iter().map(|later| format!("{later}: it will not start")));
    if problems.is_empty() {
        return Ok(settings);
    }
    Err(Problems { problems, warnings: settings.warnings })
}

fn read_env(r: &mut Reader<'_>) -> Env {
    let name = r.text("env").unwrap_or_default();
    if name.len() > 64 || name.trim().is_empty() || name.chars().any(char::is_control) {
        r.problem("env", "must be a name of 1 to 64 bytes");
    }
    // In any case: nobody who writes `Production` wants the lenient rules.
    match name.trim().to_ascii_lowercase().as_str() {
        "production" | "prod" => Env::Production,
        "dev" => Env::Dev,
        _ => Env::Named(name.trim().to_owned()),
    }
}

fn bind_addr(r: &mut Reader<'_>) -> IpAddr {
    let text = r.text("bindAddr").unwrap_or_default();
    text.trim().trim_matches(['[', ']']).parse().unwrap_or_else(|_| {
        r.problem("bindAddr", "must be an IP address, without a port");
        Ipv4Addr::UNSPECIFIED.into()
    })
}

/// The one map whose keys are not ours. Queues are keyed by lower case, so are these.
fn spread(r: &mut Reader<'_>, partitions: u16) -> BTreeMap<String, u16> {
    let Some(ValueKind::Table(table)) = r.raw("spread").map(|value| value.kind.clone()) else {
        if r.raw("spread").is_some() {
            r.problem("spread", "must be a map of command to number");
        }
        return BTreeMap::new();
    };
    let mut spread = BTreeMap::new();
    for (name, value) in in_order(table) {
        let key = format!("spread.{name}");
        let number = match value.kind {
            ValueKind::I64(number) => u16::try_from(number).ok(),
            _ => None,
        };
        let number = number.filter(|number| (1..=partitions).contains(number));
        match (Command::parse(&name), number) {
            (Err(rule), _) => r.problem_at("spread", &key, rule),
            (_, None) => {
                let rule = format!("must be a whole number, 1 to {partitions} (partitions)");
                r.problem_at("spread", &key, &rule);
            }
            (Ok(command), Some(number)) => {
                if spread.insert(command.lower(), number).is_some() {
                    r.problem_at("spread", &key, "is there twice: upper and lower case are one");
                }
            }
        }
    }
    spread
}

fn tasks(r: &mut Reader<'_>) -> Tasks {
    let backoff = Backoff {
        policy: r.choice("backoffPolicy", BackoffPolicy::NAMES),
        base_seconds: r.int("backoffBaseSeconds", 0..=DAY),
        max_seconds: r.int("backoffMaxSeconds", 0..=7 * DAY),
    };
    if backoff.max_seconds < backoff.base_seconds {
        r.problem("backoffMaxSeconds", "must not be less than backoffBaseSeconds");
    }
    Tasks {
        default_lease_seconds: r.int("defaultLeaseSeconds", 1..=43_200),
        max_attempts_default: r.int("maxAttemptsDefault", 1..=1000),
        backoff,
        retention_seconds: r.int("taskRetentionSeconds", 1..=YEAR),
        dlq_retention_seconds: r.int("dlqRetentionSeconds", 1..=YEAR),
    }
}

fn bucket(r: &mut Reader<'_>, who: &str) -> Option<Bucket> {
    let (rate, burst) =
        (format!("rateLimit.{who}.requestsPerMinute"), format!("rateLimit.{who}.burstSize"));
    let burst_size = r.int_if_set(&burst, 1..=1_000_000);
    match r.int_if_set(&rate, 1..=1_000_000) {
        Some(requests_per_minute) => Some(Bucket {
            requests_per_minute,
            burst_size: burst_size.unwrap_or(requests_per_minute),
        }),
        None if burst_size.is_some() && r.raw(&rate).is_none() => {
            r.problem(&burst, format!("has no effect without {rate}"));
            None
        }
        None => None,
    }
}

fn log(r: &mut Reader<'_>) -> Log {
    let filters = r.var("RUST_LOG").map(str::to_owned);
    if filters.as_deref().is_some_and(|filters| EnvFilter::builder().parse(filters).is_err()) {
        r.var_problem("RUST_LOG", false, "must be filters such as codeq::webhooks=debug");
    }
    Log {
        level: r.choice("logLevel", LEVELS),
        filters,
        format: r.choice("logFormat", &[("json", LogFormat::Json), ("text", LogFormat::Text)]),
        task_sample_ratio: r.ratio("logTaskSampleRatio"),
    }
}

fn metrics(r: &mut Reader<'_>) -> MetricsSettings {
    let command = |text: &str| Command::parse(text).map_err(str::to_owned);
    let max_commands = r.int("metrics.maxCommands", 1..=10_000);
    let settings = MetricsSettings {
        max_commands,
        commands: r.list_of("metrics.commands", 10_000, command),
        tenants: r.list_of("metrics.tenants", 50, |text| {
            TenantId::parse(text)
                .ok_or("must be a tenant: a to z, 0 to 9 and -, 2 to 63 of them".to_owned())
        }),
        priority_commands: r.list_of("metrics.priorityCommands", 10, command),
    };
    if settings.commands.len() > max_commands {
        r.problem("metrics.commands", "must not have more items than metrics.maxCommands");
    }
    let mut seen = HashSet::new();
    if !settings.commands.iter().all(|command| seen.insert(command.lower())) {
        r.problem("metrics.commands", "must name a command once: upper and lower case are one");
    }
    settings
}

fn pprof(r: &mut Reader<'_>) -> Option<SocketAddr> {
    let enabled = r.var("CODEQ_PPROF").map(truth);
    if enabled == Some(None) {
        r.var_problem("CODEQ_PPROF", false, "must be 1 or 0");
    }
    let text = r.var("CODEQ_PPROF_ADDR").unwrap_or(":6060");
    // `:6060` is every interface, which Rust's parser does not know.
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    match full.parse() {
        Ok(address) => (enabled == Some(Some(true))).then_some(address),
        Err(_) => {
            let rule = "must be address:port or :port, as 127.0.0.1:6060";
            r.var_problem("CODEQ_PPROF_ADDR", false, rule);
            None
        }
    }
}

fn shutdown(r: &mut Reader<'_>, env: &Env) -> Shutdown {
    let mut delay = r.seconds("shutdown.delaySeconds", 0..=600);
    if !env.is_production() && !r.is_set("shutdown.delaySeconds") {
        delay = std::time::Duration::ZERO;
    }
    let drain = r.seconds("shutdown.drainSeconds", 1..=3600);
    if drain <= delay {
        r.problem("shutdown.drainSeconds", "must be more than shutdown.delaySeconds");
    }
    Shutdown { delay, drain }
}

fn artifact_store(r: &mut Reader<'_>) -> String {
    let (new, old) = (r.origin("artifactStore").rank(), r.origin("localArtifactsDir").rank());
    if old > 0 && old == new {
        r.problem("localArtifactsDir", "is the old name of artifactStore: set only one of them");
    }
    if old > new {
        let directory = r.text("localArtifactsDir").unwrap_or_default();
        return match url::Url::from_directory_path(&directory) {
            Ok(url) => url.as_str().trim_end_matches('/').to_owned(),
            Err(()) => {
                r.problem("localArtifactsDir", "must be an absolute path");
                String::new()
            }
        };
    }
    let text = r.text("artifactStore").unwrap_or_default();
    let url = url::Url::parse(&text).ok();
    let bucket = url.as_ref().and_then(|url| url.host_str()).is_some_and(|host| !host.is_empty());
    let fits = match url.as_ref().map(|url| url.scheme()) {
        Some("file") => !bucket && text.starts_with("file:///"),
        Some("s3" | "gs" | "az") => bucket,
        _ => false,
    };
    let plain = url.as_ref().is_some_and(|url| url.query().is_none() && url.fragment().is_none());
    if url.as_ref().is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
        // Not through `problem`: what stands there may be a password.
        r.problem_at("artifactStore", "artifactStore", "must not hold credentials");
    } else if !fits || !plain {
        let rule = "must be file:///directory, s3://bucket, gs://bucket or az://container";
        r.problem("artifactStore", rule);
    }
    text
}

/// What an installation that matters must not leave out.
fn production_rules(r: &mut Reader<'_>, settings: &Settings) {
    let sides = [
        ("producerAuthProvider", "identityJwksUrl", "identityIssuer", &settings.auth.producer),
        ("workerAuthProvider", "workerJwksUrl", "workerIssuer", &settings.auth.worker),
    ];
    for (provider, url, issuer, found) in sides {
        match found {
            None if r.raw(provider).is_none() => {
                let rule = format!("is required in production: {url} and {issuer}, or a provider");
                r.problem(provider, rule);
            }
            None => {}
            Some(found) if found.some_jwks(|jwks| jwks.issuer.is_none()) => {
                r.problem(issuer, "is required in production for every key set");
            }
            Some(found) if found.some_jwks(|jwks| jwks.url.scheme() == "http") => {
                r.warn(format!("{url}: a key set is fetched without TLS"));
            }
            Some(Provider::Static(_) | Provider::Jwks(_) | Provider::Multi(_)) => {}
        }
    }
    if settings.webhook.secrets.is_empty() && r.raw("webhookHmacSecret").is_none() {
        r.problem("webhookHmacSecret", "is required in production");
    }
    if settings.artifact_store.starts_with("file:") {
        let place = quoted(&settings.artifact_store);
        r.warn(format!(
            "artifactStore = {place}: with several nodes this must be a shared volume, since \
             another node could not read the artifact"
        ));
    }
}

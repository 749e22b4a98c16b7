use std::sync::LazyLock;

/// The commented defaults: the one place where a key, its default and its meaning are written.
pub(super) const DEFAULTS: &str = include_str!("defaults.yaml");

/// A key of the settings.
#[derive(Debug)]
pub(super) struct Key {
    /// As in YAML, sections separated by dots.
    pub name: String,
    /// Environment variable; `None` for the one map, whose names come from outside.
    pub env: Option<String>,
    /// As written in `defaults.yaml`.
    pub default: String,
    /// The comment above it.
    pub meaning: String,
}

impl Key {
    /// Whether its value is never printed, and may come from a file.
    pub fn is_secret(&self) -> bool {
        is_secret(&self.name)
    }
}

/// Every key, in the order of `defaults.yaml`.
pub(super) static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| scan(DEFAULTS));

const SECRETS: [&str; 7] = [
    "redis.url",
    "redisPassword",
    "producerAuthConfig",
    "workerAuthConfig",
    "webhookHmacSecret",
    "webhook.opsUrl",
    "webhook.proxyUrl",
];

/// First parts of keys that other CodeQ back ends know. A file that has them still loads.
const FOREIGN: [&str; 7] = [
    "raft",
    "cluster",
    "workerStreamAddr",
    "producerStreamAddr",
    "requeueInspectLimit",
    "timezone",
    "identityServiceUrl",
];

/// Variables without a YAML key: name, default, meaning.
pub(super) const ENV_ONLY: &[(&str, &str, &str)] = &[
    ("CODEQ_CONFIG", "", "The YAML file, when `--config` does not name one."),
    ("CODEQ_PPROF", "", "`1` opens the listener for profiles."),
    ("CODEQ_PPROF_ADDR", ":6060", "Address of that listener; without a host, every interface."),
    ("RUST_LOG", "", "Module filters beside `logLevel`, as `codeq::webhooks=debug`."),
    ("OTEL_SDK_DISABLED", "", "`true` is `tracingEnabled: false`, unless TRACING_ENABLED is set."),
    (
        "OTEL_SERVICE_NAME",
        "",
        "`tracingServiceName`; `service.name` in OTEL_RESOURCE_ATTRIBUTES likewise.",
    ),
    ("OTEL_RESOURCE_ATTRIBUTES", "", "Further attributes of the resource."),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "", "`tracingOtlpEndpoint`, taken as it stands."),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "", "`tracingOtlpEndpoint`; over HTTP `/v1/traces` is added."),
    ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "", "`tracingOtlpInsecure`."),
    ("OTEL_EXPORTER_OTLP_INSECURE", "", "`tracingOtlpInsecure`."),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "", "As the next."),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "`grpc` or `http/protobuf`."),
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "", "As the next."),
    (
        "OTEL_EXPORTER_OTLP_HEADERS",
        "",
        "Headers of each export: `name=value`, separated by commas.",
    ),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "", "As the next."),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "10000", "Time for one export, in milliseconds, 1 to 600000."),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "", "As the next."),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "none", "`none` or `gzip`."),
    (
        "OTEL_TRACES_SAMPLER",
        "",
        "`always_on`, `always_off`, `traceidratio` or `parentbased_` and one of these; TRACING_SAMPLE_RATIO wins.",
    ),
    ("OTEL_TRACES_SAMPLER_ARG", "1.0", "The ratio of `traceidratio`."),
    ("OTEL_TRACES_EXPORTER", "otlp", "`otlp`, `console` or `none`."),
    ("OTEL_PROPAGATORS", "tracecontext,baggage", "Any of `tracecontext` and `baggage`, or `none`."),
    (
        "OTEL_LOG_LEVEL",
        "",
        "Level of the SDK's own messages: `none`, `error`, `warn`, `info`, `debug` or `trace`.",
    ),
];

pub(super) fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

/// Whether a key of a file belongs to another CodeQ back end.
pub(super) fn is_foreign(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or(name);
    first.starts_with("persistence") || FOREIGN.contains(&first)
}

/// The known key or section that `name` was probably meant to be.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let sections = KEYS.iter().filter_map(|key| key.name.rsplit_once('.')).map(|(head, _)| head);
    closest(name, KEYS.iter().map(|key| key.name.as_str()).chain(sections))
}

/// The candidate that differs least, if it differs little; dots and case do not count.
pub(super) fn closest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let bare = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let wanted = bare(name);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &bare(candidate)), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (wanted.chars().count() / 3).clamp(1, 4))
        .map(|(_, candidate)| candidate)
}

/// Reads our own file, of which we know that each key stands on one line, indented by twos: no YAML
/// parser keeps comments. A test compares what is found here with what the parser finds.
fn scan(yaml: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut path: Vec<&str> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in yaml.lines() {
        let text = line.trim();
        if let Some(said) = text.strip_prefix('#') {
            comment.push(said.trim());
            continue;
        }
        if let Some((name, default)) = text.split_once(':') {
            path.truncate((line.len() - line.trim_start().len()) / 2);
            path.push(name);
            if !default.is_empty() {
                keys.push(Key {
                    name: path.join("."),
                    env: (name != "spread").then(|| upper_snake(&path)),
                    default: default.trim().to_owned(),
                    meaning: comment.join(" "),
                });
            }
        }
        comment.clear();
    }
    keys
}

/// `["redis", "poolSize"]` → `REDIS_POOL_SIZE`.
fn upper_snake(path: &[&str]) -> String {
    let mut name = String::new();
    for c in path.join("_").chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_the_key_in_upper_snake_case() {
        let env = |name: &str| KEYS.iter().find(|key| key.name == name).unwrap().env.clone();
        assert_eq!(env("redis.poolSize").as_deref(), Some("REDIS_POOL_SIZE"));
        assert_eq!(env("identityJwksUrl").as_deref(), Some("IDENTITY_JWKS_URL"));
        assert_eq!(env("webhookHmacSecret").as_deref(), Some("WEBHOOK_HMAC_SECRET"));
        assert_eq!(
            env("rateLimit.producer.requestsPerMinute").as_deref(),
            Some("RATE_LIMIT_PRODUCER_REQUESTS_PER_MINUTE")
        );
        assert_eq!(env("spread"), None);
    }

    #[test]
    fn every_key_is_explained() {
        for key in KEYS.iter() {
            assert!(key.meaning.ends_with('.'), "{} has no sentence above it", key.name);
        }
    }

    #[test]
    fn the_nearest_key_is_found_and_nothing_far_is() {
        assert_eq!(nearest("prot"), Some("port"));
        assert_eq!(nearest("redis.poolsize"), Some("redis.poolSize"));
        assert_eq!(nearest("webhookTimeoutMs"), Some("webhook.timeoutMs"));
        assert_eq!(nearest("reddis"), Some("redis"));
        assert_eq!(
            nearest("rateLimits.producer.requestPerMinute"),
            Some("rateLimit.producer.requestsPerMinute")
        );
        assert_eq!(nearest("flux"), None);
    }
}

use serde_json::{Map, Value, json};

use super::{Bucket, Jwks, Provider, Settings};

/// The effective settings as YAML that can be loaded again, secrets as `***`.
///
/// Keys that only fill others (`redisAddr`, `identityJwksUrl`, …) appear in what they filled.
pub fn show(settings: &Settings) -> String {
    let mut yaml = String::new();
    let mut open: Vec<&str> = Vec::new();
    let values = values(settings);
    for (name, value) in &values {
        let (sections, last) = match name.rsplit_once('.') {
            Some((sections, last)) => (sections.split('.').collect(), last),
            None => (Vec::new(), *name),
        };
        let shared = open.iter().zip(&sections).take_while(|(a, b)| a == b).count();
        for (depth, section) in sections.iter().enumerate().skip(shared) {
            yaml.push_str(&format!("{:indent$}{section}:\n", "", indent = depth * 2));
        }
        yaml.push_str(&format!("{:indent$}{last}: {value}\n", "", indent = sections.len() * 2));
        open = sections;
    }
    yaml.push_str("# without a key in YAML\n");
    for (name, value) in variables(settings) {
        yaml.push_str(&format!("# {name}={value}\n"));
    }
    yaml
}

/// Every key that holds a value of its own, in the order of `defaults.yaml`.
fn values(s: &Settings) -> Vec<(&'static str, Value)> {
    let mut values = vec![
        ("port", json!(s.port)),
        ("bindAddr", json!(s.bind_addr)),
        ("env", json!(s.env.as_str())),
        ("redis.url", json!(s.redis.url.to_string())),
        ("redis.keyPrefix", json!(s.redis.key_prefix)),
        ("redis.durability", json!(s.redis.durability.as_str())),
        ("redis.poolSize", json!(s.redis.pool_size)),
        ("redis.connectTimeoutMs", json!(s.redis.connect_timeout.as_millis())),
        ("redis.commandTimeoutMs", json!(s.redis.command_timeout.as_millis())),
        ("redis.softMemoryRatio", json!(s.redis.soft_memory_ratio)),
        ("partitions", json!(s.partitions)),
        ("spread", json!(s.spread)),
        ("producerAuthProvider", kind(s.auth.producer.as_ref())),
        ("producerAuthConfig", config(s.auth.producer.as_ref())),
        ("workerAuthProvider", kind(s.auth.worker.as_ref())),
        ("workerAuthConfig", config(s.auth.worker.as_ref())),
        ("allowProducerAsWorker", json!(s.auth.allow_producer_as_worker)),
        ("defaultLeaseSeconds", json!(s.tasks.default_lease_seconds)),
        ("maxAttemptsDefault", json!(s.tasks.max_attempts_default)),
        ("backoffPolicy", json!(s.tasks.backoff.policy.as_str())),
        ("backoffBaseSeconds", json!(s.tasks.backoff.base_seconds)),
        ("backoffMaxSeconds", json!(s.tasks.backoff.max_seconds)),
        ("taskRetentionSeconds", json!(s.tasks.retention_seconds)),
        ("dlqRetentionSeconds", json!(s.tasks.dlq_retention_seconds)),
        ("maxBodyBytes", json!(s.limits.max_body_bytes)),
        ("maxClaimBatch", json!(s.limits.max_claim_batch)),
    ];
    webhook(s, &mut values);
    values.extend([
        ("subscriptionMinIntervalSeconds", json!(s.subscriptions.min_interval_seconds)),
        ("subscriptionCleanupIntervalSeconds", json!(s.subscriptions.cleanup_interval_seconds)),
        ("rateLimit.producer.requestsPerMinute", rate(s.rate_limit.producer)),
        ("rateLimit.producer.burstSize", burst(s.rate_limit.producer)),
        ("rateLimit.worker.requestsPerMinute", rate(s.rate_limit.worker)),
        ("rateLimit.worker.burstSize", burst(s.rate_limit.worker)),
        ("rateLimit.webhook.requestsPerMinute", rate(s.rate_limit.webhook)),
        ("rateLimit.webhook.burstSize", burst(s.rate_limit.webhook)),
        ("rateLimit.admin.requestsPerMinute", rate(s.rate_limit.admin)),
        ("rateLimit.admin.burstSize", burst(s.rate_limit.admin)),
        ("artifactStore", json!(s.artifact_store)),
        ("logLevel", json!(s.log.level.as_str().to_lowercase())),
        ("logFormat", json!(s.log.format.as_str())),
        ("logTaskSampleRatio", json!(s.log.task_sample_ratio)),
        ("metrics.maxCommands", json!(s.metrics.max_commands)),
        ("metrics.commands", texts(s.metrics.commands.iter().map(|c| c.as_str()))),
        ("metrics.tenants", texts(s.metrics.tenants.iter().map(|t| t.as_str()))),
        ("metrics.priorityCommands", texts(s.metrics.priority_commands.iter().map(|c| c.as_str()))),
        ("tracingEnabled", json!(s.tracing.enabled)),
        ("tracingServiceName", json!(s.tracing.service_name)),
        ("tracingOtlpEndpoint", json!(s.tracing.endpoint.given)),
        ("tracingOtlpInsecure", json!(!s.tracing.endpoint.tls)),
        ("tracingSampleRatio", json!(s.tracing.sampler.ratio)),
        ("tracing.storeSpans", json!(s.tracing.store_spans)),
        ("tracing.baggage", json!(s.tracing.propagate_baggage)),
        ("shutdown.delaySeconds", json!(s.shutdown.delay.as_secs())),
        ("shutdown.drainSeconds", json!(s.shutdown.drain.as_secs())),
    ]);
    values
}

fn webhook(s: &Settings, values: &mut Vec<(&'static str, Value)>) {
    let w = &s.webhook;
    let secrets = match w.secrets.len() {
        0 => Value::Null,
        1 => json!("***"),
        n => json!(vec!["***"; n]),
    };
    let origin = |url: &Option<super::SecretUrl>| json!(url.as_ref().map(|url| format!("{url:?}")));
    let tail: Vec<u64> = w.retry_tail.iter().map(|wait| wait.as_secs()).collect();
    values.extend([
        ("webhookHmacSecret", secrets),
        ("resultWebhookMaxAttempts", json!(w.max_attempts)),
        ("resultWebhookBaseBackoffSeconds", json!(w.base_backoff_seconds)),
        ("resultWebhookMaxBackoffSeconds", json!(w.max_backoff_seconds)),
        ("webhook.timeoutMs", json!(w.timeout.as_millis())),
        ("webhook.connectTimeoutMs", json!(w.connect_timeout.as_millis())),
        ("webhook.maxConcurrency", json!(w.max_concurrency)),
        ("webhook.maxConcurrencyPerHost", json!(w.max_concurrency_per_host)),
        ("webhook.retryTailSeconds", json!(tail)),
        ("webhook.maxAgeSeconds", json!(w.max_age.as_secs())),
        ("webhook.deadRetentionSeconds", json!(w.dead_retention.as_secs())),
        ("webhook.deadBodyBytes", json!(w.dead_body_bytes)),
        ("webhook.disableAfterSeconds", json!(w.disable_after.map_or(0, |after| after.as_secs()))),
        ("webhook.maxBodyBytes", json!(w.max_body_bytes)),
        ("webhook.maxSubscriptions", json!(w.max_subscriptions)),
        ("webhook.secretScope", json!(w.secret_scope.as_str())),
        ("webhook.opsUrl", origin(&w.ops_url)),
        ("webhook.extraCaFile", json!(w.extra_ca_file)),
        ("webhook.proxyUrl", origin(&w.proxy_url)),
        ("webhook.allowPrivateNetworks", json!(w.allow_private_networks)),
        ("webhook.allowCidrs", json!(w.allow_cidrs)),
        ("webhook.denyCidrs", json!(w.deny_cidrs)),
        ("webhook.allowedPorts", json!(w.allowed_ports)),
    ]);
}

/// What only variables can say.
fn variables(s: &Settings) -> Vec<(&'static str, String)> {
    let t = &s.tracing;
    let sampler = if t.sampler.parent_based { "parentbased_traceidratio" } else { "traceidratio" };
    let propagators = match (t.propagate_trace_context, t.propagate_baggage) {
        (true, true) => "tracecontext,baggage",
        (true, false) => "tracecontext",
        (false, true) => "baggage",
        (false, false) => "none",
    };
    let headers: Vec<String> = t.headers.iter().map(|(name, _)| format!("{name}=***")).collect();
    let compression = t.compression.map_or("none", |compression| compression.as_str());
    let mut variables = vec![
        ("CODEQ_PPROF", u8::from(s.pprof.is_some()).to_string()),
        ("OTEL_TRACES_SAMPLER", sampler.to_owned()),
        ("OTEL_TRACES_SAMPLER_ARG", t.sampler.ratio.to_string()),
        ("OTEL_TRACES_EXPORTER", t.exporter.as_str().to_owned()),
        ("OTEL_PROPAGATORS", propagators.to_owned()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", t.protocol.as_str().to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", headers.join(",")),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", compression.to_owned()),
    ];
    variables.extend(s.pprof.map(|address| ("CODEQ_PPROF_ADDR", address.to_string())));
    variables.extend(s.log.filters.clone().map(|filters| ("RUST_LOG", filters)));
    variables
        .extend(t.timeout.map(|time| ("OTEL_EXPORTER_OTLP_TIMEOUT", time.as_millis().to_string())));
    variables.extend(t.sdk_log_level.map(|level| ("OTEL_LOG_LEVEL", level.to_string())));
    variables
}

fn kind(provider: Option<&Provider>) -> Value {
    match provider {
        None => Value::Null,
        Some(Provider::Static(_)) => json!("static"),
        Some(Provider::Jwks(_)) => json!("jwks"),
        Some(Provider::Multi(_)) => json!("multi"),
    }
}

fn config(provider: Option<&Provider>) -> Value {
    match provider {
        None => Value::Null,
        Some(Provider::Jwks(jwks)) => key_set(jwks),
        Some(Provider::Static(tokens)) => {
            let shown = tokens.iter().map(|token| {
                // Of the claims only the names: nobody promised that they are public.
                let raw: Map<String, Value> =
                    token.raw.keys().map(|name| (name.clone(), json!("***"))).collect();
                json!({
                    "token": "***", "subject": token.subject, "email": token.email,
                    "scopes": token.scopes, "eventTypes": token.event_types, "raw": raw,
                })
            });
            Value::Array(shown.collect())
        }
        Some(Provider::Multi(providers)) => {
            let shown = providers.iter().map(|provider| {
                json!({ "type": kind(Some(provider)), "config": config(Some(provider)) })
            });
            json!({ "providers": shown.collect::<Vec<_>>() })
        }
    }
}

fn key_set(jwks: &Jwks) -> Value {
    json!({
        "jwksUrl": jwks.url.as_str(), "issuer": jwks.issuer, "audience": jwks.audience,
        "clockSkewSeconds": jwks.clock_skew.as_secs(),
        "httpTimeoutMs": jwks.http_timeout.as_millis(),
    })
}

fn rate(bucket: Option<Bucket>) -> Value {
    json!(bucket.map(|bucket| bucket.requests_per_minute))
}

fn burst(bucket: Option<Bucket>) -> Value {
    json!(bucket.map(|bucket| bucket.burst_size))
}

fn texts<'a>(items: impl Iterator<Item = &'a str>) -> Value {
    items.collect()
}

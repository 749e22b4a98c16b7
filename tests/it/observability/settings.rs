//! Settings of tracing from four sources, as the collector feels them.

use serde_json::json;

use crate::support::{Collector, Node, Redis, Settings};

const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn started(settings: Settings, more: &[(&str, &str)]) -> Node {
    more.iter().fold(settings, |all, (name, value)| all.set(name, value)).start().await
}

/// Creates a task, ends the node; whether the collector has the span.
async fn sends(settings: Settings, collector: &Collector, more: &[(&str, &str)]) -> bool {
    let before = collector.named("codeq.task.create").len();
    let node = started(settings, more).await;
    node.producer().created("m").await;
    node.stop().await;
    collector.named("codeq.task.create").len() > before
}

#[tokio::test]
async fn e3_e4_e10_t27_every_form_of_address_and_every_option_reaches_the_collector() {
    let redis = Redis::start().await;
    let collector = Collector::start().await;
    let on = |settings: Settings| settings.set("TRACING_ENABLED", "1");
    let plain = collector.address().to_string();
    let url = collector.origin();
    let whole = format!("{url}/v1/traces");
    let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    let forms: [&[(&str, &str)]; 7] = [
        &[("TRACING_OTLP_ENDPOINT", &plain), ("TRACING_OTLP_INSECURE", "yes")],
        // A scheme decides, whatever the key says.
        &[("TRACING_OTLP_ENDPOINT", &url), ("TRACING_OTLP_INSECURE", "false")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &plain), ("OTEL_EXPORTER_OTLP_INSECURE", "true")],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &url),
            ("TRACING_OTLP_ENDPOINT", ""),
        ],
        &[http, ("OTEL_EXPORTER_OTLP_ENDPOINT", &url)],
        &[http, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &whole)],
        &[
            http,
            ("TRACING_OTLP_ENDPOINT", &url),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            ("OTEL_TRACES_SAMPLER", ""),
        ],
    ];
    for form in forms {
        assert!(sends(on(Settings::on(&redis)), &collector, form).await, "{form:?}");
    }
    let over_tls = [("TRACING_OTLP_ENDPOINT", &*plain), ("OTEL_EXPORTER_OTLP_INSECURE", "")];
    assert!(!sends(on(Settings::on(&redis)), &collector, &over_tls).await, "TLS is the default");

    for protocol in ["grpc", "http/protobuf"] {
        let seen = collector.headers().len();
        let options = [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*url),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b,x-two=2"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"),
        ];
        assert!(sends(on(Settings::on(&redis)), &collector, &options).await, "{protocol}");
        let headers = &collector.headers()[seen];
        assert_eq!(
            (&headers["api-key"], &headers["x-two"]),
            (&"a b".parse().unwrap(), &"2".parse().unwrap())
        );
        let encoding = if protocol == "grpc" { "grpc-encoding" } else { "content-encoding" };
        assert_eq!(headers[encoding], "gzip");
    }
}

#[tokio::test]
async fn e2_e5_e7_the_environment_decides_what_is_kept_and_where_it_goes() {
    let redis = Redis::start().await;
    let collector = Collector::start().await;
    let on = || collector.of(Settings::on(&redis));
    let table: [(&[(&str, &str)], bool); 8] = [
        (&[("OTEL_TRACES_SAMPLER", "always_off")], false),
        (&[("OTEL_TRACES_SAMPLER", "always_off"), ("TRACING_SAMPLE_RATIO", "1")], true),
        (
            &[
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "0"),
            ],
            false,
        ),
        (&[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "1")], true),
        (&[("OTEL_TRACES_EXPORTER", "none")], false),
        (&[("OTEL_TRACES_EXPORTER", "otlp")], true),
        (&[("OTEL_SDK_DISABLED", "1")], true),
        (&[("OTEL_SDK_DISABLED", "true")], true),
    ];
    for (variables, arrives) in table {
        assert_eq!(sends(on(), &collector, variables).await, arrives, "{variables:?}");
    }
    // In the file the ratio is 0, and tracing is on; the variables of OpenTelemetry win over both.
    let file = "tracingEnabled: true\ntracingSampleRatio: 0\n";
    let by_file = || on().without("TRACING_ENABLED").file(&redis, file);
    assert!(!sends(by_file(), &collector, &[]).await);
    assert!(sends(by_file(), &collector, &[("OTEL_TRACES_SAMPLER", "always_on")]).await);
    let disabled = [("OTEL_TRACES_SAMPLER", "always_on"), ("OTEL_SDK_DISABLED", "TRUE")];
    assert!(!sends(by_file(), &collector, &disabled).await);

    // A sampler that does not look at the parent keeps what the parent would drop.
    let node = started(on(), &[("OTEL_TRACES_SAMPLER", "always_on")]).await;
    let task = json!({"command": "m", "payload": 1});
    let unsampled = INCOMING.replace("-01", "-00");
    node.producer().create(task).header("traceparent", &unsampled).await.json_of(202);
    collector.span("kept all the same", |span| span.trace_id == INCOMING[3..35]).await;

    let node = started(on(), &[("OTEL_TRACES_EXPORTER", "console")]).await;
    node.producer().created("m").await;
    let line = node
        .line(|line| {
            line["event"] == "span.ended" && line["context"]["span"]["name"] == "codeq.task.create"
        })
        .await;
    assert_eq!(line["context"]["span"]["kind"], "Producer", "{line}");
}

#[tokio::test]
async fn e6_t26_spans_say_which_process_made_them() {
    let redis = Redis::start().await;
    let collector = Collector::start().await;
    let settings = collector.of(Settings::on(&redis)).set("HOSTNAME", "pod-7");
    let plain = started(settings.clone(), &[]).await;
    plain.producer().created("m").await;
    let resource = collector.first("codeq.task.create").await.resource;
    assert_eq!(resource["service.name"], "codeq");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["service.instance.id"], "pod-7");
    assert_eq!(resource["os.type"], "linux");
    assert!(resource["process.pid"].as_i64().unwrap() > 1);
    assert_eq!(resource["telemetry.sdk.language"], "rust");
    for key in [
        "host.name",
        "process.runtime.name",
        "process.runtime.version",
        "telemetry.sdk.name",
        "telemetry.sdk.version",
        "deployment.environment.name",
    ] {
        assert!(resource.contains_key(key), "{key}: {resource:?}");
    }
    let named = [
        ("OTEL_SERVICE_NAME", "orders"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,k8s.pod.name=pod-7,team=blue"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
    ];
    let node = started(settings.clone(), &named).await;
    node.producer().created("m").await;
    node.producer().created("m").await;
    node.worker().post("/tasks/claim/batch", json!({"commands": ["m"], "count": 3})).await;
    let claim = collector.first("POST /v1/codeq/tasks/claim/batch").await;
    assert_eq!(claim.resource["service.name"], "orders");
    assert_eq!(claim.resource["k8s.pod.name"], "pod-7");
    assert_eq!(claim.resource["team"], "blue");
    assert_eq!(claim.links.len(), 1, "the SDK's limits hold");
    let node = started(settings, &[named[0], ("TRACING_SERVICE_NAME", "own")]).await;
    node.producer().created("m").await;
    collector.span("by its own name", |span| span.resource["service.name"] == "own").await;
}

#[tokio::test]
async fn t21_t25_e8_a_typo_is_refused_under_its_name_before_anything_runs() {
    let redis = Redis::start().await;
    for (name, wrong) in [
        ("TRACING_SAMPLE_RATIO", "abc"),
        ("TRACING_SAMPLE_RATIO", "1.5"),
        ("TRACING_ENABLED", "perhaps"),
        ("TRACING_OTLP_ENDPOINT", "ftp://collector"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_PROPAGATORS", "tracecontxt"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
    ] {
        let settings = Settings::on(&redis).set("TRACING_ENABLED", "true").set(name, wrong);
        let (code, lines) = settings.fails().await;
        assert_ne!(code, Some(0), "{name}={wrong}");
        let told = lines.iter().any(|line| line.contains(name) || line.contains("racing"));
        assert!(told, "{name}={wrong}: {lines:#?}");
    }
}

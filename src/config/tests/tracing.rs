//! `TRACING_` over `OTEL_` over the file over the default.

use super::*;

fn tracing(yaml: &str, env: &[(&str, &str)]) -> Tracing {
    load_from(yaml, env).unwrap_or_else(|problems| panic!("{env:?}: {problems}")).tracing
}

#[test]
fn e1_e2_the_four_sources_rank_alike_for_every_key() {
    type Var = (&'static str, &'static str);
    // YAML; an OTEL_ and a TRACING_ variable; what to look at, and what it is by each source.
    type Row = (&'static str, Var, Var, fn(&Tracing) -> String, [&'static str; 4]);
    let table: &[Row] = &[
        (
            "tracingEnabled: true",
            ("OTEL_SDK_DISABLED", "true"),
            ("TRACING_ENABLED", "1"),
            |t| t.enabled.to_string(),
            ["false", "true", "false", "true"],
        ),
        (
            "tracingServiceName: file",
            ("OTEL_SERVICE_NAME", "otel"),
            ("TRACING_SERVICE_NAME", "own"),
            |t| t.service_name.clone(),
            ["codeq", "file", "otel", "own"],
        ),
        (
            "tracingServiceName: file",
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name = my%20name"),
            ("TRACING_SERVICE_NAME", "own"),
            |t| t.service_name.clone(),
            ["codeq", "file", "my name", "own"],
        ),
        (
            "tracingOtlpEndpoint: http://file:1",
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:2"),
            ("TRACING_OTLP_ENDPOINT", "own:3"),
            |t| t.endpoint.url.clone(),
            ["https://localhost:4317", "http://file:1", "http://otel:2", "https://own:3"],
        ),
        (
            "tracingOtlpInsecure: true",
            ("OTEL_EXPORTER_OTLP_INSECURE", "false"),
            ("TRACING_OTLP_INSECURE", "y"),
            |t| (!t.endpoint.tls).to_string(),
            ["false", "true", "false", "true"],
        ),
        (
            "tracingSampleRatio: 0.5",
            ("OTEL_TRACES_SAMPLER", "always_off"),
            ("TRACING_SAMPLE_RATIO", "0.1"),
            |t| format!("{} {}", t.sampler.ratio, t.sampler.parent_based),
            ["1 true", "0.5 true", "0 false", "0.1 true"],
        ),
    ];
    for (yaml, otel, own, get, [default, file, by_otel, by_own]) in table {
        assert_eq!(get(&tracing("", &[])), *default, "{yaml}");
        assert_eq!(get(&tracing(yaml, &[])), *file, "{yaml}");
        assert_eq!(get(&tracing(yaml, &[*otel])), *by_otel, "{otel:?}");
        assert_eq!(get(&tracing(yaml, &[*otel, *own])), *by_own, "{own:?}");
        assert_eq!(get(&tracing(yaml, &[(otel.0, "")])), *file, "an empty {}", otel.0);
    }
}

#[test]
fn a_scheme_decides_about_tls_whatever_the_key_says() {
    let endpoint = |env: &[(&str, &str)]| tracing("", env).endpoint;
    let insecure = ("TRACING_OTLP_INSECURE", "true");
    assert!(endpoint(&[insecure, ("TRACING_OTLP_ENDPOINT", "https://c:1")]).tls);
    assert!(!endpoint(&[("TRACING_OTLP_ENDPOINT", "http://c:1")]).tls);
    assert_eq!(endpoint(&[insecure, ("TRACING_OTLP_ENDPOINT", "c")]).url, "http://c:4317");
    assert_eq!(endpoint(&[insecure, ("TRACING_OTLP_ENDPOINT", "[::1]:9")]).url, "http://[::1]:9");
}

#[test]
fn over_http_the_path_is_added_where_it_is_not_given() {
    let url = |env: &[(&str, &str)]| {
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        tracing("", &[&[http], env].concat()).endpoint.url
    };
    assert_eq!(url(&[]), "https://localhost:4318/v1/traces");
    assert_eq!(url(&[("TRACING_OTLP_ENDPOINT", "http://c:1")]), "http://c:1/v1/traces");
    assert_eq!(url(&[("TRACING_OTLP_ENDPOINT", "http://c:1/mine")]), "http://c:1/mine");
    assert_eq!(url(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1/o/")]), "http://c:1/o/v1/traces");
    let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1/o");
    assert_eq!(url(&[whole, ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://d:1")]), "http://c:1/o");
}

#[test]
fn the_samplers_of_opentelemetry_are_known() {
    let table = [
        ("always_on", false, 1.0),
        ("always_off", false, 0.0),
        ("traceidratio", false, 0.25),
        ("parentbased_always_on", true, 1.0),
        ("parentbased_always_off", true, 0.0),
        ("parentbased_traceidratio", true, 0.25),
    ];
    for (name, parent_based, ratio) in table {
        let env = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", "0.25")];
        assert_eq!(tracing("", &env).sampler, Sampler { parent_based, ratio }, "{name}");
    }
}

#[test]
fn words_of_opentelemetry_are_true_only_when_they_say_true() {
    for (word, disabled) in [("TRUE", true), ("True", true), ("1", false), ("yes", false)] {
        let env = [("OTEL_SDK_DISABLED", word)];
        let settings = load_from("tracingEnabled: true", &env).unwrap();
        assert_eq!(settings.tracing.enabled, !disabled, "{word}");
        assert_eq!(settings.warnings.is_empty(), disabled, "{word}");
    }
    for word in ["1", "yes", "Y", "on", "true"] {
        assert!(tracing("", &[("TRACING_ENABLED", word)]).enabled, "{word}");
    }
}

#[test]
fn propagators_exporter_and_the_rest_come_from_their_variables() {
    let passes = |text| {
        let tracing = tracing("", &[("OTEL_PROPAGATORS", text)]);
        (tracing.propagate_trace_context, tracing.propagate_baggage)
    };
    assert_eq!(passes(""), (true, true));
    assert_eq!(passes("none"), (false, false));
    assert_eq!(passes("tracecontext"), (true, false));
    assert_eq!(passes("baggage, b3"), (false, true));
    let all = tracing(
        "tracing: { baggage: false }",
        &[
            ("OTEL_TRACES_EXPORTER", "console"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b+c%3D=d,x=1"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_LOG_LEVEL", "none"),
        ],
    );
    assert_eq!(all.exporter, TraceExporter::Console);
    assert_eq!(all.timeout, Some(Duration::from_millis(250)));
    assert_eq!(all.compression, Some(Compression::Gzip));
    assert_eq!(all.sdk_log_level, Some(::tracing::level_filters::LevelFilter::OFF));
    assert!(!all.propagate_baggage);
    use secrecy::ExposeSecret as _;
    assert_eq!(all.headers[0].0, "api-key");
    assert_eq!(all.headers[0].1.expose_secret(), "a b+c==d");
}

#[test]
fn a_typo_is_refused_under_the_name_it_was_made_in() {
    let table = [
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_PROPAGATORS", "tracecontxt"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://h"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:p@h"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "lzma"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no value"),
        ("OTEL_LOG_LEVEL", "loud"),
    ];
    for (name, text) in table {
        let problems = load_env(&[(name, text)]).unwrap_err();
        assert_eq!(problems.problems[0].key, name, "{problems}");
    }
    let env = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")];
    assert_eq!(load_env(&env).unwrap_err().problems[0].key, "OTEL_TRACES_SAMPLER_ARG");
}

//! Who may call.

use secrecy::ExposeSecret as _;

use super::*;

/// The producer's provider from a variable.
fn producer(kind: &str, config: &str) -> Result<Provider, Vec<String>> {
    let env = [("PRODUCER_AUTH_PROVIDER", kind), ("PRODUCER_AUTH_CONFIG", config)];
    match load_env(&env) {
        Ok(settings) => Ok(settings.auth.producer.expect("a provider was named")),
        Err(problems) => {
            assert!(problems.problems.iter().all(|p| p.key == "producerAuthConfig"), "{problems}");
            Err(problems.problems.into_iter().map(|problem| problem.rule).collect())
        }
    }
}

fn tokens(config: &str) -> Vec<StaticToken> {
    match producer("static", config) {
        Ok(Provider::Static(tokens)) => tokens,
        other => panic!("{config}: {other:?}"),
    }
}

#[test]
fn nobody_may_call_when_nothing_is_configured() {
    let auth = Settings::defaults().auth;
    assert!(auth.producer.is_none() && auth.worker.is_none() && !auth.allow_producer_as_worker);
}

#[test]
fn a_static_provider_is_a_token_an_object_or_a_list() {
    for config in ["tok", "\"tok\"", "{\"token\":\"tok\"}", "[\"tok\"]", "[{\"token\":\"tok\"}]"] {
        let found = tokens(config);
        assert_eq!(found.len(), 1, "{config}");
        assert_eq!(found[0].token.expose_secret(), "tok");
        assert_eq!(found[0].subject, "static");
    }
    let full = tokens(
        r#"[{"token":"t","subject":"s","email":"e","scopes":["a"],"eventTypes":["*"],"raw":{"tid":"acme"}},"u"]"#,
    );
    assert_eq!((&*full[0].subject, full[0].email.as_deref()), ("s", Some("e")));
    assert_eq!((&full[0].scopes[0], &full[0].event_types[0]), (&"a".into(), &"*".into()));
    assert_eq!(full[0].raw["tid"], "acme");
    assert_eq!(full.len(), 2);
}

#[test]
fn a_provider_may_be_written_as_yaml() {
    let yaml = "workerAuthProvider: static\nworkerAuthConfig:\n  - { token: a, scopes: [s], \
                eventTypes: ['*'], raw: { tid: acme } }\n  - b";
    let settings = load_from(yaml, &[]).unwrap();
    let Some(Provider::Static(found)) = settings.auth.worker else { panic!("not static") };
    assert_eq!((found.len(), &found[0].raw["tid"]), (2, &"acme".into()));
    // The second token has no scope, which a worker needs.
    assert!(settings.warnings[0].contains("1 of its tokens"), "{:?}", settings.warnings);
}

#[test]
fn flat_keys_are_a_key_set_and_fill_what_a_provider_leaves_out() {
    let env = [
        ("WORKER_JWKS_URL", "https://id/w"),
        ("WORKER_ISSUER", "me"),
        ("ALLOWED_CLOCK_SKEW_SECONDS", "5"),
    ];
    let Some(Provider::Jwks(jwks)) = load_env(&env).unwrap().auth.worker else { panic!("no jwks") };
    assert_eq!((jwks.url.as_str(), jwks.issuer.as_deref()), ("https://id/w", Some("me")));
    assert_eq!(jwks.audience.as_deref(), Some("codeq-worker"));
    assert_eq!((jwks.clock_skew.as_secs(), jwks.http_timeout.as_secs()), (5, 5));

    let mut env = env.to_vec();
    let config = r#"{"jwksUrl":"https://other/w","clockSkewSeconds":9,"httpTimeoutMs":100}"#;
    env.extend([("WORKER_AUTH_PROVIDER", "jwks"), ("WORKER_AUTH_CONFIG", config)]);
    let Some(Provider::Jwks(jwks)) = load_env(&env).unwrap().auth.worker else { panic!("no jwks") };
    assert_eq!((jwks.url.as_str(), jwks.issuer.as_deref()), ("https://other/w", Some("me")));
    assert_eq!((jwks.clock_skew.as_secs(), jwks.http_timeout.as_millis()), (9, 100));
}

#[test]
fn several_providers_are_two_to_four_of_the_others() {
    let entry = r#"{"type":"static","config":"a"}"#;
    let list = |n: usize| format!("{{\"providers\":[{}]}}", vec![entry; n].join(","));
    for n in 2..=4 {
        let Ok(Provider::Multi(found)) = producer("multi", &list(n)) else { panic!("{n}") };
        assert_eq!(found.len(), n);
    }
    for n in [0, 1, 5] {
        assert!(producer("multi", &list(n)).is_err(), "{n}");
    }
    let nested = r#"{"providers":[{"type":"multi","config":{}},{"type":"jwks","config":{}}]}"#;
    assert_eq!(
        producer("multi", nested).unwrap_err(),
        ["providers[0].type must be jwks or static", "providers[1].config.jwksUrl is required"]
    );
}

#[test]
fn every_fault_of_a_provider_is_told_by_its_place() {
    let table = [
        ("static", "{\"token\":\"\"}", "token must be printable ASCII without spaces"),
        ("static", "{\"token\":\"a b\"}", "token must be printable ASCII without spaces"),
        ("static", "[]", "must not be an empty list"),
        ("static", "[\"a\",5]", "[1] must be an object"),
        ("static", "{\"token\":\"a\",\"scope\":[]}", "has an unknown field; did you mean scopes?"),
        ("static", "{\"token\":\"a\",\"scopes\":\"x\"}", "scopes must be a list of texts"),
        ("static", "{\"token\":\"a\",\"raw\":5}", "raw must be an object"),
        ("static", "{\"token\"", "is not JSON: see line 1, column 8"),
        ("jwks", "{}", "jwksUrl is required"),
        (
            "jwks",
            "{\"jwksUrl\":\"https://u:p@h\"}",
            "jwksUrl must not hold a user name or password",
        ),
        (
            "jwks",
            "{\"jwksUrl\":\"https://h\",\"clockSkewSeconds\":3601}",
            "clockSkewSeconds must be a whole number, 0 to 3600",
        ),
        ("multi", "{\"providers\":5}", "providers must be a list of two to four"),
    ];
    for (kind, config, rule) in table {
        assert_eq!(producer(kind, config).unwrap_err(), [rule], "{config}");
    }
    assert!(producer("static", "").is_err(), "no config at all");
}

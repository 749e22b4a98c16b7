//! Producers, workers, either, and tokens that stand in the settings.

use super::*;
use crate::model::Command;

fn statics(tokens: impl IntoIterator<Item = StaticToken>) -> Option<Provider> {
    Some(Provider::Static(tokens.into_iter().collect()))
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

#[tokio::test]
async fn static_tokens_carry_what_the_settings_say() {
    let raw = json!({"tenantId": "acme", "role": "admin", "workerGroup": "night", "scope": "evil"});
    let full = StaticToken {
        subject: "ops".to_owned(),
        scopes: strings(["codeq:claim"]),
        event_types: strings(["Mail"]),
        raw: raw.as_object().unwrap().clone(),
        ..fixed("secret-2")
    };
    let bench = Bench::new(statics([fixed("secret-1"), full, fixed("secret-3")]), None);
    let principal = bench.auth.producer("secret-2").await.unwrap();
    assert_eq!(principal.subject, "ops");
    assert_eq!(principal.tenant.as_ref().unwrap().as_str(), "acme");
    assert_eq!(principal.worker_group.as_deref(), Some("night"));
    assert!(principal.is_admin() && principal.has_scope("codeq:claim"));
    assert!(!principal.has_scope("evil"), "settings win over raw claims");
    assert!(principal.may_handle(&Command::parse("MAIL").unwrap()));
    let plain = bench.auth.producer("secret-3").await.unwrap();
    assert_eq!(plain.tenant.as_ref().unwrap().as_str(), "static");
    for wrong in ["", "secret-", "secret-22", "Secret-2", "secret-4", "a.b.c"] {
        assert_eq!(bench.producer_detail(wrong).await, "token not recognised", "{wrong}");
    }
    assert_eq!(bench.refused(Role::Producer, AuthFailure::Signature), 6);
    assert_eq!(bench.cached(Cache::TokenMiss), 0, "nothing to remember about them");
}

#[tokio::test]
async fn without_a_provider_nobody_is_let_in() {
    let bench = Bench::new(None, None);
    assert!(bench.auth.producer("").await.is_err());
    assert!(bench.auth.worker("x").await.is_err());
    assert!(bench.auth.either("x").await.is_err());
    let stop = CancellationToken::new();
    stop.cancel();
    bench.auth.clone().run(stop).await;
}

#[tokio::test]
async fn a_worker_token_needs_event_types_and_a_scope() {
    let signer = Signer::ed("kid");
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(None, Some(jwks(&idp)));
    let answer = async |more: Value| {
        let mut claims = worker_claims();
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        bench.auth.worker(&signer.token(&claims)).await
    };
    let good = answer(json!({})).await.unwrap();
    assert!(good.may_handle(&Command::parse("mail").unwrap()));
    for event_types in [json!(null), json!([]), json!("mail"), json!([""]), json!([5])] {
        let denied = answer(json!({"eventTypes": event_types})).await.unwrap_err();
        assert_eq!(denied, Denied::MissingEventTypes);
        assert_eq!(denied.to_string(), "missing eventTypes");
    }
    for scope in [json!(null), json!(""), json!(" "), json!([]), json!({"a": 1})] {
        let denied = answer(json!({"scope": scope})).await.unwrap_err();
        assert_eq!(denied, Denied::MissingScope);
        assert_eq!(denied.to_string(), "missing scope");
    }
    let nothing = answer(json!({"scope": "", "eventTypes": []})).await.unwrap_err();
    assert_eq!(nothing, Denied::MissingEventTypes);
    assert_eq!(bench.refused(Role::Worker, AuthFailure::Scope), 11);
}

#[tokio::test]
async fn a_producer_may_work_only_when_the_settings_allow_it() {
    let signer = Signer::ed("kid");
    let idp = Idp::start(&[&signer]).await;
    for allow_producer_as_worker in [false, true] {
        let bench = Bench::with(config::Auth {
            producer: Some(Provider::Multi(vec![Provider::Static(vec![fixed("p")]), jwks(&idp)])),
            worker: statics([StaticToken { event_types: strings(["a"]), ..fixed("w") }]),
            allow_producer_as_worker,
        });
        let signed = signer.token(&claims(json!({"scope": "codeq:admin"})));
        for token in ["p", &signed, &signed] {
            let Ok(worker) = bench.auth.worker(token).await else {
                assert!(!allow_producer_as_worker);
                continue;
            };
            assert!(allow_producer_as_worker);
            assert!(WORKER_SCOPES.iter().all(|scope| worker.has_scope(scope)));
            assert_eq!(worker.event_types, EventTypes::All);
            let producer = bench.auth.producer(token).await.unwrap();
            assert!(producer.event_types.is_empty() && !producer.has_scope("codeq:claim"));
        }
        assert_eq!(bench.auth.worker("w").await, Err(Denied::MissingScope));
        assert_eq!(bench.cached(Cache::TokenHit), if allow_producer_as_worker { 2 } else { 0 });
    }
}

#[tokio::test]
async fn a_workers_own_token_is_not_widened_by_allow_producer_as_worker() {
    let signer = Signer::ed("kid");
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::with(config::Auth {
        producer: Some(jwks(&idp)),
        worker: Some(jwks(&idp)),
        allow_producer_as_worker: true,
    });
    let worker = bench.auth.worker(&signer.token(&worker_claims())).await.unwrap();
    assert!(!worker.may_handle(&Command::parse("other").unwrap()));
    assert!(!worker.has_scope("codeq:result"));
}

#[tokio::test]
async fn either_takes_both_kinds_and_holds_workers_to_their_rule() {
    let (producers, workers) = (Signer::ed("p"), Signer::p256("w"));
    let (producer_idp, worker_idp) =
        (Idp::start(&[&producers]).await, Idp::start(&[&workers]).await);
    let bench = Bench::new(Some(jwks(&producer_idp)), Some(jwks(&worker_idp)));
    let producer = producers.token(&claims(json!({})));
    let worker = workers.token(&worker_claims());
    assert_eq!(bench.auth.either(&producer).await.unwrap().subject, "somebody");
    assert_eq!(bench.auth.either(&worker).await.unwrap().subject, "worker-1");
    let hits = bench.cached(Cache::TokenHit);
    assert!(bench.auth.worker(&worker).await.is_ok());
    assert!(bench.auth.producer(&producer).await.is_ok());
    assert_eq!(bench.cached(Cache::TokenHit), hits + 2, "one memory per validator");
    assert!(bench.auth.worker(&producer).await.is_err());
    assert!(bench.auth.producer(&worker).await.is_err());
    let poor = workers.token(&claims(json!({"scope": "codeq:claim"})));
    assert_eq!(bench.auth.either(&poor).await, Err(Denied::MissingEventTypes));
    bench.clock.advance(Duration::from_secs(11));
    let requests = producer_idp.requests();
    let denied = bench.auth.either(&workers.token(&claims(json!({"exp": 1})))).await;
    assert_eq!(denied, Err(Denied::InvalidToken { detail: "token expired" }));
    assert_eq!(producer_idp.requests(), requests, "its key was known, so nobody is asked");
    assert_eq!(bench.refused(Role::Worker, AuthFailure::Expired), 1);
}

#[tokio::test]
async fn of_several_providers_the_first_that_accepts_decides() {
    let (one, other) = (Signer::ed("kid"), Signer::ed("kid"));
    let (first, second) = (Idp::start(&[&one]).await, Idp::start(&[&other]).await);
    let multi = Provider::Multi(vec![
        Provider::Static(vec![StaticToken { subject: "fixed".to_owned(), ..fixed("t") }]),
        jwks(&first),
        jwks(&second),
    ]);
    let bench = Bench::new(Some(multi), None);
    for signer in [&one, &other] {
        assert!(bench.auth.producer(&signer.token(&claims(json!({})))).await.is_ok());
    }
    assert_eq!(bench.auth.producer("t").await.unwrap().subject, "fixed");
    let expired = other.token(&claims(json!({"exp": 1})));
    assert_eq!(bench.producer_detail(&expired).await, "token expired");
    assert_eq!(bench.producer_detail("x").await, "not a well-formed token");
}

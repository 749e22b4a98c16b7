//! The key set's endpoint: rotation, failure, and what is remembered meanwhile.

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::*;

const A_WHILE: Duration = Duration::from_secs(11);

#[tokio::test]
async fn an_unknown_kid_asks_again_but_at_most_once_in_ten_seconds() {
    let (old, new) = (Signer::ed("old"), Signer::ed("new"));
    let idp = Idp::start(&[&old]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let (old_token, new_token) = (old.token(&claims(json!({}))), new.token(&claims(json!({}))));
    assert!(bench.auth.producer(&old_token).await.is_ok());
    idp.publishes(&[&old, &new]);
    for _ in 0..5 {
        assert_eq!(bench.producer_detail(&new_token).await, "signature not accepted");
    }
    assert_eq!(idp.requests(), 1);
    assert_eq!(bench.refused(Role::Producer, AuthFailure::UnknownKid), 5);
    bench.clock.advance(A_WHILE);
    assert!(bench.auth.producer(&new_token).await.is_ok());
    assert_eq!(idp.requests(), 2);
    assert!(bench.auth.producer(&old_token).await.is_ok());
}

#[tokio::test]
async fn a_wrong_signature_or_an_expired_token_causes_no_request() {
    let (signer, impostor) = (Signer::ed("kid"), Signer::ed("kid"));
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    bench.auth.producer(&signer.token(&claims(json!({})))).await.unwrap();
    bench.clock.advance(A_WHILE);
    let forged = impostor.token(&claims(json!({})));
    assert_eq!(bench.producer_detail(&forged).await, "signature not accepted");
    assert_eq!(
        bench.producer_detail(&signer.token(&claims(json!({"exp": 5})))).await,
        "token expired"
    );
    assert_eq!(idp.requests(), 1);
}

#[tokio::test]
async fn many_first_tokens_wait_for_one_request() {
    let signer = Signer::ed("kid");
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let tokens: Vec<_> =
        (0..50).map(|n| signer.token(&claims(json!({"sub": format!("s{n}")})))).collect();
    let answers = join_all(tokens.iter().map(|token| bench.auth.producer(token))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(idp.requests(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_end_the_request_for_the_others() {
    let signer = Signer::ed("kid");
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let token = signer.token(&claims(json!({})));
    let impatient = timeout(Duration::ZERO, bench.auth.producer(&token)).await;
    assert!(impatient.is_err());
    assert!(bench.auth.producer(&token).await.is_ok());
    assert_eq!(idp.requests(), 1);
}

#[tokio::test]
async fn a_failing_endpoint_leaves_the_last_keys_in_force() {
    let (signer, unknown) = (Signer::ed("kid"), Signer::ed("unknown"));
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let remembered = signer.token(&claims(json!({})));
    bench.auth.producer(&remembered).await.unwrap();
    let elsewhere = Idp::start(&[&unknown]).await;
    let failures = [
        Answer::Status(500),
        Answer::Status(404),
        Answer::Status(204),
        Answer::Text("<html>we are down</html>"),
        Answer::Text(r#"{"keys":"#),
        Answer::Endless,
        Answer::Elsewhere(elsewhere.url.clone()),
    ];
    for (n, failure) in failures.into_iter().enumerate() {
        idp.answers(failure);
        bench.clock.advance(A_WHILE);
        let token = unknown.token(&claims(json!({})));
        assert_eq!(bench.producer_detail(&token).await, "signature not accepted", "{n}");
        assert_eq!(idp.requests(), n + 2, "{n}");
        assert!(bench.auth.producer(&remembered).await.is_ok(), "{n}");
        let fresh = signer.token(&claims(json!({"jti": n})));
        assert!(bench.auth.producer(&fresh).await.is_ok(), "{n}");
    }
    assert_eq!(elsewhere.requests(), 0, "a redirect is not followed");
    let read = idp.sent.load(std::sync::atomic::Ordering::SeqCst);
    assert!(read < 32 * 1024 * 1024, "{read} bytes of an endless answer were read");
    assert!(bench.auth.jwks_age().unwrap() >= A_WHILE * 7);
    idp.publishes(&[&unknown]);
    bench.clock.advance(A_WHILE);
    assert!(bench.auth.producer(&unknown.token(&claims(json!({})))).await.is_ok());
    assert!(bench.auth.jwks_age().unwrap() < A_WHILE);
}

#[tokio::test]
async fn without_any_keys_yet_a_token_is_refused_and_accepted_once_the_endpoint_is_back() {
    let signer = Signer::ed("kid");
    let idp = Idp::start(&[&signer]).await;
    idp.answers(Answer::Status(503));
    let bench = Bench::new(Some(jwks(&idp)), None);
    let token = signer.token(&claims(json!({})));
    assert_eq!(bench.producer_detail(&token).await, "signing keys not available");
    assert_eq!(bench.auth.jwks_age(), None);
    idp.publishes(&[&signer]);
    bench.clock.advance(A_WHILE);
    assert!(bench.auth.producer(&token).await.is_ok());
}

#[tokio::test]
async fn a_hanging_endpoint_holds_up_only_tokens_with_an_unknown_kid_and_only_so_long() {
    let (signer, unknown) = (Signer::ed("kid"), Signer::ed("unknown"));
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(impatient(&idp)), None);
    bench.auth.producer(&signer.token(&claims(json!({})))).await.unwrap();
    idp.answers(Answer::Never);
    bench.clock.advance(A_WHILE);
    let auth = bench.auth.clone();
    let token = unknown.token(&claims(json!({})));
    let held_up = tokio::spawn(async move { auth.producer(&token).await });
    while idp.requests() < 2 {
        tokio::task::yield_now().await;
    }
    let fresh = signer.token(&claims(json!({"jti": 1})));
    assert!(bench.auth.producer(&fresh).await.is_ok());
    assert!(!held_up.is_finished());
    assert!(held_up.await.unwrap().is_err());
}

#[tokio::test]
async fn a_workers_token_does_not_wait_for_the_producers_endpoint() {
    let (producers, workers) = (Signer::ed("p"), Signer::ed("w"));
    let (producer_idp, worker_idp) =
        (Idp::start(&[&producers]).await, Idp::start(&[&workers]).await);
    let bench = Bench::new(Some(jwks(&producer_idp)), Some(jwks(&worker_idp)));
    bench.auth.worker(&workers.token(&worker_claims())).await.unwrap();
    producer_idp.answers(Answer::Never);
    let began = Instant::now();
    let mut other = worker_claims();
    other["sub"] = "worker-2".into();
    bench.auth.either(&workers.token(&other)).await.unwrap();
    assert_eq!(producer_idp.requests(), 0);
    assert!(began.elapsed() < Duration::from_secs(20), "the endpoint's time-out");
}

#[tokio::test]
async fn a_verified_token_is_remembered_and_the_keys_are_not_looked_at_again() {
    let signer = Signer::ed("kid");
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let token = signer.token(&claims(json!({})));
    let first = bench.auth.producer(&token).await.unwrap();
    let second = bench.auth.producer(&token).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!((bench.cached(Cache::TokenMiss), bench.cached(Cache::TokenHit)), (1, 1));
    assert_eq!((bench.cached(Cache::JwksMiss), bench.cached(Cache::JwksHit)), (1, 0));
    let other = signer.token(&claims(json!({"jti": 1})));
    bench.auth.producer(&other).await.unwrap();
    assert_eq!((bench.cached(Cache::JwksMiss), bench.cached(Cache::JwksHit)), (1, 1));
}

#[tokio::test]
async fn a_remembered_token_ends_when_it_expires() {
    let signer = Signer::ed("kid");
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let token = signer.token(&claims(json!({"exp": bench.unix_seconds() + 100})));
    bench.auth.producer(&token).await.unwrap();
    bench.clock.advance(Duration::from_secs(100));
    assert!(bench.auth.producer(&token).await.is_ok(), "within the skew");
    bench.clock.advance(SKEW);
    assert_eq!(bench.producer_detail(&token).await, "token expired");
}

#[tokio::test]
async fn a_key_that_leaves_the_set_takes_its_remembered_tokens_along() {
    let (stays, leaves, news) = (Signer::ed("stays"), Signer::ed("leaves"), Signer::ed("news"));
    let idp = Idp::start(&[&stays, &leaves]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let tokens = [&stays, &leaves].map(|signer| signer.token(&claims(json!({}))));
    for token in &tokens {
        bench.auth.producer(token).await.unwrap();
    }
    idp.publishes(&[&news, &stays]);
    bench.clock.advance(A_WHILE);
    bench.auth.producer(&news.token(&claims(json!({})))).await.unwrap();
    let hits = bench.cached(Cache::TokenHit);
    assert!(bench.auth.producer(&tokens[0]).await.is_ok());
    assert_eq!(bench.cached(Cache::TokenHit), hits + 1, "remembered across the refresh");
    assert!(bench.auth.producer(&tokens[1]).await.is_err());
}

#[tokio::test]
async fn a_new_key_under_an_old_id_forgets_what_the_old_one_signed() {
    let (before, after) = (Signer::ed("same"), Signer::ed("same"));
    let idp = Idp::start(&[&before]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let token = before.token(&claims(json!({})));
    bench.auth.producer(&token).await.unwrap();
    idp.publishes(&[&after]);
    bench.clock.advance(A_WHILE);
    let unknown = Signer::ed("unknown").token(&claims(json!({})));
    assert!(bench.auth.producer(&unknown).await.is_err());
    assert_eq!(bench.producer_detail(&token).await, "signature not accepted");
    assert!(bench.auth.producer(&after.token(&claims(json!({})))).await.is_ok());
}

#[tokio::test]
async fn refused_tokens_are_not_remembered() {
    let signer = Signer::ed("kid");
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(jwks(&idp)), Some(jwks(&idp)));
    for n in 0..20 {
        let expired = signer.token(&claims(json!({"exp": n})));
        assert!(bench.auth.either(&expired).await.is_err());
        assert!(bench.auth.worker(&signer.token(&claims(json!({"jti": n})))).await.is_err());
    }
    let ways = bench.auth.0.either.iter().chain(&bench.auth.0.worker);
    assert_eq!(ways.map(|way| way.remembered.len()).sum::<usize>(), 0);
}

#[tokio::test]
async fn the_loop_fetches_at_once_and_ends_at_stop() {
    let signer = Signer::ed("kid");
    let (one, other) = (Idp::start(&[&signer]).await, Idp::start(&[&signer]).await);
    let multi = Provider::Multi(vec![Provider::Static(vec![fixed("t")]), jwks(&one)]);
    let bench = Bench::new(Some(multi), Some(jwks(&other)));
    let stop = CancellationToken::new();
    let running = tokio::spawn(bench.auth.clone().run(stop.clone()));
    while bench.auth.jwks_age().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!((one.requests(), other.requests()), (1, 1));
    stop.cancel();
    running.await.unwrap();
}

//! Who a token is: static, JWKS, several providers.

use serde_json::{Value, json};

use crate::support::callers::{WORKER_SCOPES, producers, workers};
use crate::support::{Idp, Node, Redis};

#[tokio::test]
async fn jwts_of_an_identity_provider_work_for_producers_and_workers() {
    let redis = Redis::start().await;
    let idp = Idp::start().await;
    let config = idp.provider().to_string();
    let node = Node::with(
        &redis,
        &[
            ("PRODUCER_AUTH_PROVIDER", "jwks"),
            ("PRODUCER_AUTH_CONFIG", &config),
            ("WORKER_AUTH_PROVIDER", "jwks"),
            ("WORKER_AUTH_CONFIG", &config),
        ],
    )
    .await;
    let producer = idp.token(json!({"sub": "svc-1", "tid": "acme"}));
    let created = node.token(&producer).created("m").await;
    assert_eq!(created["tenantId"], "acme");
    for scope in [json!(WORKER_SCOPES.join(" ")), json!(WORKER_SCOPES)] {
        node.token(&producer).created("m").await;
        let worker =
            idp.token(json!({"sub": "w-1", "tid": "acme", "eventTypes": ["m"], "scope": scope}));
        let claimed = node.token(&worker).claimed("M").await;
        assert_eq!(claimed["workerId"], "w-1");
    }
    let admin = idp.token(json!({"sub": "ops", "tid": "acme", "role": "Admin"}));
    assert_eq!(node.token(&admin).get("/admin/queues").await.status, 200, "a role has no case");
    let aud = idp.token(json!({"sub": "svc-1", "tid": "acme", "aud": ["other", "codeq"]}));
    assert_eq!(node.token(&aud).read("x").await.status, 404);
    assert!(idp.fetched() <= 2, "keys are cached: {}", idp.fetched());
}

#[tokio::test]
async fn a_jwt_that_is_not_right_in_every_point_is_refused() {
    let redis = Redis::start().await;
    let (idp, stranger) = (Idp::start().await, Idp::start().await);
    let config = idp.provider().to_string();
    let node = Node::with(
        &redis,
        &[("PRODUCER_AUTH_PROVIDER", "jwks"), ("PRODUCER_AUTH_CONFIG", &config)],
    )
    .await;
    let good = json!({"sub": "s", "tid": "acme"});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        idp.token(claims)
    };
    let now = jiff::Timestamp::now().as_second();
    let right = idp.token(good.clone());
    assert_eq!(node.token(&right).read("x").await.status, 404);
    let full = json!({"sub": "s", "tid": "acme", "iss": "https://issuer.test", "aud": "codeq", "exp": now + 60});
    let mut tampered: Vec<char> = right.chars().collect();
    let middle = right.find('.').unwrap() + 5;
    tampered[middle] = if tampered[middle] == 'A' { 'B' } else { 'A' };
    for (why, token) in [
        ("not a JWT", "x.y.z".to_owned()),
        ("another issuer's key", stranger.token(good.clone())),
        ("changed", tampered.into_iter().collect()),
        ("expired", with("exp", json!(now - 120))),
        ("not yet", with("nbf", json!(now + 120))),
        ("issuer", with("iss", json!("https://other.test"))),
        ("audience", with("aud", json!("other"))),
        ("no subject", with("sub", Value::Null)),
        ("no end", with("exp", Value::Null)),
        ("none", idp.signed(json!({"alg": "none", "kid": "k1"}), &full)),
        ("hmac", idp.signed(json!({"alg": "HS256", "kid": "k1"}), &full)),
        ("other algorithm", idp.signed(json!({"alg": "RS256", "kid": "k1"}), &full)),
        ("unknown key", idp.signed(json!({"alg": "EdDSA", "kid": "k2"}), &full)),
        ("crit", idp.signed(json!({"alg": "EdDSA", "kid": "k1", "crit": ["exp"]}), &full)),
    ] {
        let answer = node.token(&token).read("x").await;
        assert_eq!(answer.refusal(), "401 unauthorized invalid token", "{why}");
        assert!(!answer.text().contains(&token));
    }
    let skewed = with("exp", json!(now - 30));
    assert_eq!(
        node.token(&skewed).read("x").await.status,
        404,
        "within the clock skew of a minute"
    );
}

#[tokio::test]
async fn the_tenant_is_what_all_claims_agree_on_else_the_subject() {
    let redis = Redis::start().await;
    let idp = Idp::start().await;
    let config = idp.provider().to_string();
    let node = Node::with(
        &redis,
        &[("PRODUCER_AUTH_PROVIDER", "jwks"), ("PRODUCER_AUTH_CONFIG", &config)],
    )
    .await;
    let tenant = async |claims: Value| {
        let answer =
            node.token(&idp.token(claims)).create(json!({"command": "m", "payload": 1})).await;
        match answer.status {
            202 => answer.json()["tenantId"].as_str().unwrap().to_owned(),
            _ => answer.refusal(),
        }
    };
    let refused = "403 invalid_tenant invalid tenant claims";
    for (claims, named) in [
        (json!({"sub": "s-1", "tid": "acme"}), "acme"),
        (json!({"sub": "s-1", "tenantId": "acme"}), "acme"),
        (json!({"sub": "s-1", "tenant_id": "acme"}), "acme"),
        (json!({"sub": "s-1", "organizationId": "acme"}), "acme"),
        (json!({"sub": "s-1", "organization_id": "acme"}), "acme"),
        (json!({"sub": "s-1", "tid": "acme", "organization_id": "acme"}), "acme"),
        (json!({"sub": "s-1"}), "s-1"),
        (json!({"sub": "s-1", "tid": "acme", "tenantId": "globex"}), refused),
        (json!({"sub": "s-1", "tid": "Acme"}), refused),
        (json!({"sub": "s-1", "tid": "a"}), refused),
        (json!({"sub": "s-1", "tid": ""}), refused),
        (json!({"sub": "s-1", "tid": 7}), refused),
        (json!({"sub": "s-1", "tid": "x".repeat(64)}), refused),
        (json!({"sub": "s 1"}), refused),
    ] {
        assert_eq!(tenant(claims.clone()).await, named, "{claims}");
    }
}

#[tokio::test]
async fn several_providers_accept_what_one_of_them_accepts() {
    let redis = Redis::start().await;
    let idp = Idp::start().await;
    let multi = |tokens: Value| {
        json!({"providers": [
            {"type": "static", "config": tokens},
            {"type": "jwks", "config": idp.provider()},
        ]})
        .to_string()
    };
    let (producer, worker) = (multi(producers()), multi(workers()));
    let node = Node::with(
        &redis,
        &[
            ("PRODUCER_AUTH_PROVIDER", "multi"),
            ("PRODUCER_AUTH_CONFIG", &producer),
            ("WORKER_AUTH_PROVIDER", "multi"),
            ("WORKER_AUTH_CONFIG", &worker),
        ],
    )
    .await;
    node.producer().created("m").await;
    node.token(&idp.token(json!({"sub": "s", "tid": "acme"}))).created("m").await;
    let jwt =
        idp.token(json!({"sub": "w", "tid": "acme", "scope": WORKER_SCOPES, "eventTypes": ["*"]}));
    assert_eq!(node.worker().claim("m").await.status, 200);
    assert_eq!(node.token(&jwt).claim("m").await.status, 200);
    assert_eq!(node.token("nobody").claim("m").await.refusal(), "401 unauthorized invalid token");
}

#[tokio::test]
async fn a_producer_may_work_where_the_operator_allows_it() {
    let redis = Redis::start().await;
    let node = Node::with(&redis, &[("ALLOW_PRODUCER_AS_WORKER", "true")]).await;
    let id = node.producer().created("m").await["id"].as_str().unwrap().to_owned();
    assert_eq!(node.producer().claimed("m").await["workerId"], "producer");
    node.producer().heartbeat(&id).await.json_of(200);
    node.producer().complete(&id).await.json_of(200);
    node.producer().created("m").await;
    assert_eq!(node.worker().claim("m").await.status, 200, "worker tokens go on working");

    let strict = Node::on(&redis).await;
    assert_eq!(strict.producer().claim("m").await.refusal(), "401 unauthorized invalid token");
}

#[tokio::test]
async fn without_a_provider_nobody_comes_in() {
    let redis = Redis::start().await;
    let node = crate::support::Settings::on(&redis).without("WORKER_AUTH_").start().await;
    node.producer().created("m").await;
    assert_eq!(node.worker().claim("m").await.refusal(), "401 unauthorized invalid token");
}

//! Which tokens are accepted, and that no other is.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn every_algorithm_of_the_contract_is_accepted() {
    let (rsa, p256) = (Signer::rsa("rsa"), Signer::p256("p256"));
    let (p384, ed) = (Signer::p384("p384"), Signer::ed("ed"));
    let idp = Idp::start(&[&rsa, &p256, &p384, &ed]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let pairs = [
        (&rsa, "RS256"),
        (&rsa, "RS384"),
        (&rsa, "RS512"),
        (&rsa, "PS256"),
        (&p256, "ES256"),
        (&p384, "ES384"),
        (&ed, "EdDSA"),
    ];
    for (signer, alg) in pairs {
        let token = signer.token_as(json!({"alg": alg, "kid": signer.kid}), &claims(json!({})));
        let principal = bench.auth.producer(&token).await.expect(alg);
        assert_eq!(principal.subject, "somebody");
    }
    assert_eq!(idp.requests(), 1);
}

#[tokio::test]
async fn an_algorithm_that_is_not_the_keys_is_refused_though_the_signature_fits() {
    let (rsa, p256, ed) = (Signer::rsa("rsa"), Signer::p256("p256"), Signer::ed("ed"));
    let only_rs256 = Signer::rsa("only");
    let idp = Idp::start(&[]).await;
    let mut only = only_rs256.jwk();
    only["alg"] = "RS256".into();
    idp.answers(Answer::Keys(vec![rsa.jwk(), p256.jwk(), ed.jwk(), only]));
    let bench = Bench::new(Some(jwks(&idp)), None);
    assert!(bench.auth.producer(&only_rs256.token(&claims(json!({})))).await.is_ok());
    let pairs = [
        (&rsa, "PS384"),
        (&rsa, "PS512"),
        (&rsa, "ES256"),
        (&rsa, "EdDSA"),
        (&rsa, "rs256"),
        (&p256, "ES384"),
        (&p256, "RS256"),
        (&p256, "ES256K"),
        (&ed, "ES256"),
        (&ed, "Ed25519"),
        (&only_rs256, "PS256"),
        (&only_rs256, "RS512"),
        (&rsa, "none"),
        (&rsa, "None"),
        (&rsa, ""),
    ];
    for (signer, alg) in pairs {
        let token = signer.token_as(json!({"alg": alg, "kid": signer.kid}), &claims(json!({})));
        assert!(bench.auth.producer(&token).await.is_err(), "{} as {alg}", signer.kid);
    }
}

#[tokio::test]
async fn a_public_key_is_no_hmac_secret_and_no_signature_is_no_signature() {
    let rsa = Signer::rsa("rsa");
    let idp = Idp::start(&[&rsa]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let (n, _) = rsa.rsa_numbers();
    let jwk = rsa.jwk().to_string();
    for secret in [&n[..], rsa.jwk()["n"].as_str().unwrap().as_bytes(), jwk.as_bytes(), b""] {
        for alg in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header { kid: Some("rsa".to_owned()), ..Header::new(alg) };
            let key = EncodingKey::from_secret(secret);
            let token = jsonwebtoken::encode(&header, &claims(json!({})), &key).unwrap();
            assert_eq!(bench.producer_detail(&token).await, "algorithm not accepted");
        }
    }
    let good = rsa.token(&claims(json!({})));
    let (message, signature) = good.rsplit_once('.').unwrap();
    assert!(bench.auth.producer(&format!("{message}.")).await.is_err());
    assert!(bench.auth.producer(message).await.is_err());
    let none = idp::encode(json!({"alg": "none", "kid": "rsa"}).to_string());
    let payload = idp::encode(claims(json!({})).to_string());
    for token in [format!("{none}.{payload}."), format!("{none}.{payload}.{signature}")] {
        assert!(bench.auth.producer(&token).await.is_err());
    }
    assert_eq!(idp.requests(), 0, "nothing of this is worth a request");
}

#[tokio::test]
async fn a_key_in_the_tokens_own_header_is_not_used() {
    let (ours, theirs) = (Signer::p256("ours"), Signer::p256("theirs"));
    let idp = Idp::start(&[&ours]).await;
    let attacker = Idp::start(&[&theirs]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    for kid in ["ours", "theirs"] {
        let header = json!({"alg": "ES256", "kid": kid, "jwk": theirs.jwk(),
            "jku": attacker.url.as_str(), "x5u": attacker.url.as_str()});
        let token = theirs.token_as(header, &claims(json!({})));
        assert_eq!(bench.producer_detail(&token).await, "signature not accepted");
    }
    assert_eq!(attacker.requests(), 0);
}

#[tokio::test]
async fn a_crit_header_is_refused_whatever_it_holds() {
    let signer = Signer::ed("ed");
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    for crit in [json!(["exp"]), json!([]), json!(null), json!("b64"), json!({})] {
        let header = json!({"alg": "EdDSA", "kid": "ed", "crit": crit, "exp": 1});
        let token = signer.token_as(header, &claims(json!({})));
        assert_eq!(bench.producer_detail(&token).await, "crit header not accepted");
    }
}

#[tokio::test]
async fn claims_must_be_there_and_right() {
    let signer = Signer::ed("ed");
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let now = bench.unix_seconds();
    let missing = "required claim missing or malformed";
    let refused = [
        (json!({"iss": null}), missing),
        (json!({"iss": 5}), missing),
        (json!({"iss": [ISSUER]}), missing),
        (json!({"iss": "https://idp.example/"}), "issuer not accepted"),
        (json!({"aud": null}), missing),
        (json!({"aud": []}), missing),
        (json!({"aud": [AUDIENCE, 5]}), missing),
        (json!({"aud": "codeq"}), "audience not accepted"),
        (json!({"aud": ["a", "b"]}), "audience not accepted"),
        (json!({"sub": null}), missing),
        (json!({"sub": ""}), missing),
        (json!({"sub": 7}), missing),
        (json!({"exp": null}), missing),
        (json!({"exp": (now + 3600).to_string()}), missing),
        (json!({"exp": now - 61}), "token expired"),
        (json!({"exp": 0}), "token expired"),
        (json!({"exp": -1}), "token expired"),
        (json!({"nbf": now + 90}), "token not yet valid"),
        (json!({"nbf": "soon"}), missing),
        (json!({"nbf": 1e300}), "token not yet valid"),
    ];
    for (change, detail) in refused {
        let token = signer.token(&claims(change.clone()));
        assert_eq!(bench.producer_detail(&token).await, detail, "{change}");
    }
    let accepted = [
        json!({"aud": ["other", AUDIENCE]}),
        json!({"exp": now - 30}),
        json!({"exp": now as f64 + 0.5}),
        json!({"exp": 1e300}),
        json!({"nbf": now + 30}),
        json!({"nbf": 0}),
    ];
    for change in accepted {
        let token = signer.token(&claims(change.clone()));
        assert!(bench.auth.producer(&token).await.is_ok(), "{change}");
    }
    assert_eq!(bench.refused(Role::Producer, AuthFailure::Issuer), 1);
    assert_eq!(bench.refused(Role::Producer, AuthFailure::Audience), 2);
    assert_eq!(bench.refused(Role::Producer, AuthFailure::Expired), 5);
    assert_eq!(bench.refused(Role::Producer, AuthFailure::Malformed), 12);
}

#[tokio::test]
async fn a_token_whose_tenant_claims_disagree_is_authentic_but_has_no_tenant() {
    let signer = Signer::ed("ed");
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let tenant = async |more| {
        let token = signer.token(&claims(more));
        let tenant = bench.auth.producer(&token).await.unwrap().tenant.clone();
        tenant.map(|tenant| tenant.to_string())
    };
    assert_eq!(tenant(json!({"tid": "acme", "tenant_id": "acme"})).await.unwrap(), "acme");
    assert_eq!(tenant(json!({"tid": "acme", "tenant_id": "emca"})).await, None);
    assert_eq!(tenant(json!({})).await.unwrap(), "somebody");
}

#[tokio::test]
async fn text_that_is_no_token_is_refused_and_costs_no_request() {
    let signer = Signer::ed("ed");
    let idp = Idp::start(&[&signer]).await;
    let bench = Bench::new(Some(jwks(&idp)), None);
    let long =
        format!("{}.{}.e30", idp::encode(r#"{"alg":"EdDSA","kid":"x"}"#), "A".repeat(20_000));
    let payload = idp::encode("{}");
    let with_header = |header: &str| format!("{}.{payload}.AAAA", idp::encode(header));
    let odd = ["", ".", "..", "...", "a.b.c", "ä.ö.ü", "\0", "e30.e30.e30", "e30.e30.e30.e30"];
    let headers = ["[]", "null", "{", r#"{"alg":5}"#, r#"{"alg":"EdDSA","kid":5}"#, "{}"];
    let twice = r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#;
    let mut tokens: Vec<_> = odd.map(str::to_owned).to_vec();
    tokens.extend(headers.into_iter().chain([twice]).map(with_header));
    tokens.push(long);
    for token in &tokens {
        assert_eq!(bench.producer_detail(token).await, "not a well-formed token", "{token}");
    }
    let no_kid = signer.token_as(json!({"alg": "EdDSA"}), &claims(json!({})));
    assert!(bench.auth.producer(&no_kid).await.is_err());
    assert_eq!(idp.requests(), 0);
    let refused = bench.refused(Role::Producer, AuthFailure::Malformed);
    assert_eq!(refused, tokens.len() as u64);
}

#[test]
fn a_token_that_was_tampered_with_is_never_accepted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let signers = [Signer::rsa("rsa"), Signer::p256("p256"), Signer::ed("ed")];
    let (bench, good) = runtime.block_on(async {
        let idp = Idp::start(&signers.each_ref()).await;
        let bench = Bench::new(Some(jwks(&idp)), None);
        let good = signers.each_ref().map(|signer| signer.token(&claims(json!({}))));
        for token in &good {
            bench.auth.producer(token).await.unwrap();
        }
        (bench, good)
    });
    let change = prop_oneof![
        (any::<prop::sample::Index>(), any::<char>()).prop_map(|(at, with)| (
            at,
            1,
            with.to_string()
        )),
        (any::<prop::sample::Index>(), "[A-Za-z0-9_.=-]").prop_map(|(at, with)| (at, 1, with)),
        (any::<prop::sample::Index>(), "[A-Za-z0-9_.=-]{0,4}").prop_map(|(at, with)| (at, 0, with)),
        (any::<prop::sample::Index>(), 0usize..40).prop_map(|(at, cut)| (at, cut, String::new())),
        (any::<prop::sample::Index>(), ".{0,40}").prop_map(|(at, with)| (at, 4096, with)),
    ];
    let config = ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() };
    proptest!(config, |(which in 0usize..3, (at, cut, with) in change)| {
        let token = &good[which];
        let at = at.index(token.len() + 1);
        let end = (at + cut).min(token.len());
        let tampered = format!("{}{with}{}", &token[..at], &token[end..]);
        prop_assume!(!good.contains(&tampered));
        let denied = runtime.block_on(bench.auth.producer(&tampered));
        prop_assert!(matches!(denied, Err(Denied::InvalidToken { .. })), "{tampered}");
    });
}

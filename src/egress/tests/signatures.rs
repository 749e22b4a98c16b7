//! Signatures as receivers verify them.

use http::HeaderMap;
use secrecy::SecretString;
use standardwebhooks::Webhook as Verifier;

use crate::config::{SecretScope, Webhook};
use crate::egress::Signer;
use crate::egress::testing::settings;

const PLAIN: &str = "an operator's plain secret, long enough";
const ENCODED: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &[u8] = br#"{"taskId":"x"}"#;
const ID: &str = "0199e7a0-0000-7000-8000-000000000000_1";

fn signer(secrets: &[&str], secret_scope: SecretScope) -> Signer {
    let secrets = secrets.iter().map(|text| SecretString::from(*text)).collect();
    Signer::new(&Webhook { secrets, secret_scope, ..settings() })
}

/// Receivers refuse what is old, so the time is now.
fn signed(signer: &Signer, tenant: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    signer.headers(tenant, ID, jiff::Timestamp::now().as_second(), 1, BODY, &mut headers);
    headers
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers[name].to_str().unwrap()
}

fn verifies(key: &str, headers: &HeaderMap) -> bool {
    Verifier::new(key).unwrap().verify(BODY, headers).is_ok()
}

#[test]
fn the_headers_are_as_the_contract_says() {
    let mut headers = HeaderMap::new();
    let signer = signer(&["secret"], SecretScope::Shared);
    signer.headers(Some("acme"), "t_2", 1_700_000_000, 3, b"{}", &mut headers);
    assert_eq!(text(&headers, "content-type"), "application/json");
    assert_eq!(text(&headers, "user-agent"), concat!("codeq/", env!("CARGO_PKG_VERSION")));
    assert_eq!(text(&headers, "x-codeq-attempt"), "3");
    assert_eq!(text(&headers, "x-codeq-timestamp"), "1700000000");
    assert_eq!(text(&headers, "webhook-id"), "t_2");
    assert_eq!(text(&headers, "webhook-timestamp"), "1700000000");
    // printf '1700000000.{}' | openssl dgst -sha256 -hmac secret
    assert_eq!(text(&headers, "x-codeq-signature"), X_CODEQ);
    // printf 't_2.1700000000.{}' | openssl dgst -sha256 -hmac secret -binary | base64
    assert_eq!(text(&headers, "webhook-signature"), STANDARD);
    assert_eq!(headers.len(), 8);
}

const X_CODEQ: &str = "b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
const STANDARD: &str = "v1,v1O3ertHXm6kDxlTL4fDZtcdH/4zKHU7xE/K65/Aa2o=";

#[test]
fn without_a_secret_nothing_is_signed() {
    for scope in [SecretScope::Shared, SecretScope::Tenant] {
        let signer = signer(&[], scope);
        let headers = signed(&signer, Some("acme"));
        assert!(!headers.contains_key("x-codeq-signature"));
        assert!(!headers.contains_key("webhook-signature"));
        assert_eq!(text(&headers, "webhook-id"), ID);
        assert!(signer.keys_shown("acme").is_empty());
    }
}

#[test]
fn hole_17_a_plain_secret_is_shown_in_the_form_that_libraries_take() {
    for secret in [PLAIN, ENCODED] {
        let signer = signer(&[secret], SecretScope::Shared);
        let [key] = signer.keys_shown("acme").try_into().unwrap();
        assert!(key.starts_with("whsec_"));
        assert!(verifies(&key, &signed(&signer, Some("acme"))), "{secret}");
    }
    assert_eq!(signer(&[ENCODED], SecretScope::Shared).keys_shown("acme"), [ENCODED]);
}

#[test]
fn while_secrets_rotate_both_verify_and_the_first_signs_alone_elsewhere() {
    for scope in [SecretScope::Shared, SecretScope::Tenant] {
        let both = signer(&[PLAIN, ENCODED], scope);
        let headers = signed(&both, Some("acme"));
        let keys = both.keys_shown("acme");
        assert_eq!(keys.len(), 2);
        assert!(keys.iter().all(|key| verifies(key, &headers)));
        assert_eq!(text(&headers, "webhook-signature").split(' ').count(), 2);
        assert_ne!(keys[0], keys[1]);

        let (mut of_both, mut of_first) = (HeaderMap::new(), HeaderMap::new());
        both.headers(Some("acme"), ID, 1, 1, BODY, &mut of_both);
        signer(&[PLAIN], scope).headers(Some("acme"), ID, 1, 1, BODY, &mut of_first);
        assert_eq!(of_both["x-codeq-signature"], of_first["x-codeq-signature"]);
    }
}

#[test]
fn hole_16_no_tenant_can_sign_for_another() {
    let signer = signer(&[PLAIN, ENCODED], SecretScope::Tenant);
    let of = |tenant: Option<&str>| match tenant {
        Some(tenant) => signer.keys_shown(tenant),
        None => signer.operator_keys_shown(),
    };
    let everybody = [Some("acme"), Some("acme-2"), Some("zeta"), None];
    for here in everybody {
        let headers = signed(&signer, here);
        for there in everybody {
            for key in of(there) {
                assert_eq!(verifies(&key, &headers), here == there, "{here:?} {there:?}");
            }
        }
    }
    let codeq = |tenant| {
        let mut headers = HeaderMap::new();
        signer.headers(tenant, ID, 1, 1, BODY, &mut headers);
        headers["x-codeq-signature"].clone()
    };
    assert_ne!(codeq(Some("acme")), codeq(Some("zeta")));
    assert_ne!(codeq(Some("acme")), codeq(None));
    // Neither shows the operator's secret.
    assert!(!of(Some("acme")).contains(&ENCODED.to_owned()));
}

#[test]
fn a_tenants_key_is_derived_as_the_contract_says() {
    // Computed by another implementation of RFC 5869.
    let signer = signer(&["whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"], SecretScope::Tenant);
    assert_eq!(signer.keys_shown("acme"), [DERIVED]);
}

const DERIVED: &str = "whsec_iBZ/9lvrBXCsDTVElZQ7pIjhrL03ebSQ0qRGDIraoc4=";

#[test]
fn keys_at_hand_are_bounded_and_stay_right() {
    let signer = signer(&[PLAIN], SecretScope::Tenant);
    for number in 0..9000 {
        signed(&signer, Some(&format!("tenant-{number}")));
    }
    let [key] = signer.keys_shown("tenant-1").try_into().unwrap();
    assert!(verifies(&key, &signed(&signer, Some("tenant-1"))));
}

#[test]
fn hole_18_nothing_a_tenant_chooses_can_become_a_header() {
    let signer = signer(&[PLAIN], SecretScope::Tenant);
    let mut headers = HeaderMap::new();
    let id = "x\r\nhost: evil\r\ncontent-length: 0";
    signer.headers(Some("a\r\nhost: evil"), id, 1, 1, b"\r\nhost: evil", &mut headers);
    let expected = [
        "content-type",
        "user-agent",
        "x-codeq-attempt",
        "x-codeq-timestamp",
        "webhook-timestamp",
        "x-codeq-signature",
        "webhook-signature",
    ];
    let names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, expected, "an id that is none is left out");
    assert!(headers.values().all(|value| !value.to_str().unwrap().contains("evil")));
}

#[test]
#[should_panic(expected = "without dots")]
fn hole_18_an_id_with_a_dot_is_a_defect_that_tests_notice() {
    signer(&[], SecretScope::Shared).headers(None, "a.b", 1, 1, b"", &mut HeaderMap::new());
}

#[test]
fn no_secret_is_printed() {
    let shown = format!("{:?}", signer(&[PLAIN, ENCODED], SecretScope::Shared));
    assert_eq!(shown, "Signer { scope: Shared, secrets: 2, .. }");
}

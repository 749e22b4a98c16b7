//! The table of http-api.md, "Codes".

use std::collections::BTreeSet;

use axum::response::IntoResponse as _;

use super::*;
use crate::model::Refusal;
use crate::store;

fn every() -> Vec<(u16, &'static str, &'static str, Error)> {
    let limited = Limited { scope: "worker", operation: "claim", retry_after_seconds: 7 };
    let policy = Error::InvalidPolicy {
        field: "maxAttempts".into(),
        rule: "must be between 1 and 100".into(),
    };
    let topic = Missing::Topic("acme.mail".into());
    vec![
        (400, "invalid_body", "invalid body", Error::InvalidBody("why".into())),
        (400, "invalid_body", "invalid request body", Error::InvalidRequestBody("why".into())),
        (400, "invalid_command", "invalid command", Error::InvalidCommand("why".into())),
        (400, "invalid_url", "invalid webhook url", Error::InvalidWebhookUrl("why".into())),
        (400, "invalid_url", "invalid callback url", Error::InvalidCallbackUrl("why".into())),
        (400, "invalid_run_at", "invalid 'runAt' (use RFC3339)", Error::InvalidRunAt),
        (400, "invalid_run_at", "invalid 'runAt' (too far ahead)", Error::RunAtTooFar),
        (400, "invalid_delay", "invalid 'delaySeconds' (must be >= 0)", Error::InvalidDelay),
        (400, "invalid_delay", "invalid 'delaySeconds' (too large)", Error::DelayTooLarge),
        (400, "invalid_before", "invalid 'before' (use RFC3339)", Error::InvalidBefore),
        (400, "batch_too_large", "batch size exceeds maximum of 100", Error::BatchTooLarge(100)),
        (400, "count_too_large", "count exceeds maximum of 10", Error::CountTooLarge(10)),
        (400, "result_required", "result required when status=COMPLETED", Error::ResultRequired),
        (400, "error_required", "error required when status=FAILED", Error::ErrorRequired),
        (400, "invalid_status", "invalid status", Error::InvalidStatus),
        (400, "invalid_delivery_mode", "invalid deliveryMode", Error::InvalidDeliveryMode),
        (400, "group_id_required", "groupId is required", Error::GroupIdRequired),
        (
            400,
            "deletion_policy_required",
            "deletionPolicy=Delete is required",
            Error::DeletionPolicyRequired,
        ),
        (401, "unauthorized", "missing Authorization header", Error::MissingAuthorization),
        (
            401,
            "unauthorized",
            "invalid Authorization format",
            Error::InvalidAuthorization("why".into()),
        ),
        (401, "unauthorized", "invalid token", Error::InvalidToken("why".into())),
        (401, "unauthorized", "missing eventTypes", Error::TokenWithoutEventTypes),
        (401, "unauthorized", "missing scope", Error::TokenWithoutScope),
        (401, "unauthorized", "unauthorized. Admin only", Error::AdminOnly),
        (403, "missing_scope", "missing scope", Error::MissingScope("codeq:nack")),
        (403, "event_type_not_allowed", "event type not allowed", Error::EventTypeNotAllowed),
        (403, "invalid_tenant", "invalid tenant claims", Error::InvalidTenant),
        (403, "not_owner", "not-owner", Error::NotOwner),
        (404, "not_found", "not found", Error::NotFound(Missing::Anything)),
        (404, "not_found", "not-found", Error::NotFound(Missing::Held)),
        (404, "not_found", "task not found", Error::NotFound(Missing::Task)),
        (404, "result_not_found", "result not found", Error::NotFound(Missing::Result)),
        (404, "not_found", "queue topic \"acme.mail\" not found", Error::NotFound(topic)),
        (405, "method_not_allowed", "method not allowed", Error::MethodNotAllowed),
        (408, "request_timeout", "request timeout", Error::RequestTimeout),
        (409, "not_in_progress", "not-in-progress", Error::NotInProgress),
        (409, "lease_lost", "lease-lost", Error::LeaseLost),
        (409, "not_cancellable", "not cancellable", Error::NotCancellable),
        (413, "body_too_large", "body too large", Error::BodyTooLarge),
        (422, "invalid_policy", "invalid maxAttempts: must be between 1 and 100", policy),
        (429, "rate_limited", "rate limit exceeded", Error::RateLimited(limited)),
        (500, "internal", "internal error", Error::Internal),
        (503, "store_unavailable", "store unavailable", Error::StoreUnavailable),
        (503, "outcome_unknown", "store unavailable", Error::OutcomeUnknown),
    ]
}

#[tokio::test]
async fn every_error_has_the_status_code_and_text_of_the_contract() {
    for (status, code, text, error) in every() {
        let answer = Answer::of(error.clone().answer(Some("r-1"))).await;
        assert_eq!(answer.says(), format!("{status} {text}"));
        assert_eq!(answer.json()["code"], code);
        assert_eq!(answer.json()["requestId"], "r-1");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let item = serde_json::to_value(error.item()).unwrap();
        assert_eq!((&item["error"], &item["code"]), (&json!(text), &json!(code)));
        assert_eq!((error.status().as_u16(), error.code()), (status, code));
        assert!(error.to_string().starts_with(text));
    }
}

#[test]
fn the_table_above_names_every_error() {
    let source = include_str!("../error.rs");
    let body = source.split_once("pub enum Error {").unwrap().1.split_once("\n}").unwrap().0;
    let declared: BTreeSet<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap())
        .collect();
    let tried: Vec<String> = every().iter().map(|(.., error)| format!("{error:?}")).collect();
    let tried: BTreeSet<&str> = tried
        .iter()
        .map(|debug| debug.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap())
        .collect();
    assert_eq!(declared, tried);
}

#[tokio::test]
async fn a_rate_limit_says_whose_bucket_and_how_long() {
    let limited = Limited { scope: "producer", operation: "create_task", retry_after_seconds: 3 };
    let answer = Answer::of(Error::RateLimited(limited).answer(Some("r"))).await;
    assert_eq!(answer.header("retry-after"), Some("3"));
    assert_eq!(
        answer.json(),
        json!({"error": "rate limit exceeded", "code": "rate_limited", "requestId": "r",
               "scope": "producer", "operation": "create_task", "retryAfterSeconds": 3})
    );
}

#[tokio::test]
async fn errors_carry_what_their_status_asks_for() {
    for (status, _, text, error) in every() {
        let answer = Answer::of(error.into_response()).await;
        let has = |name| answer.headers.contains_key(name);
        assert_eq!(has("retry-after"), matches!(status, 429 | 503), "{text}");
        assert_eq!(has("www-authenticate"), status == 401, "{text}");
        assert_eq!(has("connection"), matches!(status, 408 | 413), "{text}");
        assert_eq!(answer.json().get("field").is_some(), status == 422, "{text}");
    }
    let missing = Answer::of(Error::MissingScope("codeq:nack").into_response()).await;
    assert_eq!(missing.detail(), "codeq:nack");
}

#[test]
fn every_word_of_a_script_has_an_answer() {
    let says = |refusal| Error::from(refusal).to_string();
    for (word, refusal) in Refusal::WORDS {
        assert_ne!(Error::from(*refusal), Error::Internal, "{word}");
    }
    assert_eq!(says(Refusal::NotFound), "not found");
    assert_eq!(says(Refusal::NotInProgress), "not-in-progress");
    assert_eq!(says(Refusal::LeaseLost), "lease-lost");
    assert_eq!(says(Refusal::NotOwner), "not-owner");
    let task = Error::from(Refusal::NotFound).not_found_as(Missing::Task);
    assert_eq!(task, Error::NotFound(Missing::Task));
    assert_eq!(Error::LeaseLost.not_found_as(Missing::Task), Error::LeaseLost);
}

#[test]
fn the_store_never_shows_its_own_words() {
    let full = store::Error::Full { operation: "nack" };
    assert_eq!(Error::from(full), Error::StoreUnavailable);
    assert_eq!(Error::from(store::Error::Unavailable), Error::StoreUnavailable);
    assert_eq!(Error::from(store::Error::OutOfMemory), Error::StoreUnavailable);
    assert_eq!(Error::from(store::Error::OutcomeUnknown), Error::OutcomeUnknown);
    assert_eq!(Error::from(store::Error::Refused(Refusal::NotOwner)), Error::NotOwner);
    let script = Error::from(store::Error::Script("user_script:34: nil".into()));
    assert_eq!(
        serde_json::to_string(&script.body(None)).unwrap(),
        r#"{"error":"internal error","code":"internal"}"#
    );
}

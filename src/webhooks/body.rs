//! The body of a delivery. The same bytes in every attempt, whichever node makes it.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::record::{Body, End};
use crate::model::{Status, TaskId, Time};

/// What a task left behind, as JSON text.
#[derive(Clone, Default, Debug)]
pub struct Outcome {
    /// The result, an object.
    pub result: Option<Bytes>,
    /// Name and URL of each artifact.
    pub artifacts: Option<Bytes>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What is said of the end of a task.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    task_id: &'a TaskId,
    event_type: &'a str,
    status: Status,
    result: Option<&'a RawValue>,
    error: &'a str,
    artifacts: Option<&'a RawValue>,
    completed_at: Time,
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Time,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    result_omitted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_url: Option<String>,
}

/// The body, and whether result and artifacts are left out: because that was decided before, the
/// task wants it so, or the body would be longer than `most` bytes.
pub fn body(
    id: &TaskId,
    of: &Body,
    end: End,
    completed: Time,
    outcome: &Outcome,
    omitted: Option<bool>,
    most: usize,
) -> (Bytes, bool) {
    let said = |omit: bool| {
        let shown = |json: &'_ Option<Bytes>| -> Option<Box<RawValue>> {
            let text = json.as_ref().filter(|_| !omit)?;
            // The store gives back what was JSON when it came in.
            RawValue::from_string(String::from_utf8_lossy(text).into_owned()).ok()
        };
        let (result, artifacts) = (shown(&outcome.result), shown(&outcome.artifacts));
        let said = Said {
            task_id: id,
            event_type: of.command.as_str(),
            status: end.status(),
            result: result.as_deref(),
            error: outcome.error.as_deref().unwrap_or_default(),
            artifacts: artifacts.as_deref(),
            completed_at: completed,
            kind: kind(end),
            timestamp: completed,
            result_omitted: omit,
            result_url: omit.then(|| format!("/v1/codeq/tasks/{id}/result")),
        };
        Bytes::from(serde_json::to_vec(&said).expect("values are JSON"))
    };
    let nothing_to_omit = outcome.result.is_none() && outcome.artifacts.is_none();
    match omitted.or(of.hooks.is_thin().then_some(true)) {
        Some(omit) => (said(omit), omit),
        None => {
            let whole = said(false);
            match whole.len() > most && !nothing_to_omit {
                true => (said(true), true),
                false => (whole, false),
            }
        }
    }
}

/// The event's type, as receivers of several kinds of events tell them apart.
fn kind(end: End) -> &'static str {
    match end {
        End::Completed => "task.completed",
        End::Failed => "task.failed",
        End::Dead => "task.dead_lettered",
        End::Cancelled => "task.cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{BODY_HEAD, Hooks, NewBody};
    use crate::model::{Command, Partition, Priority, QueueName, TenantId};

    fn task(hooks: Hooks) -> Body {
        let (tenant, command) =
            (TenantId::parse("acme").unwrap(), Command::parse("Send Mail").unwrap());
        let new = NewBody {
            queue: QueueName::of(&tenant, &command),
            priority: Priority::clamped(0),
            label: 1,
            idempotency: None,
            hooks,
            destination: Some("0123456789abcdef"),
            tenant: &tenant,
            command: &command,
            webhook: Some("https://x.example/"),
            trace_parent: None,
            trace_state: None,
            baggage: None,
            payload: b"1",
        };
        let mut record = vec![0; BODY_HEAD];
        record[0] = 1;
        record.extend(new.pack());
        Body::read(&record.into()).unwrap()
    }

    fn said(hooks: Hooks, end: End, outcome: &Outcome, omitted: Option<bool>) -> (String, bool) {
        let id = TaskId::new(Partition::new(0), 0);
        let at = Time::from_ms(1_700_000_000_123);
        let (bytes, omitted) = body(&id, &task(hooks), end, at, outcome, omitted, 400);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        (text.replace(&id.to_string(), "ID"), omitted)
    }

    fn result(json: &'static str) -> Outcome {
        Outcome { result: Some(Bytes::from_static(json.as_bytes())), ..Outcome::default() }
    }

    #[test]
    fn a_body_has_every_field_and_keeps_the_result_byte_for_byte() {
        let (text, omitted) = said(Hooks::ALL, End::Completed, &result("{ \"a\" : 1.0 }"), None);
        let expected = r#"{"taskId":"ID","eventType":"Send Mail","status":"COMPLETED","result":{ "a" : 1.0 },"error":"","artifacts":null,"completedAt":"2023-11-14T22:13:20.123Z","type":"task.completed","timestamp":"2023-11-14T22:13:20.123Z"}"#;
        assert_eq!((text.as_str(), omitted), (expected, false));
    }

    #[test]
    fn every_end_has_its_type() {
        let failed = Outcome { error: Some("no \"room\"".into()), ..Outcome::default() };
        for (end, kind) in [
            (End::Failed, "task.failed"),
            (End::Dead, "task.dead_lettered"),
            (End::Cancelled, "task.cancelled"),
        ] {
            let (text, _) = said(Hooks::ALL, end, &failed, None);
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["type"], kind);
            assert_eq!(
                (&json["status"], &json["error"]),
                (&"FAILED".into(), &"no \"room\"".into())
            );
            assert!(json["result"].is_null() && json["artifacts"].is_null());
        }
    }

    #[test]
    fn a_thin_or_too_long_body_says_where_the_result_is() {
        let long: &'static str = Box::leak(format!("{{\"a\":\"{:0>400}\"}}", 1).into_boxed_str());
        let thin = said(Hooks::ALL.thin(), End::Completed, &result("{}"), None);
        let cut = said(Hooks::ALL, End::Completed, &result(long), None);
        for (text, omitted) in [thin, cut] {
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(omitted && json["result"].is_null());
            assert_eq!(json["resultOmitted"], true);
            assert_eq!(json["resultUrl"], "/v1/codeq/tasks/ID/result");
        }
    }

    #[test]
    fn what_was_decided_once_stays() {
        assert!(said(Hooks::ALL, End::Completed, &result("{}"), Some(true)).1);
        let long: &'static str = Box::leak(format!("{{\"a\":\"{:0>400}\"}}", 1).into_boxed_str());
        assert!(!said(Hooks::ALL, End::Completed, &result(long), Some(false)).1);
    }
}

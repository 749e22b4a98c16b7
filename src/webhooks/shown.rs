//! Deliveries and their attempts as clients see them.

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::egress::Target;
use crate::http::Error;
use crate::model::delivery::{Delivery, Entry, Reason, State};
use crate::model::record::{Body, Unreadable};
use crate::model::{DeliveryId, Time};
use crate::store;

/// One attempt; absent fields are omitted.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// When it began.
    #[schema(value_type = String, format = "date-time")]
    at: Time,
    /// `schedule`, `replay` or `probe`.
    trigger: &'static str,
    /// How long it took.
    duration_ms: u32,
    /// The receiver's status, if it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// How it ended: `2xx`, `http_5xx`, `timeout` and so on.
    class: &'static str,
    /// The trace it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// The first bytes of the answer, for administrators only; what is no UTF-8 in them is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    excerpt: Option<String>,
}

impl Attempt {
    /// Whoever may not see what a receiver answers gets no excerpt.
    pub(super) fn of(entry: &Entry, with_excerpt: bool) -> Self {
        let excerpt = with_excerpt && !entry.excerpt.is_empty();
        Self {
            at: entry.at,
            trigger: entry.trigger.as_str(),
            duration_ms: entry.duration_ms,
            status: entry.status,
            class: entry.class.as_str(),
            trace_id: entry
                .trace_id
                .map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()),
            excerpt: excerpt.then(|| String::from_utf8_lossy(&entry.excerpt).into_owned()),
        }
    }
}

/// A delivery; absent fields are omitted.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
pub struct Shown {
    /// The task and the how manieth of its ends.
    webhook_id: String,
    /// `pending`, `delivered`, `dead` or `superseded`.
    state: &'static str,
    /// Why it is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The task's command; absent for operator events.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// Id of the destination.
    destination: String,
    /// Scheme, host and port of the URL, and never more of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    /// How many attempts there were, over all series.
    attempts: u16,
    /// How the last attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_class: Option<&'static str>,
    /// When the series of attempts began.
    #[schema(value_type = String, format = "date-time")]
    created_at: Time,
    /// When it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    delivered_at: Option<Time>,
    /// When it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    died_at: Option<Time>,
    /// While it is pending: when it is due and its destination is not parked. While an attempt is
    /// under way: when another node would make the next if this one fell silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    next_attempt_at: Option<Time>,
    /// Only with `?tenant=*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
}

/// A delivery and its log.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookRecord)]
pub struct Record {
    #[serde(flatten)]
    shown: Shown,
    /// The last 20 attempts, oldest first.
    log: Vec<Attempt>,
}

/// A delivery that a script gave in brief.
pub(super) struct Brief {
    pub id: DeliveryId,
    pub delivery: Delivery,
    due_ms: i64,
    parked_ms: i64,
}

impl Brief {
    /// Reads it.
    pub fn read(
        id: DeliveryId,
        record: &Bytes,
        due_ms: i64,
        parked_ms: i64,
    ) -> Result<Self, Error> {
        let delivery = Delivery::read(record).map_err(unreadable)?;
        Ok(Self { id, delivery, due_ms, parked_ms })
    }

    /// When the next attempt is made.
    pub fn next_attempt_at(&self) -> Option<Time> {
        let pending = self.delivery.state == State::Pending && self.due_ms > 0;
        pending.then(|| Time::from_ms(self.due_ms.max(self.parked_ms)))
    }

    /// As lists show it.
    pub fn shown(self, with_tenant: bool) -> Shown {
        let next_attempt_at = self.next_attempt_at();
        let of = self.delivery;
        let task = Body::read_head(&of.head).ok();
        let url = task.as_ref().and_then(|task| task.webhook.as_deref());
        let changed = |state| of.changed.filter(|_| of.state == state);
        Shown {
            webhook_id: self.id.to_string(),
            state: of.state.as_str(),
            reason: of.reason.map(Reason::as_str),
            origin: url.and_then(|url| Target::parse_stored(url).ok()).map(|to| to.origin()),
            attempts: of.attempts,
            last_class: of.log.last().map(|entry| entry.class.as_str()),
            created_at: of.born,
            delivered_at: changed(State::Delivered),
            died_at: changed(State::Dead),
            next_attempt_at,
            tenant_id: task
                .as_ref()
                .filter(|_| with_tenant)
                .map(|task| task.tenant.as_str().to_owned()),
            command: task.map(|task| task.command.as_str().to_owned()),
            destination: of.destination,
        }
    }

    /// With its whole log.
    pub fn record(self, with_tenant: bool) -> Record {
        let log = self.delivery.log.iter().map(|entry| Attempt::of(entry, true)).collect();
        Record { shown: self.shown(with_tenant), log }
    }
}

/// A record that this version cannot read is left alone; the log says what it was.
pub(super) fn unreadable(why: Unreadable) -> Error {
    tracing::error!(
        target: "codeq::store", category = "system", event = "store.unreadable", error.message = %why,
        "a stored record could not be read"
    );
    store::Error::Script(why.to_string()).into()
}

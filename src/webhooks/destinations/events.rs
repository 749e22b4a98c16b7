//! What a change of a destination's state leaves behind.

use serde::Serialize;

use crate::app::Destination;
use crate::egress::Target;

/// What failures and successes do to a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Too many failures in a row.
    Opened,
    /// No success for too long.
    Disabled,
    /// It was open, and answers again.
    Recovered,
}

impl Change {
    /// The type of the operator event, and the event of the log line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "destination.open",
            Self::Disabled => "destination.disabled",
            Self::Recovered => "destination.recovered",
        }
    }
}

/// What an operator event says of a destination.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About<'a> {
    destination_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tenant_id: &'a str,
    origin: &'a str,
}

impl<'a> About<'a> {
    pub fn of(record: &'a Destination) -> Self {
        Self { destination_id: &record.id, tenant_id: &record.tenant, origin: &record.origin }
    }
}

/// The host of a destination: all of it that a log line may hold.
pub(super) fn host(record: &Destination) -> String {
    Target::parse_stored(&record.origin).map(|target| target.host().to_owned()).unwrap_or_default()
}

pub(super) fn changed(change: Change, record: &Destination, class: &str) {
    let (event, host) = (change.as_str(), host(record));
    let (tenant_id, host, destination) = (record.tenant.as_str(), host.as_str(), &record.id);
    match change {
        Change::Opened => tracing::warn!(
            target: "codeq::webhook", category = "webhook", event, tenant_id, destination,
            webhook.host = host, reason = class,
            "a destination failed several times in a row and is left alone for a while"
        ),
        Change::Disabled => tracing::error!(
            target: "codeq::webhook", category = "webhook", event, tenant_id, destination,
            webhook.host = host, reason = class,
            "a destination did not accept anything for too long and is disabled until it is resumed"
        ),
        Change::Recovered => tracing::info!(
            target: "codeq::webhook", category = "webhook", event, tenant_id, destination,
            webhook.host = host, "a destination answers again"
        ),
    }
}

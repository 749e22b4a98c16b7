//! `/workers/subscriptions`: who is told that a queue has work, and the telling.
//!
//! A subscription lives on its tenant's own partition, so that one script sees all of them. Telling
//! is advice: it assigns no task, is tried once, and nobody waits for it.

pub mod expire;
pub mod heartbeat;
pub mod notify;
pub mod upsert;

use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::egress::Target;
use crate::http;
use crate::model::{Partition, Time};

/// It is there.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SubscriptionResponse)]
pub struct Response {
    /// Names it in a heartbeat.
    subscription_id: String,
    /// When it ends, unless it is kept.
    #[schema(value_type = String, format = "date-time")]
    expires_at: Time,
}

/// Length of an id: 15 bytes of a digest.
const ID_LENGTH: usize = 20;
/// How long a subscription lives that says nothing.
const DEFAULT_TTL_SECONDS: i64 = 300;
/// The longest life without a heartbeat, and the longest interval.
const DAY_SECONDS: i64 = 86_400;

/// Where the subscriptions of the tenant with this tag are.
fn home(app: &App, tenant_tag: &str) -> Partition {
    app.partitions.hashed(&[tenant_tag.as_bytes()])
}

/// As leases: 0 and less is the default, more than a day is a day.
fn ttl_ms(asked: Option<i64>) -> u64 {
    let seconds = asked.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_TTL_SECONDS);
    seconds.min(DAY_SECONDS).unsigned_abs() * 1000
}

/// A callback that may be called; `400` names the rule that another one breaks.
fn target(app: &App, text: &str) -> http::Result<Target> {
    Target::parse(text, app.egress.rules())
        .map_err(|bad| http::Error::InvalidCallbackUrl(format!("callbackUrl: {bad}").into()))
}

//! What a call leaves behind that was not made.

use std::time::Duration;

use crate::telemetry::log::Every;

/// Tells of a destination that the settings forbid, or one whose name led to such an address;
/// `host` is `None` for a stored URL that is none any more.
pub fn blocked(kind: &'static str, host: Option<&str>, tenant: Option<&str>) {
    static LIMIT: Every = Every::new(Duration::from_secs(1));
    if let Some(suppressed) = LIMIT.pass() {
        tracing::warn!(
            target: "codeq::security", category = "security", event = "webhook.blocked",
            tenant_id = tenant, webhook.kind = kind, webhook.host = host, suppressed,
            "a webhook would have gone where none may go"
        );
    }
}

//! Parameters that operations share, for the description of the API: extractors read them.

use utoipa::IntoParams;

/// Whose objects an administrator's call is about.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OfTenant {
    /// For the scope `codeq:operator`: another tenant than the caller's own.
    #[param(value_type = String, required = false, pattern = "^[a-z][a-z0-9-]{1,62}$")]
    pub tenant: Option<String>,
}

/// Whose objects an administrator's call shows.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OfTenants {
    /// For the scope `codeq:operator`: another tenant, or `*` for all of them.
    #[param(value_type = String, required = false, pattern = r"^(\*|[a-z][a-z0-9-]{1,62})$")]
    pub tenant: Option<String>,
}

/// Which task.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Id {
    /// The task, as it was answered when it was created.
    #[param(format = "uuid")]
    pub id: String,
}

/// Which subscription.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct SubscriptionId {
    /// As it was answered when it was made.
    #[param(pattern = "^[-_0-9A-Za-z]{20}$")]
    pub id: String,
}

/// Which delivery.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct WebhookId {
    /// The `webhook-id` that receivers get: the task and the how manieth of its ends.
    #[param(max_length = 42)]
    pub id: String,
}

/// Which recovery.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct RecoveryId {
    /// The recovery, as it was answered when it began.
    #[param(format = "uuid")]
    pub id: String,
}

/// Which destination of webhooks.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct DestinationId {
    /// As it stands in the list.
    #[param(pattern = "^[-_0-9A-Za-z]{16}$")]
    pub id: String,
}

/// Which queue.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfCommand {
    /// The command, in any case; at most 256 bytes of UTF-8.
    #[param(
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
        max_length = 256
    )]
    pub command: String,
}

/// Which topic.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct TopicName {
    /// A DNS label, which is also the lower-case name of the command.
    #[param(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    pub name: String,
}

/// Which lease.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct Lease {
    /// The lease that the caller believes to hold; wins over the field of the body.
    #[param(rename = "X-CodeQ-Lease-Token", value_type = String, required = false)]
    pub token: Option<String>,
}

/// Which create repeats which.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKey {
    /// The same as the field, which wins; at most 255 bytes where it counts.
    #[param(rename = "Idempotency-Key", value_type = String, required = false)]
    pub key: Option<String>,
}

/// That a deletion is meant.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct Meant {
    /// `Delete`
    #[param(pattern = "^Delete$")]
    pub deletion_policy: String,
}

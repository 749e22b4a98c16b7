use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{TaskId, Time};

/// What the wire calls a task's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Ready or delayed.
    Pending,
    /// Leased.
    InProgress,
    /// Ended well.
    Completed,
    /// Ended badly: a worker's verdict, the DLQ, or cancelled.
    Failed,
}

/// Which index a task is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub enum Location {
    /// A ready list.
    #[serde(rename = "PENDING_LIST")]
    Ready,
    /// The delayed set.
    #[serde(rename = "DELAYED_ZSET")]
    Delayed,
    /// The lease set.
    #[serde(rename = "INPROG_SET")]
    InProgress,
    /// The DLQ.
    #[serde(rename = "DLQ_SET")]
    Dead,
    /// A terminal record only.
    #[serde(rename = "NONE")]
    None,
}

/// A task as clients see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// UUIDv7.
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// As the producer spelled it.
    pub command: String,
    /// The JSON text the producer sent, byte for byte.
    pub payload: String,
    /// 0..9; omitted when 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: u8,
    /// Where the result goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// W3C `traceparent` of the latest lifecycle span.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_parent: Option<String>,
    /// W3C `tracestate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_state: Option<String>,
    /// W3C `baggage` of the create request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baggage: Option<String>,
    /// Derived from where the task is.
    pub status: Status,
    /// Where the task is.
    pub last_known_location: Location,
    /// Who holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub lease_until: Option<Time>,
    /// Fences a stale worker; only in a claim's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_token: Option<String>,
    /// Deliveries so far; omitted when 0.
    #[serde(skip_serializing_if = "is_zero_u16")]
    pub attempts: u16,
    /// Deliveries it may have.
    pub max_attempts: u16,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whose task.
    pub tenant_id: String,
    /// When it was accepted.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Time,
    /// When its state last changed.
    #[schema(value_type = String, format = "date-time")]
    pub updated_at: Time,
    /// When a delayed task becomes ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub visible_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub completed_at: Option<Time>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero_u16(number: &u16) -> bool {
    *number == 0
}

/// How a task ended, as clients see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultRecord {
    /// The task.
    #[schema(value_type = String, format = "uuid")]
    pub task_id: TaskId,
    /// `COMPLETED` or `FAILED`.
    pub status: Status,
    /// The worker's JSON, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub result: Option<Box<RawValue>>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Names and addresses of what the worker stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub artifacts: Option<Box<RawValue>>,
    /// When it ended.
    #[schema(value_type = String, format = "date-time")]
    pub completed_at: Time,
}

//! Extractors, middleware, and the one table from error to answer.

mod answer;
mod bare;
mod body;
mod caller;
mod connection;
mod context;
mod error;
mod headers;
mod json;
mod middleware;
mod openapi;
mod pace;
mod page;
pub mod params;
mod path;
mod query;
mod reach;
mod replay;
mod request_id;
pub mod responses;
mod security;
mod serve;
#[cfg(test)]
mod tests;
mod trace;
mod waiting;

pub use answer::{ErrorBody, ItemError};
pub use bare::{BareOr, InKind};
pub use body::{ArrivesBy, Body, BodyOrEmpty, RawBody, RequestBody};
pub use caller::{Admin, Caller, Operator, Producer, Reader, Tenants, Worker, scope};
pub use context::Context;
pub use error::{Error, Limited, Missing, Result, Text};
pub use headers::{IdempotencyKeyHeader, LeaseTokenHeader};
pub use json::{MAX_DEPTH, Object, json_depth, parse};
pub use middleware::around;
pub use openapi::{COMMAND, any_json_but_null, commands, documented, moment_or_blank};
pub use page::{Cursor, Limit, Page, decode_cursor, encode_cursor};
pub use path::{CommandPath, DestinationPath, NamePath, SubscriptionPath, TaskPath, WebhookPath};
pub use query::Query;
pub use replay::{lease_token, replayable};
pub use request_id::{RequestId, X_REQUEST_ID};
pub use serve::{ServerLimits, serve};
pub use trace::TraceHeaders;
pub use waiting::deliberately;

//! `docs/http-api.md`, group by group.

mod admin;
mod batches;
mod claims;
mod dlq;
mod document;
mod hostile;
mod http;
mod idempotency;
mod lease_tokens;
mod lists;
mod order;
mod outages;
mod payloads;
mod producer;
mod rate_limits;
mod reading;
mod receiving;
mod refusals;
mod results;
mod retention;
mod spread;
mod subscriptions;
mod timeline;
mod tokens;
mod topics;
mod waiting;

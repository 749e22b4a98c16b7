//! The broker from outside, in one binary that is linked once. A folder is a kind of promise:
//!
//! - `contract`: what `docs/http-api.md` says, call by call.
//! - `observability`: metrics, traces, logs, profiles and health; a test is named by the row of
//!   the requirement that it shows.
//! - `operations`: how a node starts, stops and shows itself, and what is agreed between files
//!   (scripts, rooms, commands) stays agreed.
//! - `promises`: what the broker promises, kept while nodes, Redis, workers and the network fail.
//! - `slow`: the same for longer; `make soak` only.
//! - `support`: what tests stand on.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod contract;
mod observability;
mod operations;
mod promises;
mod slow;
mod support;

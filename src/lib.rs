//! codeq: a task broker over HTTP in front of Redis. This file is the map.
//!
//! A call comes in at [`routes`], is decided in one file of its own ([`tasks`], [`queues`],
//! [`topics`], [`subscriptions`]), happens in one script of `lua/`, and leaves its traces through
//! `tasks::events`.
//!
//! Arrows point down: `cli` → `node, routes` → operations → `http` → `app` →
//! `store, auth, egress, objects` → `config, telemetry` → `model`. A test reads the `use crate::`
//! lines, so the picture stays true.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod diagnostics;
pub mod egress;
pub mod http;
#[cfg(test)]
mod lua_tests;
pub mod model;
pub mod node;
pub mod objects;
pub mod queues;
pub mod routes;
pub mod store;
pub mod subscriptions;
pub mod sweeper;
pub mod tasks;
pub mod telemetry;
pub mod topics;
pub mod webhooks;

//! codeq: a task broker over HTTP in front of Redis. This file is the map.
//!
//! Arrows point down: `cli` → `node, routes` → operations → `http` → `app` → `store, auth` →
//! `config, telemetry` → `model`. A test reads the `use crate::` lines, so the picture stays true.

pub mod auth;
pub mod cli;
pub mod config;
pub mod diagnostics;
pub mod http;
pub mod model;
pub mod store;
pub mod telemetry;

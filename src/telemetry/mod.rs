//! Metrics, logs and traces.
//!
//! The start has two phases, so that a wrong setting can always be read: [`console`] writes with
//! the environment's level before settings are known, [`start`] puts the configured format, level
//! and exporter in force.

pub mod failpoint;
pub mod log;
pub mod metrics;
mod start;
pub mod trace;
pub mod waits;

pub use log::LogControl;
pub use metrics::Metrics;
pub use start::{CannotStart, Options, Telemetry, console, start};
pub use waits::Waits;

//! Four pillars that share one context. A test is named by the row of the requirement it shows.

mod counts;
mod exposition;
mod health;
mod logs;
mod profiling;
mod settings;
pub mod tracing;

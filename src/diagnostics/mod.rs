//! What operators ask a node: is it alive, is it ready, how is it, what has it counted, where does
//! its time go.
//!
//! Nothing here needs a token, so no answer holds a secret, a host or a tenant.

mod depths;
mod health;
pub mod log_level;
mod pprof;
mod readiness;
mod resources;
mod scrape;

pub use depths::{CommandDepth, OutboxDepth, Reading};
pub use health::{Health, KeySets, Probes, RedisFacts, Report, Status, described, routes};
pub use pprof::{Profiler, serve_profiles};
pub use readiness::{Readiness, Watch};
pub use scrape::Scraper;

//! What extractors and middleware need to reach.

use crate::auth::Auth;
use crate::telemetry::Metrics;

/// The state of the router, as far as this room knows it.
pub trait Context: Clone + Send + Sync + 'static {
    /// Who a token stands for.
    fn auth(&self) -> &Auth;
    /// Where requests are counted.
    fn metrics(&self) -> &Metrics;
    /// The longest body, in bytes.
    fn max_body_bytes(&self) -> usize;
    /// Whether baggage is kept; else it is dropped at the door.
    fn keeps_baggage(&self) -> bool;
    /// Whether this node is about to stop, so that clients should connect elsewhere.
    fn is_draining(&self) -> bool;
}

//! What takes longer than seconds: `make soak` only.

mod checksum;
mod destinations;
mod isolation;
mod recover;
mod storm;
mod tracing;
mod webhooks;

//! What takes longer than seconds: `make soak` only.

mod checksum;
mod storm;
mod webhooks;

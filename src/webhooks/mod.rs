//! Webhooks: how the end of a task is told, and how that is watched and steered.

mod body;
mod carrier;
mod deliver;
pub mod destinations;
mod errand;
mod events;
pub mod ops;
pub mod outbox;
mod schedule;
pub mod scripts;
pub mod secret;
mod settle;
pub mod test_call;

//! Webhooks: how the end of a task is told, and how that is watched and steered.

pub mod admin;
mod body;
mod carrier;
mod deliver;
pub mod destinations;
mod errand;
mod events;
pub mod list;
pub mod of_task;
pub mod ops;
pub mod outbox;
pub mod recover;
pub mod recovery;
mod schedule;
pub mod scripts;
pub(crate) mod search;
pub mod secret;
mod settle;
mod shown;
pub mod test_call;

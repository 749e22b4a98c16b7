//! Webhooks: how the end of a task is told, and how that is watched and steered.

pub mod ops;
pub mod scripts;

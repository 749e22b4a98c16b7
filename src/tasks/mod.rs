//! Calls on tasks, one file each.

pub mod abandon;
mod artifacts;
pub mod cancel;
pub mod claim;
pub mod create;
pub mod events;
mod handover;
pub mod heartbeat;
pub mod nack;
pub mod read;
pub(crate) mod state;
mod step;
pub mod submit;
pub mod timeline;

pub use state::{Found, State, find};

/// Longest reason or error that is kept, in bytes.
const MAX_REASON: usize = 4096;

/// Cuts a reason or error to its limit, at a character.
fn cut(text: &str) -> &str {
    match text.len() > MAX_REASON {
        true => &text[..text.floor_char_boundary(MAX_REASON)],
        false => text,
    }
}

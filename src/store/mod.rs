//! Links to Redis, gathered calls, wake-ups.

mod args;
pub mod bundle;
mod error;
mod reply;
pub mod script;

pub use args::{Arg, Args};
pub use bundle::Library;
pub use error::Error;
pub use redis::Value;
pub use reply::{Field, Fields, Reply, Unexpected};
pub use script::{Class, Script, header};

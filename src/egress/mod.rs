//! Everything a node sends to receivers over HTTP: where it may connect, one attempt, signatures.
//!
//! A URL comes from a tenant and may lead anywhere, so it is judged three times: its text when it
//! is handed in ([`Target::parse`]), a literal address again before each request, and every
//! address that a name resolves to inside the resolver that the connection itself uses.

mod address;
mod attempt;
mod client;
mod events;
mod fault;
mod resolver;
mod sign;
mod target;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use address::Rules;
pub use attempt::{Attempt, MAX_EXCERPT, Outcome};
pub use client::Egress;
pub use events::blocked;
pub use resolver::{Lookup, LookupFuture};
pub use sign::Signer;
pub use target::{BadUrl, MAX_URL, Target};

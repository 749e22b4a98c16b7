//! The holes that webhook senders were seen to have (each test is named after its hole), tried over
//! real connections.

mod answers;
mod guard;
mod proxies;
mod signatures;
mod tls;

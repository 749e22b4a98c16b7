//! The broker from outside, in one binary that is linked once. A folder is a kind of promise:
//!
//! - `operations`: what is agreed between files (scripts, rooms, commands) stays agreed.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod operations;

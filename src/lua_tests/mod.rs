//! The scripts against a real Redis, with a clock that stands still.
//!
//! - `smoke`: a task goes the ways it can go, through the store as nodes use it.
//! - `transitions`: the whole database after each step, so that leftovers cannot hide.
//! - `refusals`: each word of each `FAILS` line, and that it changes nothing.
//! - `promises`: what once broke elsewhere, one test each.
//! - `subscriptions`: who is told that a queue has work.
//! - `model_test`: random sequences against a model in Rust; results and state agree.
//! - `interleavings`: what two or three clients do, in every order.
//! - `depths`: what a scrape reads of queues, tenants and workers.
//! - `folders`: artifacts belong to a record, or somebody is told to delete them.
//! - `destinations`: the circuit of a destination, its pace, and what administrators decide.
//! - `webhook_admin`: deliveries looked at, dropped, sent again and recovered.
//! - `outbox`: whose turn it is to be told, and what a late word is worth; `outbox_model`: two nodes in
//!   random sequences against a model.
//! - `one_slot`: every script on a Redis in cluster mode.
//! - `mutations`: the tests above notice when a script is broken.
//!
//! After every step of a model or an interleaving, `invariants.lua` looks at the whole partition.

mod depths;
mod destinations;
mod dump;
mod folders;
mod interleavings;
mod invariants;
mod model_test;
mod mutations;
mod one_slot;
mod outbox;
mod outbox_model;
mod promises;
mod reference;
mod refusals;
mod smoke;
mod subscriptions;
mod transitions;
mod view;
mod webhook_admin;
mod world;

//! How a node starts, shows itself and stops; what holds for the repository and for the commands of
//! the binary.

mod config;
mod dev;
mod health;
mod house_rules;
mod lua_gate;
mod metrics;
mod shutdown;
mod source;

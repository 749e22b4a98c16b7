//! What holds for the repository and for the commands of the binary.

mod dev;
mod house_rules;
mod lua_gate;
mod source;

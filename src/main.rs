//! `codeq`: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    codeq::cli::main(codeq::cli::Cli::parse())
}

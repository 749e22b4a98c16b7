//! `codeq`: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser as _;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads at its start: ready to take samples of the heap, one in 512 KiB, but taking
/// none until somebody asks for a heap profile.
#[cfg(feature = "jemalloc")]
#[unsafe(export_name = "malloc_conf")]
static MALLOC_CONF: &[u8] = b"prof:true,prof_active:false,lg_prof_sample:19\0";

fn main() -> ExitCode {
    codeq::cli::main(codeq::cli::Cli::parse())
}

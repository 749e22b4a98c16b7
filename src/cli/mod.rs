//! The commands of the binary, one file each.

pub mod bench;
mod completions;
mod config;
mod dev;
mod healthcheck;
mod metrics;
mod serve;
mod webhook;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Problems;

/// Exit code when the settings are wrong, as for wrong arguments.
const WRONG_SETTINGS: u8 = 2;

/// A task broker over HTTP: stateless nodes in front of Redis.
#[derive(Parser, Debug)]
#[command(
    name = "codeq",
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  codeq dev                                  # a broker to try, with a Redis of its own
  codeq serve --config codeq.yaml            # a node
  REDIS_URL=redis://10.0.0.5:6379 codeq serve
  codeq config check --config codeq.yaml     # what is wrong with the settings

Settings come from defaults, a YAML file and the environment, later ones winning."
)]
pub struct Cli {
    /// YAML file with settings; without it the file that `CODEQ_CONFIG` names, if any
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a node until it is told to stop
    #[command(after_help = serve::EXAMPLES)]
    Serve,
    /// Run a broker to try, with a Redis and tokens of its own
    #[command(after_help = "Examples:
  codeq dev                # prints tokens, URLs and calls to paste
  PORT=9000 codeq dev")]
    Dev,
    /// Run a program that ends when standard input does: how `codeq dev` holds its redis-server
    #[command(name = "__guard", hide = true)]
    #[command(after_help = "Examples:\n  codeq __guard -- redis-server --port 0")]
    Guard {
        /// The program and its arguments
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    /// Check or print the settings
    #[command(after_help = config::EXAMPLES)]
    Config {
        #[command(subcommand)]
        action: config::Action,
    },
    /// Print every metric: name, type, labels, meaning
    #[command(after_help = metrics::EXAMPLES)]
    Metrics,
    /// Print what receivers of webhooks need
    #[command(after_help = webhook::EXAMPLES)]
    Webhook {
        #[command(subcommand)]
        action: webhook::Action,
    },
    /// Ask the node on this machine whether it is ready
    Healthcheck(healthcheck::Args),
    /// Measure what a task costs on a running node
    Bench(Box<bench::Args>),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Runs the command. Exits 0, 1 after a failure, or 2 when the settings are wrong; what went wrong
/// is a sentence on standard error.
pub fn main(cli: Cli) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(Box::pin(run(cli))));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.downcast_ref::<crate::node::Told>().is_none() {
                eprintln!("codeq: {error:#}");
            }
            match error.downcast_ref::<Problems>() {
                Some(_) => WRONG_SETTINGS.into(),
                None => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve => serve::run(cli.config).await,
        Command::Dev => dev::run(cli.config).await,
        Command::Guard { program } => match dev::guard::run(&program)? {},
        Command::Config { action } => config::run(action, cli.config),
        Command::Metrics => {
            metrics::run();
            Ok(())
        }
        Command::Webhook { action } => webhook::run(action, cli.config),
        Command::Healthcheck(args) => healthcheck::run(args, cli.config).await,
        Command::Bench(args) => bench::run(*args).await,
        Command::Completions(args) => completions::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_has_examples() {
        fn check(command: &clap::Command, path: &str) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{path} --help shows no example");
            for sub in command.get_subcommands() {
                check(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        check(&Cli::command(), "codeq");
    }

    #[test]
    fn the_file_is_named_before_or_after_the_command() {
        for line in
            [["codeq", "--config", "x.yaml", "serve"], ["codeq", "serve", "--config", "x.yaml"]]
        {
            assert_eq!(Cli::parse_from(line).config, Some("x.yaml".into()));
        }
    }
}

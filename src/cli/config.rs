//! `codeq config`: what is wrong with the settings, or what they are.

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::{self, Sources};

/// Shown below the help.
pub const EXAMPLES: &str = "Examples:
  codeq config check --config codeq.yaml
  codeq config show > effective.yaml";

/// What to do with the settings.
#[derive(Subcommand, Clone, Copy, Debug)]
pub enum Action {
    /// List every problem and warning
    #[command(after_help = "Examples:
  codeq config check --config codeq.yaml
  ENV=production codeq config check

Exits 0 when a node could start, 2 when it could not; warnings do not count.")]
    Check,
    /// Print the effective settings as YAML, secrets masked
    #[command(after_help = "Examples:
  codeq config show
  PORT=9000 codeq config show --config codeq.yaml")]
    Show,
}

/// Loads the settings as `codeq serve` does, and says what came of it.
///
/// # Errors
/// [`config::Problems`] when the settings are wrong.
pub fn run(action: Action, file: Option<PathBuf>) -> anyhow::Result<()> {
    let settings = config::load(&Sources::of_process(file))?;
    match action {
        Action::Check => {
            for warning in &settings.warnings {
                println!("warning: {warning}");
            }
            println!("the settings are valid ({} warnings)", settings.warnings.len());
        }
        Action::Show => print!("{}", config::show(&settings)),
    }
    Ok(())
}

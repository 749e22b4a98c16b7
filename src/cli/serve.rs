//! `codeq serve`: settings, then a node.

use std::path::PathBuf;

use crate::config::{self, Problems, Settings, Sources};

/// Shown below the help.
pub const EXAMPLES: &str = "Examples:
  codeq serve                                # defaults: port 8080, Redis on localhost
  codeq serve --config /etc/codeq/codeq.yaml
  ENV=production REDIS_URL_FILE=/run/secrets/redis codeq serve

Exits 0 after an orderly stop (SIGTERM), 1 after a failure, 2 when the settings are wrong.";

/// Runs a node until it is told to stop.
///
/// # Errors
/// [`Problems`] when the settings are wrong or ask for what this version cannot do yet.
pub async fn run(file: Option<PathBuf>) -> anyhow::Result<()> {
    let settings = config::load(&Sources::of_process(file))?;
    refuse_what_comes_later(&settings)?;
    Box::pin(crate::node::run(settings)).await
}

/// Not by doing something weaker instead: who asks for `synced` must not get `async`.
fn refuse_what_comes_later(settings: &Settings) -> Result<(), Problems> {
    let problems = settings.not_yet_supported();
    if problems.is_empty() {
        return Ok(());
    }
    Err(Problems { problems, warnings: Vec::new() })
}

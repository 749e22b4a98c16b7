//! `codeq metrics`: every metric of this version.

use crate::telemetry::metrics;

/// Shown below the help.
pub const EXAMPLES: &str = "Examples:
  codeq metrics                         # docs/metrics.md of this version
  codeq metrics | grep -A8 outbox_depth";

/// Prints the page.
pub fn run() {
    print!("{}", metrics::reference());
}

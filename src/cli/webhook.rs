//! `codeq webhook`: what receivers of webhooks need.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;

use crate::config::{self, Sources};
use crate::egress::Signer;
use crate::model::TenantId;

/// Shown below the help.
pub const EXAMPLES: &str = "Examples:
  codeq webhook secret --config codeq.yaml
  codeq webhook secret --tenant acme";

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Print the keys with which receivers verify, one per line, in the form their libraries take
    #[command(after_help = "Examples:
  codeq webhook secret --config codeq.yaml
  codeq webhook secret --tenant acme | head -n 1

Takes the settings of `codeq serve`. The first key signs; all of them verify. Without --tenant and
with webhook.secretScope = tenant: the keys of operator events.")]
    Secret {
        /// Whose keys, when each tenant has its own
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
}

/// Prints what was asked for.
///
/// # Errors
/// [`config::Problems`] when the settings are wrong; also for a name that is no tenant's, and
/// without any secret.
pub fn run(action: Action, file: Option<PathBuf>) -> anyhow::Result<()> {
    let Action::Secret { tenant } = action;
    let signer = Signer::new(&config::load(&Sources::of_process(file))?.webhook);
    let keys = match tenant {
        None => signer.operator_keys_shown(),
        Some(name) => {
            let tenant = TenantId::parse(&name).context("--tenant: not a tenant's name")?;
            signer.keys_shown(tenant.as_str())
        }
    };
    anyhow::ensure!(!keys.is_empty(), "no webhookHmacSecret is set: nothing is signed");
    keys.iter().for_each(|key| println!("{key}"));
    Ok(())
}

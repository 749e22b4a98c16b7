//! `codeq completions`: a script for a shell.

use std::io::Write as _;

use clap::{CommandFactory as _, ValueEnum};

/// Which shell.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  codeq completions bash > /etc/bash_completion.d/codeq
  codeq completions zsh > \"${fpath[1]}/_codeq\"
  codeq completions fish > ~/.config/fish/completions/codeq.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// The shells people asked for; the library knows more.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
///
/// # Errors
/// When standard output is closed.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // Into memory first: the library panics when its writer fails, as with `| head`.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "codeq", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}

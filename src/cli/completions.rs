//! `completions`: scripts for shells.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::{Arguments, CommandResult, output};

/// Print a completion script for a shell
///
/// For bash: esa-sidecar completions bash > ~/.local/share/bash-completion/completions/esa-sidecar
#[derive(Args)]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> CommandResult {
        let mut script = Vec::new();
        generate(self.shell, &mut Arguments::command(), "esa-sidecar", &mut script);
        output::print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}

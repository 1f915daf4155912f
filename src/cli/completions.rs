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
        // For bash the generator writes the hyphen of our name in two ways (clap-rs/clap issue 6421), so that nothing
        // completes after the subcommand; written one way, it does.
        let script = String::from_utf8_lossy(&script).replace("esa__subcmd__sidecar", "esa__sidecar");
        output::print(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

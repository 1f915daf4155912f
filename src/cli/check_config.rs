//! `check-config`: what is wrong with a configuration, all of it, without starting.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{CommandError, CommandResult, output};
use crate::{
    config::{Config, Licensing},
    edge::tls::Tls,
};

/// Say all that is wrong with a configuration, without starting
///
/// The environment counts as it would when serving. Exit status 0: nothing is wrong. 64: something is.
#[derive(Args)]
pub(super) struct CheckConfig {
    /// The configuration (TOML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl CheckConfig {
    pub(super) fn run(self) -> CommandResult {
        let shown = self.file.display().to_string();
        let config = Config::read(Some(self.file), Vec::new()).map_err(CommandError::faults)?;
        config.tls.files.map(Tls::read).transpose()?;
        let Licensing { urls, trust, timeout, .. } = config.licensing;
        urls.iter().try_for_each(|url| url.endpoint(&trust, timeout).map(drop))?;
        output::print(&format!("{shown}: nothing is wrong with it\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

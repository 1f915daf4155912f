//! `check-config`: what is wrong with a configuration, all of it, without starting.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{CommandError, CommandResult, exposed, output, read_tls};
use crate::config::{Config, Database, Licensing};

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
        let config = Config::read(Some(self.file.clone()), Vec::new()).map_err(CommandError::faults)?;
        let exposed = exposed::faults(Some(&self.file), &config);
        let tls = read_tls(config.tls.files)?;
        let Licensing { urls, trust, timeout, .. } = config.licensing;
        urls.iter().try_for_each(|url| url.endpoint(&trust, timeout).map(drop))?;
        if let Some(Database::Postgres(postgres)) = &config.backend.database {
            postgres.check_files()?;
            output::print(&format!(
                "{shown}: the database is PostgreSQL at {postgres}; {}\n",
                postgres.security()
            ))?;
        }
        let of_tls = tls.map(|tls| {
            let lists = tls.revocation_faults().into_iter().map(|fault| fault.to_string());
            tls.certificate_faults().into_iter().chain(lists).collect::<Vec<_>>()
        });
        let faults: Vec<String> = of_tls.into_iter().flatten().chain(exposed).collect();
        for fault in &faults {
            output::print(&format!("{shown}: it can be used, but {fault}\n"))?;
        }
        if faults.is_empty() {
            output::print(&format!("{shown}: nothing is wrong with it\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

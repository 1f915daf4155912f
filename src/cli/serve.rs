//! `serve`: the sidecar.

use std::{path::PathBuf, sync::Arc};

use clap::Args;

use super::{CommandError, CommandResult, run_server};
use crate::{
    clock::SystemClock,
    config::{Config, FactsFile, Flag},
    signing::TrustedKeys,
    source::{
        file::FileSource,
        remote::{self, RemoteSource, Trusted},
        units::UnitsFile,
    },
};

/// Run the sidecar
///
/// Settings come from a TOML file, from environment variables (`ESA_SIDECAR__REFRESH__INTERVAL=1m` sets
/// `refresh.interval`) and from flags; flags win over environment over file. Exit status 64: the configuration is
/// wrong, and all that is wrong with it is said.
#[derive(Args)]
pub(super) struct Serve {
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read facts from this file (JSON): one subscription, or an array of them
    #[arg(long, value_name = "FILE")]
    facts: Option<String>,
    #[command(flatten)]
    listen: Listen,
    /// Where the last facts are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

/// Where to listen.
#[derive(Args)]
pub(super) struct Listen {
    /// Where to take questions: an address and port (0 for any), or `unix:PATH` [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where to take health probes [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR")]
    probe_listen: Option<String>,
}

impl Serve {
    pub(super) fn run(self) -> CommandResult {
        let mut flags = self.listen.flags();
        flags.extend(flag("--facts", "file.path", self.facts));
        flags.extend(flag("--data-dir", "data_dir", self.data_dir));
        let config = Config::read(self.config, flags).map_err(CommandError::faults)?;
        if !config.licensing.urls.is_empty() {
            return run_with_backend(config);
        }
        let FactsFile { path, poll_interval, max_bytes } = config.file.clone();
        let path = path.ok_or_else(|| {
            CommandError::configuration(
                "no source of facts: name a licensing backend with `licensing.urls`, or a facts file with --facts FILE \
                 or `file.path`; `esa-sidecar demo` runs with a sample company",
            )
        })?;
        let source = FileSource::new(path, poll_interval, max_bytes);
        let trusted = TrustedKeys::default();
        run_server::until_signal(config, source, Some(trusted), Arc::new(SystemClock::new()), |_| {
            String::new()
        })
    }
}

/// Facts come from the backend that is configured, signed with a key of the configuration or one that is pinned.
fn run_with_backend(mut config: Config) -> CommandResult {
    let pinned = TrustedKeys::file_in(&config.data_dir);
    let configured = config.licensing.keys.clone();
    let trusted_at_start = configured.and(&TrustedKeys::read(&pinned)?)?;
    // What is pinned while the sidecar runs counts from the next facts on; what does not read pins nothing.
    let trusted: Trusted = Arc::new(move || {
        let pinned = TrustedKeys::read(&pinned).unwrap_or_default();
        configured.and(&pinned).unwrap_or_else(|_| configured.clone())
    });
    let units = UnitsFile::of(config.data_dir.clone());
    units.read()?;
    let source =
        RemoteSource::new(config.licensing.urls.clone(), trusted, units, remote::Settings::of(&config))?;
    config.refresh = config.refresh.of_backend(&config.licensing);
    let clock = Arc::new(SystemClock::new());
    run_server::until_signal(config, source, Some(trusted_at_start), clock, |_| String::new())
}

impl Listen {
    pub(super) fn flags(self) -> Vec<Flag> {
        let listen = flag("--listen", "listen.enforcement", self.listen);
        listen.into_iter().chain(flag("--probe-listen", "listen.probes", self.probe_listen)).collect()
    }
}

pub(super) fn flag(flag: &'static str, key: &'static str, value: Option<String>) -> Option<Flag> {
    value.map(|value| Flag { flag, key, value })
}

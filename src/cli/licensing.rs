//! `licensing`: the licensing backend by itself, for a fleet of sidecars.

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Subcommand};

use super::{
    CommandError, CommandResult, output, read_tls, reread::Reread, run_server::Process, serve::flag,
    systemd::listening_on,
};
use crate::{
    clock::WallClock,
    config::Config,
    edge::{passed::Passed, tls::Files},
    health::Monitor,
    licensing::{Anew, FIRST_ACCOUNT, Opened, store::Store},
    server::{self, LicensingListeners},
};

/// Run the licensing backend alone, for a fleet of sidecars
///
/// It keeps licences, units and accounts in a file of the data folder (SQLite), or in PostgreSQL where
/// `backend.database` names one; then any number of these may run on it. The first start makes an owner and puts its
/// one-time password into a file of the data folder, whose path is printed.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Licensing {
    #[command(subcommand)]
    command: Option<LicensingCommand>,
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to take calls: an address and port (0 for any), or `unix:PATH` [default: 127.0.0.1:50052]
    #[arg(long, value_name = "ADDR")]
    licensing_listen: Option<String>,
    /// Where to take health probes [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    probe_listen: Option<String>,
    /// Where signing keys and the database's file are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// `postgres://user:password@host/database`, or a file for SQLite; better set in the configuration, for others see
    /// what programs are started with
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Give the first owner a new one-time password, in a file of the data folder, should the old one be lost; nothing it
    /// had open stays open
    #[arg(long)]
    reset_owner: bool,
    /// Sign with this machine's key although the database names another one, which is lost; every sidecar has to pin it
    #[arg(long)]
    replace_key: bool,
}

#[derive(Subcommand)]
enum LicensingCommand {
    /// Bring the schema of the database up to date, without running a backend
    ///
    /// A backend does so by itself when it starts. Where its role may only read and write rows, run this first, as the
    /// role that owns the database; a backend on a schema that is up to date changes nothing of it.
    Migrate(Migrate),
}

#[derive(Args)]
struct Migrate {
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// `postgres://user:password@host/database`, or a file for SQLite
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

impl Migrate {
    fn run(self) -> CommandResult {
        let flags = flag("--database", "backend.database", self.database);
        let config = Config::read(self.config, flags.into_iter().collect()).map_err(CommandError::faults)?;
        let database = config.backend.database_in(&config.data_dir);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let failed = |error| CommandError::new(format!("{database}: {error}"));
        let done = runtime.block_on(Store::migrate(&database)).map_err(failed)?;
        let done = if done { "is up to date now" } else { "was up to date" };
        output::print(&format!("{database}: the schema {done}\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Licensing {
    pub(super) fn run(self) -> CommandResult {
        if let Some(LicensingCommand::Migrate(migrate)) = self.command {
            return migrate.run();
        }
        let flags = [
            flag("--licensing-listen", "listen.licensing", self.licensing_listen),
            flag("--probe-listen", "listen.probes", self.probe_listen),
            flag("--data-dir", "data_dir", self.data_dir),
            flag("--database", "backend.database", self.database),
        ];
        let passed = Passed::take().map_err(CommandError::configuration)?;
        let flags = listening_on(&passed, flags.into_iter().flatten().collect());
        let config = Config::read(self.config.clone(), flags.clone()).map_err(CommandError::faults)?;
        Process::run(passed, Reread::new(self.config, flags, config), |mut process, config| async move {
            let anew = Anew { owner: self.reset_owner, key: self.replace_key };
            let ended = serve(&mut process, config, anew).await;
            process.ended(ended)
        })
    }
}

async fn serve(process: &mut Process, config: Config, anew: Anew) -> CommandResult {
    let opened = open(process, &config, anew).await?;
    let (licensing, _) = process.open("licensing", &config.listen.licensing, NonZeroUsize::MIN).await?;
    let (probes, _) = process.open("probes", &config.listen.probes, NonZeroUsize::MIN).await?;
    let vitals = process.vitals(Monitor::of_backend());
    let stop = process.stop.clone();
    let backend = opened.backend.clone();
    let tls = read_tls(shown_by_backend(&config))?;
    let listeners = LicensingListeners { licensing, tls, beside: None, probes: Some(probes) };
    let run = Box::pin(server::run_licensing(config, backend, listeners, vitals.clone(), stop));
    process.until_signal(run, &vitals, String::new()).await
}

/// What TLS of the backend shows. Its callers are known by their tokens.
pub(super) fn shown_by_backend(config: &Config) -> Option<Files> {
    config.tls.files.clone().map(Files::asking_for_none)
}

/// Opens the backend and says how the first owner signs in, if this start made one.
pub(super) async fn open(process: &Process, config: &Config, anew: Anew) -> Result<Opened, CommandError> {
    let (clock, stop) = (Arc::new(WallClock), process.stop.clone());
    let opened = Opened::at(&config.data_dir, config.backend.clone(), clock, stop, anew).await?;
    if opened.one_time_password.is_some() {
        let file = opened.password_file.display();
        output::print(&format!(
            "\nThe owner's account is `{FIRST_ACCOUNT}`; its one-time password is in `{file}`,\n\
             for one sign-in within 24 hours: `esa-sidecar accounts sign-in {FIRST_ACCOUNT} --password-file {file}`,\n\
             then `esa-sidecar accounts change-password`.\n\n"
        ))?;
    }
    Ok(opened)
}

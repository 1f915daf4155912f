//! `serve`: the sidecar.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use clap::Args;

use super::{
    CommandError, CommandResult, licensing, read_tls, reread::Reread, run_server::Process,
    systemd::listening_on,
};
use crate::{
    clock::{Clock, SystemClock},
    config::{Config, FactsFile, Flag},
    edge::{address::ListenAddress, passed::Passed, remote::RemoteAddress},
    health::Monitor,
    licensing::{Anew, Opened},
    refresh::persist::{IssuedTo, Store},
    server::{self, LicensingListeners, Listeners, Vitals},
    signing::TrustedKeys,
    source::{
        FactsSource,
        file::FileSource,
        remote::{RemoteSource, Settings, Trusted},
        units::UnitsFile,
    },
};

/// Run the sidecar
///
/// Facts come from a facts file, from the licensing backend `licensing.urls` names or, without either, from a licensing
/// backend in this process, which is managed with `esa-sidecar licenses`, `units` and `accounts`.
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
    /// Where to take health probes [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    probe_listen: Option<String>,
    /// Where the licensing backend takes calls, if it runs in this process [default: 127.0.0.1:50052]
    #[arg(long, value_name = "ADDR")]
    licensing_listen: Option<String>,
}

impl Serve {
    pub(super) fn run(self) -> CommandResult {
        let mut flags = self.listen.flags();
        flags.extend(flag("--facts", "file.path", self.facts));
        flags.extend(flag("--data-dir", "data_dir", self.data_dir));
        let passed = Passed::take().map_err(CommandError::configuration)?;
        let flags = listening_on(&passed, flags);
        let config = Config::read(self.config.clone(), flags.clone()).map_err(CommandError::faults)?;
        Process::run(passed, Reread::new(self.config, flags, config), |mut process, config| async move {
            let ended = serve(&mut process, config).await;
            process.ended(ended)
        })
    }
}

/// Serves from the source of facts that is configured; without one, from a licensing backend in this process.
async fn serve(process: &mut Process, mut config: Config) -> CommandResult {
    let FactsFile { path, poll_interval, max_bytes } = config.file.clone();
    if let Some(path) = path {
        let source = FileSource::new(path, poll_interval, max_bytes);
        let store = Store::open(config.data_dir.clone())?;
        return sidecar(process, config, source, store).await;
    }
    if config.licensing.urls.is_empty() {
        let opened = licensing::open(process, &config, Anew::default()).await?;
        return embedded(process, config, opened, Arc::new(SystemClock::new()), |_, _| String::new()).await;
    }
    let (pinned, file) = (config.licensing.keys.clone(), TrustedKeys::file_in(&config.data_dir));
    let trusted = pinned.and(&TrustedKeys::read(&file)?)?;
    if trusted.keys().is_empty() {
        tracing::warn!(
            "no key of the licensing backend is trusted, so nothing it tells is believed: run `esa-sidecar keys show` \
             where the backend runs, then `esa-sidecar keys pin KEY` here, or set `licensing.keys`"
        );
    }
    let now = Arc::new(trusted_now(pinned, file));
    let (source, store) = remote(&config, config.licensing.urls.clone(), now, trusted)?;
    config.refresh = config.refresh.of_backend(&config.licensing);
    sidecar(process, config, source, store).await
}

/// Tells the keys that are trusted now, those of the configuration and those pinned meanwhile. A file that cannot be read
/// pins none; that is told once, until it reads again.
fn trusted_now(configured: TrustedKeys, file: PathBuf) -> impl Fn() -> TrustedKeys {
    let told = Mutex::new(None);
    move || {
        let read = TrustedKeys::read(&file).and_then(|pinned| configured.and(&pinned));
        let fault = read.as_ref().err().map(ToString::to_string);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = fault.as_ref().filter(|fault| told.as_ref() != Some(*fault)) {
            tracing::error!("pinned keys are not trusted, only those of the configuration: {fault}");
        }
        *told = fault;
        read.unwrap_or_else(|_| configured.clone())
    }
}

/// A source that asks a licensing backend, and the store of what it tells.
fn remote(
    config: &Config,
    urls: Vec<RemoteAddress>,
    now: Trusted,
    at_start: TrustedKeys,
) -> Result<(RemoteSource, Store), CommandError> {
    let units = UnitsFile::of(config.data_dir.clone());
    let ours = units.read()?.units.into_iter().map(|unit| (unit.unit_id, unit.subscription_id));
    let ours = IssuedTo::these(ours, config.licensing.subscription);
    let store = Store::open(config.data_dir.clone())?.trusting(at_start, ours);
    Ok((RemoteSource::new(urls, now, units, Settings::of(config))?, store))
}

async fn sidecar<S: FactsSource>(
    process: &mut Process,
    config: Config,
    source: S,
    store: Store,
) -> CommandResult {
    let (enforcement, _) =
        process.open("enforcement", &config.listen.enforcement, config.listen.threads).await?;
    let (probes, _) = process.open("probes", &config.listen.probes, NonZeroUsize::MIN).await?;
    let tls = read_tls(config.tls.files.clone())?;
    let (listeners, vitals) = (Listeners { enforcement, probes, tls }, process.vitals(Monitor::new()));
    let (clock, stop) = (Arc::new(SystemClock::new()), process.stop.clone());
    let settings = process.settings(config);
    // Boxed, because each hand it goes through would keep room for it.
    let run = Box::pin(server::run(settings, source, Some(store), listeners, clock, vitals.clone(), stop));
    process.until_signal(run, &vitals, String::new()).await
}

/// A sidecar and the licensing backend it asks, in one process. The sidecar goes through the same door as one on another
/// machine: it is told signed facts over a connection, as the units it was activated as.
pub(super) async fn embedded(
    process: &mut Process,
    mut config: Config,
    opened: Opened,
    clock: Arc<dyn Clock>,
    greeting: impl FnOnce(&ListenAddress, &ListenAddress) -> String,
) -> CommandResult {
    let backend = opened.backend.clone();
    let keys = Arc::clone(backend.keys());
    let trusted = move || TrustedKeys::of(keys.public_keys()).unwrap_or_default();
    let (enforcement, asked_at) =
        process.open("enforcement", &config.listen.enforcement, config.listen.threads).await?;
    let (probes, _) = process.open("probes", &config.listen.probes, NonZeroUsize::MIN).await?;
    let (licensing, backend_at) =
        process.open("licensing", &config.listen.licensing, NonZeroUsize::MIN).await?;
    let (at_start, of_backend) = (trusted(), read_tls(licensing::shown_by_backend(&config))?);
    let own_way = own_way(&config, of_backend.is_some(), &backend_at);
    let asked = own_way.clone().unwrap_or_else(|| backend_at.clone());
    let (source, store) = remote(&config, vec![asked.into()], Arc::new(trusted), at_start)?;
    // Once the data folder is known to be ours.
    let beside = match &own_way {
        Some(own_way) => Some(process.open_for_ourselves(own_way).await?),
        None => None,
    };
    config.refresh = config.refresh.of_backend(&config.licensing);
    let stop = process.stop.clone();
    let tls = read_tls(config.tls.files.clone())?;
    let (listeners, vitals) = (Listeners { enforcement, probes, tls }, process.vitals(Monitor::new()));
    let vitals_of_backend = Vitals { monitor: Monitor::of_backend(), metrics: vitals.metrics.clone() };
    let of_backend = LicensingListeners { licensing, tls: of_backend, beside, probes: None };
    let beside =
        Box::pin(server::run_licensing(config.clone(), backend, of_backend, vitals_of_backend, stop.clone()));
    let settings = process.settings(config);
    let run = Box::pin(server::run(settings, source, Some(store), listeners, clock, vitals.clone(), stop));
    let both = async { tokio::try_join!(run, beside).map(drop) };
    process.until_signal(both, &vitals, greeting(&asked_at, &backend_at)).await
}

/// The way of the sidecar to the backend beside it where that speaks TLS: what its certificate is for is the name by which
/// others know it, and they need not be of an authority this machine believes. Whoever reaches the socket reads the
/// backend's keys and database as well.
fn own_way(config: &Config, speaks_tls: bool, backend_at: &ListenAddress) -> Option<ListenAddress> {
    let is_needed = speaks_tls && matches!(backend_at, ListenAddress::Tcp(_));
    is_needed.then(|| ListenAddress::Unix(config.data_dir.join("licensing/beside.sock")))
}

impl Listen {
    pub(super) fn flags(self) -> Vec<Flag> {
        let flags = [
            flag("--listen", "listen.enforcement", self.listen),
            flag("--probe-listen", "listen.probes", self.probe_listen),
            flag("--licensing-listen", "listen.licensing", self.licensing_listen),
        ];
        flags.into_iter().flatten().collect()
    }
}

pub(super) fn flag(flag: &'static str, key: &'static str, value: Option<String>) -> Option<Flag> {
    value.map(|value| Flag { flag, key, value })
}

//! What `serve` and `demo` share: open the listeners, say where, run until a signal.

use std::{convert::Infallible, process::ExitCode, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{CommandError, CommandResult, FAILED, output};
use crate::{
    clock::Clock,
    config::Config,
    edge::{address::ListenAddress, listener::Listener},
    health::Monitor,
    refresh::persist::{PersistError, Store},
    server::{self, Listeners},
    signing::TrustedKeys,
    source::FactsSource,
    telemetry::Telemetry,
};

/// Runs a sidecar until SIGTERM or SIGINT; a second one stops it at once. `greeting` is printed once it is ready, and
/// is given the address that takes questions. Facts are kept in `data_dir` if `trusted` says which of those kept are
/// believed.
pub(super) fn until_signal<S: FactsSource>(
    config: Config,
    source: S,
    trusted: Option<TrustedKeys>,
    clock: Arc<dyn Clock>,
    greeting: impl FnOnce(&ListenAddress) -> String,
) -> CommandResult {
    let telemetry = Telemetry::start(&config.log);
    let open = |trusted| Ok::<_, PersistError>(Store::open(config.data_dir.clone())?.trusting(trusted));
    let store = trusted.map(open).transpose()?;
    if store.is_some() {
        tracing::info!(folder = %config.data_dir.display(), "the last facts are kept");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut opened = Vec::new();
    let ended = runtime.block_on(async {
        // Before anything is printed: whoever reads an address may stop us at once.
        let mut signals = Signals::new()?;
        let enforcement = Listener::open(&config.listen.enforcement).await?;
        opened.push(config.listen.enforcement.clone());
        let probes = Listener::open(&config.listen.probes).await?;
        opened.push(config.listen.probes.clone());
        let listeners = Listeners { enforcement, probes };
        let address = |listener: &Listener| {
            listener
                .address()
                .ok_or_else(|| CommandError::new("the operating system does not say where it listens"))
        };
        let enforcement = address(&listeners.enforcement)?;
        output::print(&format!(
            "enforcement listening on {enforcement}\nprobes listening on {}\n",
            address(&listeners.probes)?
        ))?;
        let stop = CancellationToken::new();
        let monitor = Monitor::new();
        let mut statuses = monitor.statuses();
        let run = server::run(config, source, store, listeners, clock, monitor, stop.clone());
        tokio::pin!(run);
        let greeted = async {
            // Whoever pastes what is printed gets an answer.
            if statuses.wait_for(|statuses| statuses.ready).await.is_ok() {
                output::print(&greeting(&enforcement))?;
            }
            std::future::pending::<Result<Infallible, CommandError>>().await
        };
        tokio::select! {
            ended = &mut run => return ended.map(|()| ExitCode::SUCCESS).map_err(CommandError::from),
            Err(error) = greeted => return Err(error),
            () = telemetry.tell_dropped() => {}
            () = signals.next() => {}
        }
        stop.cancel();
        tokio::select! {
            ended = &mut run => ended.map(|()| ExitCode::SUCCESS).map_err(CommandError::from),
            () = signals.next() => {
                tracing::warn!("a second signal: stopping at once, open calls are cut off");
                Ok(ExitCode::from(FAILED))
            }
        }
    });
    // Work that blocks, such as keeping facts on disk, is safe at every instant and need not be waited for.
    runtime.shutdown_background();
    // Only what was opened here: a socket that could not be opened may be another sidecar's.
    opened.iter().for_each(ListenAddress::tidy_up);
    ended
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, CommandError> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

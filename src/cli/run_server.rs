//! What `serve`, `demo` and `licensing` share: open the listeners, say where, run until a signal.
//!
//! Not here: what is served.

use std::{convert::Infallible, future::Future, num::NonZeroUsize, process::ExitCode};

use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{
    CommandError, CommandResult, FAILED, exposed, open_files, output, reread::Reread, systemd::Systemd,
};
use crate::{
    config::{self, Config},
    edge::{
        address::ListenAddress,
        listener::{Listener, Opening},
        passed::{Passed, PassedSocket},
        socket_file::SocketFile,
    },
    health::Monitor,
    server::{Metrics, ServeError, Vitals},
    telemetry::Telemetry,
};

/// A process that serves until SIGTERM or SIGINT; a second one stops it at once.
pub(super) struct Process {
    /// Cancelled when it is to stop.
    pub(super) stop: CancellationToken,
    telemetry: Telemetry,
    signals: Signals,
    hangup: Signal,
    /// What SIGHUP reads again.
    reread: Reread,
    /// Sockets to serve on that are open already.
    passed: Passed,
    opened: Vec<SocketFile>,
    systemd: Systemd,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Process {
    /// Runs `work` in a process of its own runtime and log, on the sockets that were `passed`.
    pub(super) fn run<F>(
        passed: Passed,
        reread: Reread,
        work: impl FnOnce(Self, Config) -> F,
    ) -> CommandResult
    where
        F: Future<Output = (Vec<SocketFile>, CommandResult)>,
    {
        let mut config = reread.read().clone();
        let telemetry = Telemetry::start(&config.log);
        open_files::raise(&mut config.limits.bounds);
        for fault in exposed::faults(reread.file(), &config) {
            tracing::warn!("{fault}");
        }
        let runtime: Runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (opened, ended) = runtime.block_on(async {
            // Before anything is printed: whoever reads an address may stop us at once.
            let (signals, hangup) = match (Signals::new(), signal(SignalKind::hangup())) {
                (Ok(signals), Ok(hangup)) => (signals, hangup),
                (Err(error), _) => return (Vec::new(), Err(error)),
                (_, Err(error)) => return (Vec::new(), Err(error.into())),
            };
            let stop = CancellationToken::new();
            let (opened, systemd) = (Vec::new(), Systemd::default());
            let process = Self { stop, telemetry, signals, hangup, reread, passed, opened, systemd };
            work(process, config).await
        });
        // Work that blocks, such as keeping facts on disk, is safe at every instant and need not be waited for.
        runtime.shutdown_background();
        // Only what was opened here: a socket that could not be opened may be another sidecar's.
        opened.iter().for_each(SocketFile::remove);
        ended
    }

    /// Vitals told through `monitor`, those of this process among them.
    pub(super) fn vitals(&self, monitor: Monitor) -> Vitals {
        Vitals { monitor, metrics: Metrics::default().with_log(self.telemetry.dropped()) }
    }

    /// `present` and what SIGHUP makes of it.
    pub(super) fn settings(&self, present: Config) -> watch::Receiver<Config> {
        self.reread.settings(present)
    }

    /// Opens `address` with so many accept queues, or takes the socket that was passed for it, and says so.
    pub(super) async fn open(
        &mut self,
        what: &str,
        address: &ListenAddress,
        queues: NonZeroUsize,
    ) -> Result<(Listener, ListenAddress), CommandError> {
        let config::Listen { socket_mode: mode, socket_owner: owner, .. } = self.reread.read().listen;
        let listener = match self.passed.remove(what) {
            Some(passed) => Listener::of(passed, queues)?,
            None => {
                let listener = Listener::open(address, Opening { queues, mode, owner }).await?;
                self.opened.extend(SocketFile::of(address));
                listener
            }
        };
        let taken = listener.address().clone();
        output::print(&format!("{what} listening on {taken}\n"))?;
        Ok((listener, taken))
    }

    /// Opens `address` for this process alone, whatever is configured of others, and says nothing of it.
    pub(super) async fn open_for_ourselves(
        &mut self,
        address: &ListenAddress,
    ) -> Result<Listener, CommandError> {
        let opening = Opening { queues: NonZeroUsize::MIN, mode: 0o600, owner: None };
        let listener = Listener::open(address, opening).await?;
        self.opened.extend(SocketFile::of(address));
        Ok(listener)
    }

    /// Runs `run` until it ends or a signal comes; `greeting` is printed once it is ready.
    pub(super) async fn until_signal(
        &mut self,
        run: impl Future<Output = Result<(), ServeError>>,
        Vitals { monitor, .. }: &Vitals,
        greeting: String,
    ) -> CommandResult {
        for PassedSocket { name, address, .. } in self.passed.rest() {
            tracing::warn!(
                "nothing is served on the socket that was passed as `{name}`, {address}: it is closed"
            );
        }
        tokio::pin!(run);
        let mut statuses = monitor.statuses();
        let greeted = async {
            // Whoever pastes what is printed gets an answer.
            if statuses.wait_for(|statuses| statuses.ready).await.is_ok() {
                output::print(&greeting)?;
            }
            std::future::pending::<Result<Infallible, CommandError>>().await
        };
        let hung_up = async {
            loop {
                self.hangup.recv().await;
                self.systemd.reloading(|| self.reread.again());
            }
        };
        tokio::select! {
            ended = &mut run => return ended.map(|()| ExitCode::SUCCESS).map_err(CommandError::from),
            Err(error) = greeted => return Err(error),
            () = self.telemetry.tell_dropped() => {}
            () = hung_up => {}
            () = self.systemd.follow(monitor.statuses()) => {}
            never = self.systemd.keep_watchdog() => match never {},
            () = self.signals.next() => {}
        }
        self.systemd.stopping();
        self.stop.cancel();
        tokio::select! {
            never = self.systemd.keep_watchdog() => match never {},
            ended = &mut run => ended.map(|()| ExitCode::SUCCESS).map_err(CommandError::from),
            () = self.signals.next() => {
                tracing::warn!("a second signal: stopping at once, open calls are cut off");
                Ok(ExitCode::from(FAILED))
            }
        }
    }

    /// What was opened, and how it ended.
    pub(super) fn ended(self, ended: CommandResult) -> (Vec<SocketFile>, CommandResult) {
        (self.opened, ended)
    }
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

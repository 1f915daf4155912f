//! What this process is seen to do: the page that Prometheus reads.
//!
//! Rooms count for themselves and know nothing of the page; it is made when somebody looks. Not here: what is counted.

mod accept;
mod calls;
mod enforcement;
mod page;
mod process;
mod subscriptions;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    registry::Registry,
};
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
};
use tracing_appender::non_blocking::ErrorCounter;

use self::page::Page;
use super::rooms::Rooms;
use crate::{
    cache::Cache, clock::Clock, edge::Connections, enforcement::Enforcement, freshness::Freshness,
    health::Statuses, refresh,
};

/// All that can be seen of this process; copies are the same.
#[derive(Clone, Default)]
pub struct Metrics {
    seen: Arc<Mutex<Seen>>,
    /// One page is made at a time: who asks for many has one processor at the most.
    making: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Seen {
    listeners: Vec<OfListener>,
    sidecar: Option<OfSidecar>,
    log: Option<ErrorCounter>,
}

/// A page to be written.
struct Collected {
    metrics: Metrics,
    by_name: ByName,
}

/// Whether subscriptions and callers have rows of their own, by whether callers are told apart.
type ByName = Box<dyn Fn(bool) -> bool + Send + Sync>;

/// A listener: its connections and their calls.
pub(super) struct OfListener {
    pub(super) name: &'static str,
    pub(super) connections: Connections,
    pub(super) rooms: Rooms,
}

/// A sidecar: its answers and what they are given from.
pub(super) struct OfSidecar {
    pub(super) enforcement: Enforcement,
    pub(super) cache: Arc<Cache>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) freshness: Freshness,
    pub(super) refresh: refresh::Handle,
    pub(super) statuses: watch::Receiver<Statuses>,
    /// How many subscriptions have rows of their own.
    pub(super) subscriptions: usize,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPage {
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping(#[from] JoinError),
    /// A row does not read.
    #[error("a row cannot be written: {0}")]
    Unwritten(#[from] fmt::Error),
}

/// How the page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own, 0.0.4, which every tool reads.
    Prometheus,
}

impl Metrics {
    /// The same, and the lines of the log that were dropped.
    #[must_use]
    pub fn with_log(self, dropped: ErrorCounter) -> Self {
        self.seen().log = Some(dropped);
        self
    }

    pub(super) fn add_listener(&self, listener: OfListener) {
        self.seen().listeners.push(listener);
    }

    pub(super) fn add_sidecar(&self, sidecar: OfSidecar) {
        self.seen().sidecar = Some(sidecar);
    }

    /// The page as it is now, made where it keeps nobody from being answered. `by_name` says whether subscriptions and
    /// callers have rows of their own, by whether callers are told apart now.
    pub(super) async fn page(
        &self,
        format: Format,
        by_name: impl Fn(bool) -> bool + Send + Sync + 'static,
    ) -> Result<Bytes, NoPage> {
        let _alone = self.making.lock().await;
        let metrics = self.clone();
        spawn_blocking(move || metrics.made(format, Box::new(by_name))).await?.map_err(NoPage::from)
    }

    fn made(self, format: Format, by_name: ByName) -> Result<Bytes, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Collected { metrics: self, by_name }));
        let mut page = String::new();
        match format {
            Format::OpenMetrics => text::encode(&mut page, &registry)?,
            Format::Prometheus => prometheus_text::encode(&mut page, &registry)?,
        }
        Ok(page.into())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Collected {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let Self { metrics, by_name } = self;
        let seen = metrics.seen();
        let mut page = Page::new(encoder);
        process::show(&mut page, seen.log.as_ref())?;
        calls::show(&mut page, &seen.listeners)?;
        match &seen.sidecar {
            Some(sidecar) => {
                let by_name = by_name(sidecar.enforcement.tells_callers_apart());
                enforcement::show(&mut page, sidecar, by_name)?;
                subscriptions::show(&mut page, sidecar, by_name)
            }
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Collected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.metrics.fmt(formatter)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Format {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

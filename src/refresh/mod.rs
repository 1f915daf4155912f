//! Fetch, derive, publish, persist, for ever.
//!
//! The source is asked at an interval, when it says that it changed, and when a caller asks for it. A source that
//! cannot be asked is retried with back-off; what was published stays published (semantics 5.3). Not here: what
//! facts mean (see `domain`), how they are kept on disk (see `persist`).

mod backoff;
pub mod book;
mod handle;
pub mod persist;
mod sms;

use std::{panic::resume_unwind, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::{JoinError, spawn_blocking},
    time::Instant as Tick,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

pub use self::handle::{Handle, NotRefreshed};
use self::{
    backoff::Backoff,
    book::{Book, Telling},
    persist::{PersistError, Persisted, Store},
};
use crate::{
    cache::Writer,
    clock::Clock,
    config,
    domain::{Instant, Span},
    source::{FactsSource, Fetched, SourceError},
};

/// Keeps the cache as fresh as its source.
pub struct Refresher<S> {
    source: Arc<S>,
    book: Arc<Mutex<Book>>,
    store: Option<Arc<Store>>,
    clock: Arc<dyn Clock>,
    settings: config::Refresh,
    requests: mpsc::Receiver<oneshot::Sender<Outcome>>,
    sync: watch::Sender<Sync>,
    backoff: Backoff,
    last_fetch: Option<Tick>,
    /// As of when the facts on disk are; nothing while what is published is not on disk.
    on_disk: Option<Instant>,
    issued_at: Option<Instant>,
}

/// How far the refresher has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sync {
    /// As of when the facts in the cache are; nothing before any are published.
    pub published_as_of: Option<Instant>,
    /// Why the source told nothing the last time, if it did not.
    pub failure: Option<SourceError>,
}

/// How a refresh ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Other facts were told.
    Updated,
    /// The same facts were told.
    Unchanged,
    /// None were told, or what was told is refused.
    Failed(SourceError),
}

/// Facts that did not change are written again when what is on disk is older than this, so that a restart knows
/// how old they really are to the hour.
const REWRITE_AFTER: Span = Span::from_nanos(3_600 * Span::SECOND.nanos());

impl<S: FactsSource> Refresher<S> {
    /// A refresher from `source` to `writer`, and the handle to it. Facts kept by an earlier run of the same source
    /// are published before this returns.
    pub fn start(
        source: S,
        writer: Writer,
        store: Option<Store>,
        clock: Arc<dyn Clock>,
        settings: config::Refresh,
    ) -> (Self, Handle) {
        let source = Arc::new(source);
        let (asked, requests) = mpsc::channel(settings.requests_waiting);
        let (sync, _) = watch::channel(Sync::default());
        let mut book = Book::new(writer, settings.remembered_sms);
        let issued_at = match store.as_ref().and_then(load) {
            Some(persisted) if persisted.source == source.identity() => {
                info!(subscriptions = persisted.records.len(), "going on from the facts kept on disk");
                let Persisted { as_of, issued_at, .. } = persisted;
                issued_at.into_iter().for_each(|issued_at| clock.heard(issued_at));
                book.restore(persisted, clock.now());
                sync.send_modify(|sync| sync.published_as_of = Some(as_of));
                issued_at
            }
            Some(Persisted { source: kept, revision, .. }) => {
                warn!(
                    kept,
                    now = source.identity(),
                    "the facts kept on disk are of another source; not used"
                );
                book.number_after(revision);
                None
            }
            None => None,
        };
        let book = Arc::new(Mutex::new(book));
        let takes_report = Arc::clone(&source);
        let handle = Handle {
            requests: asked,
            sync: sync.subscribe(),
            book: Arc::clone(&book),
            report: Arc::new(move |id, counts| takes_report.report(id, counts)),
            clock: Arc::clone(&clock),
        };
        let refresher = Self {
            source,
            book,
            store: store.map(Arc::new),
            clock,
            backoff: Backoff::new(settings.retry_first, settings.retry_most),
            settings,
            requests,
            sync,
            last_fetch: None,
            on_disk: None,
            issued_at,
        };
        (refresher, handle)
    }

    /// Refreshes until `stop`. What was fetched by then is published and kept on disk before this returns.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut due = Tick::now();
        while let Some(mut waiting) = stop.run_until_cancelled(self.occasion(due)).await {
            // Whoever asks from here on asks for the next fetch: this one may tell what was so before they asked.
            while let Ok(caller) = self.requests.try_recv() {
                waiting.push(caller);
            }
            self.last_fetch = Some(Tick::now());
            let asked_at = self.clock.now();
            let Some(fetched) = stop.run_until_cancelled(self.fetch()).await else { return };
            let outcome = self.take(fetched, asked_at).await;
            due = Tick::now() + self.next_in(&outcome);
            for caller in waiting {
                // A caller that has gone needs no answer.
                let _ = caller.send(outcome.clone());
            }
        }
    }

    /// Waits until the source is to be asked; the first of the callers who want it to be.
    async fn occasion(&mut self, due: Tick) -> Vec<oneshot::Sender<Outcome>> {
        let mut waiting = Vec::new();
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = self.source.changed() => {}
            Some(caller) = self.requests.recv() => {
                waiting.push(caller);
                // However many ask, the source is not asked more often than this.
                if let Some(last) = self.last_fetch {
                    tokio::time::sleep_until(last + self.settings.at_most_every).await;
                }
            }
        }
        waiting
    }

    /// How long until the source is asked of our own accord.
    fn next_in(&mut self, outcome: &Outcome) -> Duration {
        match outcome {
            Outcome::Failed(error) if error.is_retried() => self.backoff.next(),
            Outcome::Failed(_) | Outcome::Updated | Outcome::Unchanged => {
                self.backoff.reset();
                backoff::jittered(self.settings.interval, self.settings.jitter_percent)
            }
        }
    }

    async fn fetch(&self) -> Result<Fetched, SourceError> {
        let within = self.settings.timeout;
        tokio::time::timeout(within, self.source.fetch()).await.unwrap_or_else(|_| {
            let what = format!("{} did not answer within {within:?}", self.source.identity());
            Err(SourceError::Unreachable(what))
        })
    }

    async fn take(&mut self, fetched: Result<Fetched, SourceError>, asked_at: Instant) -> Outcome {
        match fetched {
            Ok(fetched) => {
                let (as_of, changed) = self.publish(fetched, asked_at).await;
                self.persist(as_of, changed).await;
                if self.failure_becomes(None) && !changed {
                    info!(source = self.source.identity(), "facts are told again, unchanged");
                }
                if changed { Outcome::Updated } else { Outcome::Unchanged }
            }
            Err(error) => {
                self.log_failure(&error);
                Outcome::Failed(error)
            }
        }
    }

    /// The same failure again, as in an outage, is told only to who asks for details.
    fn log_failure(&self, error: &SourceError) {
        let next = if error.is_retried() { "trying again" } else { "waiting for the next edit" };
        if self.failure_becomes(Some(error)) {
            warn!("facts not refreshed, {next}: {error}");
        } else {
            debug!("facts not refreshed, {next}: {error}");
        }
    }

    /// Notes why the source told nothing, if it did not; whether that is news.
    fn failure_becomes(&self, failure: Option<&SourceError>) -> bool {
        self.sync.send_if_modified(|sync| {
            let is_news = sync.failure.as_ref() != failure;
            if is_news {
                sync.failure = failure.cloned();
            }
            is_news
        })
    }

    /// Publishes what was fetched; as of when it is, and whether it differs.
    async fn publish(&mut self, fetched: Fetched, asked_at: Instant) -> (Instant, bool) {
        if let Fetched::All { issued_at: Some(issued_at), .. } = &fetched {
            self.issued_at = Some(*issued_at);
            self.clock.heard(*issued_at);
        }
        let as_of = self.issued_at.unwrap_or(asked_at);
        let vouched = self.issued_at.is_some();
        let telling = Telling { as_of, origin: self.source.origin(), now: self.clock.now(), vouched };
        let mut book = Arc::clone(&self.book).lock_owned().await;
        // A hundred thousand timelines take a while; no worker that answers questions is kept by it.
        let changed = spawn_blocking(move || match fetched {
            Fetched::All { facts, .. } => book.tell(facts, telling),
            Fetched::Unchanged => {
                book.confirm(telling);
                false
            }
        });
        let changed = match changed.await.map_err(JoinError::try_into_panic) {
            Ok(changed) => changed,
            // Half a book must neither be gone on with nor be kept on disk: the next start has the last whole one.
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(_stopping)) => return (as_of, false),
        };
        // Ready only now that they are in the cache.
        self.sync.send_modify(|sync| sync.published_as_of = Some(as_of));
        if changed {
            let (subscriptions, revision) = self.book.lock().await.size();
            info!(source = self.source.identity(), subscriptions, revision, "facts updated");
        }
        (as_of, changed)
    }

    /// Keeps on disk what was published. A disk that refuses keeps nobody from being answered.
    async fn persist(&mut self, as_of: Instant, changed: bool) {
        let Some(store) = self.store.clone() else { return };
        if !changed && self.on_disk.is_some_and(|on_disk| as_of - on_disk < REWRITE_AFTER) {
            return;
        }
        self.on_disk = None;
        let persisted = self.book.lock().await.to_persist(self.source.identity(), as_of, self.issued_at);
        let within = self.settings.timeout;
        match tokio::time::timeout(within, spawn_blocking(move || store.save(&persisted))).await {
            Ok(Ok(Ok(()))) => self.on_disk = Some(as_of),
            Ok(Ok(Err(error))) => error!("facts not kept on disk, tried again at the next refresh: {error}"),
            Ok(Err(failure)) => error!("facts not kept on disk: {failure}"),
            Err(_) => error!("facts not kept on disk: it took longer than {within:?}"),
        }
    }
}

fn load(store: &Store) -> Option<Persisted> {
    store.load().unwrap_or_else(|error: PersistError| {
        error!("starting without the facts of the last run: {error}");
        None
    })
}

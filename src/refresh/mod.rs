//! Fetch, derive, publish and persist, for ever; what is signed is persisted first (semantics 5.5).
//!
//! The source is asked at an interval, when it says that it changed, and when a caller asks for it. A source that
//! cannot be asked is retried with back-off; what was published stays published (semantics 5.3). Not here: what
//! facts mean (see `domain`), how they are kept on disk (see `persist`).

pub mod book;
mod disk;
mod handle;
pub mod outbox;
pub mod persist;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::resume_unwind,
    sync::Arc,
};

use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::{JoinError, spawn_blocking},
    time::Instant as Tick,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

pub use self::handle::{Handle, NotRefreshed, NotReported, Tallied, UsageReport};
use self::{
    book::{Book, Taken},
    disk::Disk,
    outbox::{Bounds, Outbox},
    persist::{PersistError, Persisted, Step, Store},
};
use crate::{
    backoff::{self, Backoff},
    cache::Writer,
    clock::Clock,
    config,
    domain::{Instant, SubscriptionId},
    source::{Answer, Ask, FactsSource, Fetched, Occasion, SourceError, usage::UsageAnswer},
};

/// Keeps the cache as fresh as its source.
pub struct Refresher<S> {
    source: Arc<S>,
    book: Arc<Mutex<Book>>,
    outbox: Outbox,
    disk: Disk,
    clock: Arc<dyn Clock>,
    settings: config::Refresh,
    requests: mpsc::Receiver<oneshot::Sender<Outcome>>,
    sync: watch::Sender<Sync>,
    backoff: Backoff,
    last_fetch: Option<Tick>,
    tallied: Arc<Tallied>,
    /// Before then no usage is handed over of our own accord: the source is away, or was just asked.
    usage_from: Tick,
}

/// How far the refresher has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sync {
    /// As of when the facts in the cache are; nothing before any are published.
    pub published_as_of: Option<AsOf>,
    /// Why the source told nothing the last time, or not of everything, if it did not.
    pub failure: Option<SourceError>,
}

/// As of when facts of several subscriptions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// The oldest of them.
    pub oldest: Instant,
    /// The newest of them.
    pub newest: Instant,
}

/// How a refresh ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Other facts were told.
    Updated,
    /// The same facts were told.
    Unchanged,
    /// None were told, or not of everything, or something of what was told is refused.
    Failed(SourceError),
}

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
        let bounds = Bounds { remembered: settings.remembered_sms, waiting: settings.usage_waiting };
        let outbox = match &store {
            Some(store) => Outbox::beside(store, bounds),
            None => Outbox::in_memory(bounds),
        };
        let mut book = Book::new(writer, outbox.clone());
        match store.as_ref().and_then(load) {
            Some(persisted) if persisted.source == source.identity() => {
                info!(subscriptions = persisted.records.len(), "going on from the facts kept on disk");
                persisted.issued_at().into_iter().for_each(|issued_at| clock.heard(issued_at));
                book.restore(persisted, clock.now());
                let as_of = book.publish();
                sync.send_modify(|sync| sync.published_as_of = as_of);
            }
            Some(Persisted { source: kept, revision, .. }) => {
                warn!(
                    kept,
                    now = source.identity(),
                    "the facts kept on disk are of another source; not used"
                );
                book.number_after(revision);
            }
            None => {}
        }
        let book = Arc::new(Mutex::new(book));
        let (takes_usage, tallied) = (Arc::clone(&source), Arc::<Tallied>::default());
        let handle = Handle {
            requests: asked,
            sync: sync.subscribe(),
            book: Arc::clone(&book),
            outbox: outbox.clone(),
            usage_delay: Arc::new(move |id| takes_usage.usage_delay(id)),
            clock: Arc::clone(&clock),
            tallied: Arc::clone(&tallied),
        };
        let refresher = Self {
            source,
            book,
            outbox,
            disk: Disk::new(store, settings.timeout, Arc::clone(&tallied)),
            clock,
            backoff: Backoff::new(settings.retry_first, settings.retry_most),
            settings,
            requests,
            sync,
            last_fetch: None,
            tallied,
            usage_from: Tick::now(),
        };
        (refresher, handle)
    }

    /// Refreshes until `stop`. What was fetched by then is published and kept on disk before this returns.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut due = Tick::now();
        while let Some((mut occasion, mut waiting)) = stop.run_until_cancelled(self.occasion(due)).await {
            // Whoever asks from here on asks for the next fetch: this one may tell what was so before they asked.
            while let Ok(caller) = self.requests.try_recv() {
                waiting.push(caller);
            }
            if !waiting.is_empty() {
                occasion = Occasion::Due;
            }
            self.last_fetch = Some(Tick::now());
            let asked_at = self.clock.now();
            let Some(answer) = stop.run_until_cancelled(self.fetch(occasion)).await else { return };
            let Answer { fetched, usage_taken } = answer;
            let (outcome, told_of) = self.take(fetched, &usage_taken, asked_at).await;
            self.tallied.ended(&outcome);
            due = self.next_after(occasion, &outcome, due);
            self.usage_from = self.usage_from_after(occasion, &outcome, !told_of.is_empty(), due);
            // What was not taken into the book is handed over no sooner for there being more of it.
            if usage_taken.keys().any(|id| told_of.contains(id) && self.outbox.has_more(*id)) {
                due = Tick::now();
            }
            for caller in waiting {
                // A caller that has gone needs no answer.
                let _ = caller.send(outcome.clone());
            }
        }
    }

    /// Waits until the source is to be asked; why, and the first of the callers who want it to be.
    async fn occasion(&mut self, due: Tick) -> (Occasion, Vec<oneshot::Sender<Outcome>>) {
        tokio::select! {
            () = tokio::time::sleep_until(due) => (Occasion::Due, Vec::new()),
            () = usage_due(self.outbox.due(), self.usage_from) => (Occasion::Due, Vec::new()),
            () = self.source.changed() => (Occasion::Changed, Vec::new()),
            Some(caller) = self.requests.recv() => {
                // However many ask, the source is not asked more often than this.
                if let Some(last) = self.last_fetch {
                    tokio::time::sleep_until(last + self.settings.at_most_every).await;
                }
                (Occasion::Due, vec![caller])
            }
        }
    }

    /// When the source is asked of our own accord. Its telling of a change puts off nothing.
    fn next_after(&mut self, occasion: Occasion, outcome: &Outcome, due: Tick) -> Tick {
        let Self { settings, backoff, .. } = self;
        let wait = match (occasion, outcome) {
            (_, Outcome::Failed(error)) if error.is_retried() => backoff.wait(),
            // What is refused stays so until somebody mends it, which need not show here.
            (_, Outcome::Failed(_)) => {
                backoff.reset();
                backoff::jittered(settings.interval.min(settings.retry_most), settings.jitter_percent)
            }
            (Occasion::Changed, Outcome::Updated | Outcome::Unchanged) => return due,
            (Occasion::Due, Outcome::Updated | Outcome::Unchanged) => {
                backoff.reset();
                backoff::jittered(settings.interval, settings.jitter_percent)
            }
        };
        Tick::now() + wait
    }

    /// From when on usage is handed over of our own accord. `answered`: facts of any subscription were taken.
    fn usage_from_after(&self, occasion: Occasion, outcome: &Outcome, answered: bool, due: Tick) -> Tick {
        // Half: what is reported right after a fetch still counts at the other sidecars within a second.
        let soon = Tick::now() + self.settings.at_most_every / 2;
        match (occasion, outcome) {
            // None was handed over. But who tells of a change and is asked for it is not away any more.
            (Occasion::Changed, _) if answered => self.usage_from.min(soon),
            (Occasion::Changed, _) => self.usage_from,
            // Whoever is away is not asked more often because there is usage. One unit that fails keeps back no other's.
            (Occasion::Due, Outcome::Failed(_)) if !answered => due,
            (Occasion::Due, Outcome::Failed(_) | Outcome::Updated | Outcome::Unchanged) => soon,
        }
    }

    async fn fetch(&self, occasion: Occasion) -> Answer {
        let within = self.settings.timeout;
        let usage = match occasion {
            // It goes to a unit that was deactivated: later it counts for nothing. Others' waits for its time.
            Occasion::Changed => self.outbox.waiting(),
            Occasion::Due => self.outbox.hand_over(),
        };
        let held = self.book.lock().await.numbers();
        let ask = Ask { occasion, usage, held };
        tokio::time::timeout(within, self.source.fetch(ask)).await.unwrap_or_else(|_| {
            let what = format!("{} did not answer within {within:?}", self.source.identity());
            Err(SourceError::Unreachable(what)).into()
        })
    }

    /// How it ended, and the subscriptions whose facts were taken.
    async fn take(
        &mut self,
        fetched: Result<Fetched, SourceError>,
        usage_taken: &BTreeMap<SubscriptionId, UsageAnswer>,
        asked_at: Instant,
    ) -> (Outcome, BTreeSet<SubscriptionId>) {
        let taken = match fetched {
            Ok(fetched) => self.note(fetched, usage_taken.clone(), asked_at).await,
            Err(error) => Some(Taken { failure: Some(error), ..Taken::default() }),
        };
        // The runtime is stopping.
        let Some(Taken { changed, failure, is_all, told_of, .. }) = taken else {
            return (Outcome::Unchanged, BTreeSet::new());
        };
        let outcome = match failure {
            Some(error) => {
                self.log_failure(&error);
                Outcome::Failed(error)
            }
            None => {
                // That something changed says nothing of what could not be asked before.
                if is_all && self.failure_becomes(None) && !changed {
                    info!(source = self.source.identity(), "facts are told again, unchanged");
                }
                if changed { Outcome::Updated } else { Outcome::Unchanged }
            }
        };
        (outcome, told_of)
    }

    /// The same failure again, as in an outage, is told only to who asks for details.
    fn log_failure(&self, error: &SourceError) {
        let next = if error.is_retried() { "trying again" } else { "waiting for something else to be told" };
        if self.failure_becomes(Some(error)) {
            warn!(sms_waiting = self.outbox.sms_waiting(), "facts not refreshed, {next}: {error}");
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

    /// Takes what was fetched into the book, publishes it and keeps it on disk; nothing when the runtime is stopping.
    ///
    /// What is signed is on disk before anybody is answered from it: no crash goes back behind an answer (semantics
    /// 5.5). What is not can be read again where it came from, so nobody waits for the disk.
    async fn note(
        &mut self,
        fetched: Fetched,
        usage_taken: BTreeMap<SubscriptionId, UsageAnswer>,
        asked_at: Instant,
    ) -> Option<Taken> {
        let (origin, clock) = (self.source.origin(), Arc::clone(&self.clock));
        let taken =
            self.in_book(move |book| book.take(fetched, &usage_taken, asked_at, origin, &*clock)).await?;
        self.disk.reached(Step::Taken);
        if taken.signed {
            self.persist().await;
        }
        let as_of = self.in_book(Book::publish).await?;
        self.disk.reached(Step::Published);
        // Ready only now that they are in the cache.
        self.sync.send_modify(|sync| sync.published_as_of = as_of);
        if taken.changed {
            let (subscriptions, revision) = self.book.lock().await.size();
            info!(source = self.source.identity(), subscriptions, revision, "facts updated");
        }
        let is_due = as_of.is_some() && self.disk.is_due(asked_at);
        if !taken.signed && (taken.changed || is_due) {
            self.persist().await;
        }
        // Only once facts which know of it are on disk: a restart must not show credits that are spent.
        if !self.disk.is_behind() {
            self.outbox.settle().await;
        }
        Some(taken)
    }

    /// Work on the book. A hundred thousand timelines take a while; no worker that answers questions is kept by it.
    async fn in_book<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Book) -> T + Send + 'static,
    ) -> Option<T> {
        let mut book = Arc::clone(&self.book).lock_owned().await;
        match spawn_blocking(move || work(&mut book)).await.map_err(JoinError::try_into_panic) {
            Ok(done) => Some(done),
            // Half a book must neither be gone on with nor be kept on disk: the next start has the last whole one.
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(_stopping)) => None,
        }
    }

    async fn persist(&mut self) {
        let (book, source) = (&self.book, &self.source);
        self.disk.keep(async { book.lock().await.to_persist(source.identity()) }).await;
    }
}

/// Returns once usage is due, and `from` is past.
async fn usage_due(mut due: watch::Receiver<Option<Tick>>, from: Tick) {
    loop {
        let then = *due.borrow_and_update();
        let time = async {
            match then {
                Some(then) => tokio::time::sleep_until(then.max(from)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => return,
            Ok(()) = due.changed() => {}
            else => std::future::pending().await,
        }
    }
}

fn load(store: &Store) -> Option<Persisted> {
    store.load().unwrap_or_else(|error: PersistError| {
        error!("starting without the facts of the last run: {error}");
        None
    })
}

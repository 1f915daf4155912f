//! Watches: units that wait for changes hear of them within a second, whichever replica made them.
//!
//! A change marks its subscription; what follows is read once for all watchers of it. Other replicas' changes are heard
//! from the database, and a poll finds whatever was not heard. Not here: what is told at a sync.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_core::Stream;
use futures_util::stream;
use sqlx::{AssertSqlSafe, Row as _, any::AnyRow};
use tokio::sync::{Notify, OnceCell, OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Backend,
    change::Changed,
    refusal::Refusal,
    store::{Store, StoreError, instant},
    subscriptions::Subscription,
    sync,
    units::{self, Unit, list},
};
use crate::{
    domain::{Facts, Instant},
    proto::licensing::{SignedFacts, WatchResponse},
};

/// Who watches what, and what has changed of it.
#[derive(Debug, Default)]
pub(super) struct Hub {
    topics: Mutex<HashMap<String, Weak<Topic>>>,
    marked: Mutex<BTreeSet<String>>,
    mark: Notify,
}

/// A subscription somebody watches.
#[derive(Debug)]
pub(super) struct Topic {
    id: String,
    state: OnceCell<watch::Sender<State>>,
}

/// What its watchers are told.
#[derive(Clone, Debug)]
struct State {
    sequence: i64,
    facts: Arc<Facts>,
    /// Units that were deactivated since somebody watches.
    gone: Arc<HashMap<String, Instant>>,
}

/// One watch: the unit, and what it was told last.
struct Watching {
    backend: Backend,
    unit: Unit,
    nonce: Vec<u8>,
    state: watch::Receiver<State>,
    told: Option<(Arc<Facts>, Option<Instant>)>,
    stop: CancellationToken,
    _topic: Arc<Topic>,
    _place: OwnedSemaphorePermit,
}

/// Subscriptions in one statement.
const CHUNK: usize = 500;

impl Backend {
    /// What was changed is told to watchers.
    pub(super) fn told(&self, Changed(subscriptions): Changed) {
        self.hub.mark(subscriptions);
    }

    /// The facts as they are, and again at every change that concerns the unit.
    pub(super) async fn watch(
        &self,
        unit: Unit,
        nonce: Vec<u8>,
    ) -> Result<impl Stream<Item = Result<WatchResponse, Status>> + use<>, Refusal> {
        let most = self.settings.watches;
        let too_many = |_| {
            let what = format!(
                "as many units watch as may ({most}); sync at an interval, or raise `backend.watches`"
            );
            Refusal::TooMany(what)
        };
        let place = Arc::clone(&self.watches).try_acquire_owned().map_err(too_many)?;
        let topic = self.hub.topic(&unit.subscription_id);
        let state = topic.state(&self.store).await?.subscribe();
        // What was answered before this watch began may not have been told to the topic yet.
        topic.refresh(&self.store).await?;
        // Read once the topic is joined: from here on nothing that happens to the unit is missed.
        let unit = units::by_id(self.store.reads(), &unit.id).await?.unwrap_or(unit);
        let watching = Watching {
            backend: self.clone(),
            unit,
            nonce,
            state,
            told: None,
            stop: self.stop.clone(),
            _topic: topic,
            _place: place,
        };
        Ok(stream::unfold(watching, |mut watching| async {
            let told = watching.next().await?;
            Some((told, watching))
        }))
    }

    /// Tells watchers what changes until `stop`.
    pub(super) async fn tell_watchers(self, stop: CancellationToken) {
        let poll = async {
            loop {
                tokio::time::sleep(self.settings.poll_interval).await;
                if let Err(error) = self.poll().await {
                    tracing::warn!("the database was not asked what changed, tried again: {error}");
                }
            }
        };
        let tell = async {
            loop {
                self.hub.mark.notified().await;
                let marked = std::mem::take(&mut *lock(&self.hub.marked));
                for id in marked {
                    self.tell(id).await;
                }
            }
        };
        let all = async { tokio::join!(poll, tell, self.hear()) };
        stop.run_until_cancelled(all).await;
    }

    async fn tell(&self, id: String) {
        let Some(topic) = self.hub.watched(&id) else { return };
        if let Err(error) = topic.refresh(&self.store).await {
            tracing::warn!(subscription = id, "watchers were not told of a change, tried again: {error}");
            // The poll finds it again, for the sequence still differs.
        }
    }

    /// Marks what other replicas changed.
    async fn hear(&self) {
        if !self.store.is_shared() {
            return;
        }
        loop {
            if let Err(error) = self.hear_until_lost().await {
                tracing::warn!("not hearing of other replicas' changes, polling until then: {error}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn hear_until_lost(&self) -> Result<(), StoreError> {
        let Some(mut listener) = self.store.listen().await? else { return Ok(()) };
        loop {
            match listener.try_recv().await? {
                Some(heard) => self.hub.mark([heard.payload().to_owned()]),
                // What was told while the connection was lost is not told again.
                None => self.hub.mark(self.hub.all()),
            }
        }
    }

    /// Marks what differs from what watchers were told.
    async fn poll(&self) -> Result<(), StoreError> {
        let topics = self.hub.all();
        for ids in topics.chunks(CHUNK) {
            let sql = format!(
                "SELECT subscription_id, sequence FROM subscriptions WHERE subscription_id IN ({})",
                list(1, ids.len())
            );
            let query = ids.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, id| query.bind(id.clone()));
            for row in query.fetch_all(self.store.reads()).await? {
                let (id, sequence): (String, i64) =
                    (row.try_get("subscription_id")?, row.try_get("sequence")?);
                let told = self.hub.watched(&id).and_then(|topic| topic.sequence());
                if told != Some(sequence) {
                    self.hub.mark([id]);
                }
            }
        }
        Ok(())
    }
}

impl Hub {
    fn mark(&self, ids: impl IntoIterator<Item = String>) {
        let mut marked = lock(&self.marked);
        marked.extend(ids);
        if !marked.is_empty() {
            self.mark.notify_one();
        }
    }

    fn topic(&self, id: &str) -> Arc<Topic> {
        let mut topics = lock(&self.topics);
        if let Some(topic) = topics.get(id).and_then(Weak::upgrade) {
            return topic;
        }
        let topic = Arc::new(Topic { id: id.to_owned(), state: OnceCell::new() });
        topics.insert(id.to_owned(), Arc::downgrade(&topic));
        topic
    }

    fn watched(&self, id: &str) -> Option<Arc<Topic>> {
        lock(&self.topics).get(id).and_then(Weak::upgrade)
    }

    /// Everything that is watched; what is not any more is forgotten.
    fn all(&self) -> Vec<String> {
        let mut topics = lock(&self.topics);
        topics.retain(|_, topic| 0 < topic.strong_count());
        topics.keys().cloned().collect()
    }
}

impl Topic {
    async fn state(&self, store: &Store) -> Result<&watch::Sender<State>, StoreError> {
        self.state
            .get_or_try_init(|| async {
                let Subscription { sequence, facts, .. } = self.read(store).await?;
                Ok(watch::Sender::new(State { sequence, facts: Arc::new(facts), gone: Arc::default() }))
            })
            .await
    }

    fn sequence(&self) -> Option<i64> {
        self.state.get().map(|state| state.borrow().sequence)
    }

    /// Reads what has changed and tells it.
    async fn refresh(&self, store: &Store) -> Result<(), StoreError> {
        let told = self.state(store).await?;
        let before = told.borrow().sequence;
        let Subscription { sequence, facts, .. } = self.read(store).await?;
        if sequence <= before {
            return Ok(());
        }
        let changed = sqlx::query(
            "SELECT unit_id, deactivated_at FROM units
             WHERE subscription_id = $1 AND $2 < changed_in AND deactivated_at IS NOT NULL",
        );
        let changed = changed.bind(&self.id).bind(before).fetch_all(store.reads()).await?;
        let left = |row: &AnyRow| -> Result<(String, Instant), StoreError> {
            Ok((row.try_get("unit_id")?, instant(row.try_get("deactivated_at")?)))
        };
        let left = changed.iter().map(left).collect::<Result<Vec<_>, _>>()?;
        told.send_if_modified(|state| {
            // Somebody who read at the same time may have told more already.
            if sequence <= state.sequence {
                return false;
            }
            state.sequence = sequence;
            // Facts that are the same are shared, so that a watcher sees at a glance that nothing concerns it.
            if facts != *state.facts {
                state.facts = Arc::new(facts);
            }
            if !left.is_empty() {
                Arc::make_mut(&mut state.gone).extend(left);
            }
            true
        });
        Ok(())
    }

    async fn read(&self, store: &Store) -> Result<Subscription, StoreError> {
        let missing = || StoreError::Unreadable(format!("no subscription `{}` for its units", self.id));
        Subscription::read(store.reads(), &self.id).await?.ok_or_else(missing)
    }
}

impl Watching {
    /// Waits for the next change that concerns the unit; nothing once the backend stops.
    async fn next(&mut self) -> Option<Result<WatchResponse, Status>> {
        loop {
            if self.stop.is_cancelled() {
                return None;
            }
            let State { sequence, facts, gone } = self.state.borrow_and_update().clone();
            let since = gone.get(&self.unit.id).copied().or(self.unit.deactivated_at);
            let news = (facts, since);
            let is_old =
                self.told.as_ref().is_some_and(|told| Arc::ptr_eq(&told.0, &news.0) && told.1 == news.1);
            if !is_old {
                let told = self.signed(sequence, &news.0, since);
                self.told = Some(news);
                return Some(told.map(|facts| WatchResponse { facts: Some(facts) }).map_err(Status::from));
            }
            let stop = self.stop.clone();
            // No sender is left only when the backend is gone.
            stop.run_until_cancelled(self.state.changed()).await?.ok()?;
        }
    }

    fn signed(&self, sequence: i64, facts: &Facts, since: Option<Instant>) -> Result<SignedFacts, Refusal> {
        let facts = since.map_or_else(|| facts.clone(), |since| sync::deactivated(facts.clone(), since));
        self.backend.signed(sequence, facts, &self.unit.id, &self.nonce)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What is watched, and what its watchers were told last.
//!
//! A hub holds only what it can read again. Not here: who watches, and how changes are heard of (see the parent).

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use sqlx::Row as _;
use tokio::sync::{Notify, OnceCell, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Facts, Instant},
    licensing::{
        store::{Store, StoreError, instant},
        subscriptions::Subscription,
    },
};

/// Who watches what, and what has changed of it.
#[derive(Debug, Default)]
pub(in crate::licensing) struct Hub {
    topics: Mutex<HashMap<String, Weak<Topic>>>,
    marked: Mutex<BTreeSet<String>>,
    pub(super) mark: Notify,
    /// Cancelled while the database does not say what changed.
    hearing: Mutex<CancellationToken>,
}

/// A subscription somebody watches.
#[derive(Debug)]
pub(super) struct Topic {
    id: String,
    state: OnceCell<watch::Sender<State>>,
}

/// What its watchers are told.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) sequence: i64,
    /// The sequence it was raised to last.
    pub(super) raised_in: i64,
    pub(super) facts: Arc<Facts>,
    /// Units that were deactivated since somebody watches.
    pub(super) gone: Arc<HashMap<String, Instant>>,
    /// Secrets of units that changed since somebody watches, as hashes: renewed, or empty where they were revoked.
    pub(super) secrets: Arc<HashMap<String, String>>,
}

impl Hub {
    pub(super) fn mark(&self, ids: impl IntoIterator<Item = String>) {
        let mut marked = lock(&self.marked);
        marked.extend(ids);
        if !marked.is_empty() {
            self.mark.notify_one();
        }
    }

    /// What was marked until now.
    pub(super) fn take_marked(&self) -> BTreeSet<String> {
        std::mem::take(&mut *lock(&self.marked))
    }

    /// Cancelled once the database has not said for a while what changed, and until it does again.
    pub(super) fn hearing(&self) -> CancellationToken {
        lock(&self.hearing).clone()
    }

    /// The database says what changed, or does not any more.
    pub(super) fn hears(&self, hears: bool) {
        let mut hearing = lock(&self.hearing);
        if !hears {
            hearing.cancel();
        } else if hearing.is_cancelled() {
            *hearing = CancellationToken::new();
        }
    }

    pub(super) fn topic(&self, id: &str) -> Arc<Topic> {
        let mut topics = lock(&self.topics);
        if let Some(topic) = topics.get(id).and_then(Weak::upgrade) {
            return topic;
        }
        let topic = Arc::new(Topic { id: id.to_owned(), state: OnceCell::new() });
        topics.insert(id.to_owned(), Arc::downgrade(&topic));
        topic
    }

    pub(super) fn watched(&self, id: &str) -> Option<Arc<Topic>> {
        lock(&self.topics).get(id).and_then(Weak::upgrade)
    }

    /// Everything that is watched; what is not any more is forgotten.
    pub(super) fn all(&self) -> Vec<String> {
        let mut topics = lock(&self.topics);
        topics.retain(|_, topic| 0 < topic.strong_count());
        topics.keys().cloned().collect()
    }
}

impl Topic {
    pub(super) async fn state(&self, store: &Store) -> Result<&watch::Sender<State>, StoreError> {
        self.state
            .get_or_try_init(|| async {
                let Subscription { sequence, raised_in, facts, .. } = self.read(store).await?;
                let (facts, gone, secrets) = (Arc::new(facts), Arc::default(), Arc::default());
                Ok(watch::Sender::new(State { sequence, raised_in, facts, gone, secrets }))
            })
            .await
    }

    pub(super) fn sequence(&self) -> Option<i64> {
        self.state.get().map(|state| state.borrow().sequence)
    }

    /// Reads what has changed and tells it.
    pub(super) async fn refresh(&self, store: &Store) -> Result<(), StoreError> {
        let told = self.state(store).await?;
        let before = told.borrow().sequence;
        let Subscription { sequence, raised_in, facts, .. } = self.read(store).await?;
        if sequence <= before {
            return Ok(());
        }
        let changed = sqlx::query(
            "SELECT unit_id, deactivated_at, secret_sha256 FROM units WHERE subscription_id = $1 AND $2 < changed_in",
        );
        let changed = changed.bind(&self.id).bind(before).fetch_all(store.syncs()).await?;
        let (mut left, mut secrets) = (Vec::new(), Vec::new());
        for row in &changed {
            let unit_id: String = row.try_get("unit_id")?;
            secrets.push((unit_id.clone(), row.try_get("secret_sha256")?));
            if let Some(since) = row.try_get::<Option<i64>, _>("deactivated_at")? {
                left.push((unit_id, instant(since)));
            }
        }
        told.send_if_modified(|state| {
            // Somebody who read at the same time may have told more already.
            if sequence <= state.sequence {
                return false;
            }
            (state.sequence, state.raised_in) = (sequence, raised_in);
            // Facts that are the same are shared, so that a watcher sees at a glance that nothing concerns it.
            // What was raised concerns everybody.
            if before < raised_in || facts != *state.facts {
                state.facts = Arc::new(facts);
            }
            if !left.is_empty() {
                Arc::make_mut(&mut state.gone).extend(left);
            }
            if !secrets.is_empty() {
                Arc::make_mut(&mut state.secrets).extend(secrets);
            }
            true
        });
        Ok(())
    }

    async fn read(&self, store: &Store) -> Result<Subscription, StoreError> {
        let missing = || StoreError::Unreadable(format!("no subscription `{}` for its units", self.id));
        Subscription::read(store.syncs(), &self.id).await?.ok_or_else(missing)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

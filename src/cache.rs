//! Every subscription's published snapshot. Readers load once per question and never wait for a writer.
//!
//! Not here: how a snapshot comes about (see `refresh`). There is one `Writer`, so that what it publishes is
//! published in its order; the rest of the process can only read.

use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};
use foldhash::fast::RandomState;
use tokio::sync::Notify;

use crate::{
    domain::{Facts, Instant, SubscriptionId, Timeline},
    source::Origin,
};

/// All that an answer is made from, whole: it is published and read as one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The facts, less the SMS reported since they were told.
    pub facts: Facts,
    /// What follows from them.
    pub timeline: Timeline,
    /// As of when they were told.
    pub as_of: Instant,
    /// Their number.
    pub revision: u64,
    /// Where they came from.
    pub origin: Origin,
}

/// The readers' side.
#[derive(Debug)]
pub struct Cache {
    /// One immutable map, replaced whole when a subscription comes or goes.
    published: ArcSwap<Published>,
}

/// The writer's side. It cannot be cloned.
#[derive(Debug)]
pub struct Writer {
    cache: Arc<Cache>,
}

/// A snapshot held for one question.
#[derive(Debug)]
pub struct Held(Guard<Arc<Snapshot>>);

/// One watcher's view of one subscription.
#[derive(Debug)]
pub struct Watch {
    cell: Arc<Cell>,
    seen: Arc<Snapshot>,
}

/// Why there is no snapshot to answer from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing was ever published.
    NoFacts,
    /// Others are held, this one is not.
    NotHeld(SubscriptionId),
    /// None was named, and so many are held.
    Ambiguous {
        /// How many.
        held: usize,
    },
}

#[derive(Debug, Default)]
struct Published {
    cells: HashMap<SubscriptionId, Arc<Cell>, RandomState>,
    /// The cell of the only subscription, for questions that name none.
    only: Option<Arc<Cell>>,
}

/// One subscription's place, swapped at each refresh.
#[derive(Debug)]
struct Cell {
    snapshot: ArcSwap<Snapshot>,
    changed: Notify,
    retired: AtomicBool,
}

/// An empty cache and the one who fills it.
#[must_use]
pub fn new() -> (Arc<Cache>, Writer) {
    let cache = Arc::new(Cache { published: ArcSwap::default() });
    (Arc::clone(&cache), Writer { cache })
}

impl Cache {
    /// The snapshot of a subscription; of the only one when none is named.
    pub fn load(&self, subscription_id: Option<&SubscriptionId>) -> Result<Held, Missing> {
        let published = self.published.load();
        published.cell(subscription_id).map(|cell| Held(cell.snapshot.load()))
    }

    /// Watches a subscription from its present snapshot on.
    pub fn watch(&self, subscription_id: Option<&SubscriptionId>) -> Result<Watch, Missing> {
        let published = self.published.load();
        let cell = Arc::clone(published.cell(subscription_id)?);
        let seen = cell.snapshot.load_full();
        Ok(Watch { cell, seen })
    }

    /// The IDs of all subscriptions held, in order.
    #[must_use]
    pub fn subscription_ids(&self) -> Vec<SubscriptionId> {
        let mut ids: Vec<SubscriptionId> = self.published.load().cells.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}

impl Writer {
    /// Publishes these snapshots, each as it comes, and lets go of every subscription that is not among them.
    pub fn replace_all(&mut self, snapshots: impl IntoIterator<Item: Into<Arc<Snapshot>>>) {
        let published = self.cache.published.load_full();
        let mut named = HashSet::with_capacity_and_hasher(published.cells.len(), RandomState::default());
        let mut come = Vec::new();
        for snapshot in snapshots {
            let snapshot = snapshot.into();
            named.insert(snapshot.facts.subscription_id);
            match published.cells.get(&snapshot.facts.subscription_id) {
                Some(cell) => cell.publish(snapshot),
                None => come.push(snapshot),
            }
        }
        let (kept, gone): (Vec<_>, Vec<_>) = published.cells.iter().partition(|(id, _)| named.contains(*id));
        if !(come.is_empty() && gone.is_empty()) {
            let kept = kept.into_iter().map(|(id, cell)| (*id, Arc::clone(cell)));
            let come = come
                .into_iter()
                .map(|snapshot| (snapshot.facts.subscription_id, Arc::new(Cell::new(snapshot))));
            self.cache.published.store(Arc::new(Published::new(kept.chain(come).collect())));
        }
        // Only now, so that whoever is told to look again finds the new map.
        for (_, cell) in gone {
            cell.retire();
        }
    }

    /// Publishes the snapshot of a subscription that is held.
    pub fn replace(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(cell) = self.cache.published.load().cells.get(&snapshot.facts.subscription_id) {
            cell.publish(snapshot);
        }
    }
}

impl Watch {
    /// What was published last when this was asked last.
    #[must_use]
    pub fn seen(&self) -> &Arc<Snapshot> {
        &self.seen
    }

    /// Waits until something else is published; nothing when the subscription is no longer held. Dropping it half
    /// way loses nothing.
    pub async fn changed(&mut self) -> Option<Arc<Snapshot>> {
        loop {
            let notified = self.cell.changed.notified();
            tokio::pin!(notified);
            // Registered before looking, so that nothing published in between is slept through.
            notified.as_mut().enable();
            if self.cell.retired.load(Ordering::Acquire) {
                return None;
            }
            let published = self.cell.snapshot.load_full();
            if !Arc::ptr_eq(&published, &self.seen) {
                self.seen = Arc::clone(&published);
                return Some(published);
            }
            notified.await;
        }
    }
}

impl Published {
    fn new(cells: HashMap<SubscriptionId, Arc<Cell>, RandomState>) -> Self {
        let mut all = cells.values();
        let only = all.next().filter(|_| cells.len() == 1).cloned();
        Self { cells, only }
    }

    fn cell(&self, subscription_id: Option<&SubscriptionId>) -> Result<&Arc<Cell>, Missing> {
        if self.cells.is_empty() {
            return Err(Missing::NoFacts);
        }
        match subscription_id {
            Some(id) => self.cells.get(id).ok_or(Missing::NotHeld(*id)),
            None => self.only.as_ref().ok_or(Missing::Ambiguous { held: self.cells.len() }),
        }
    }
}

impl Cell {
    fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot: ArcSwap::new(snapshot), changed: Notify::new(), retired: AtomicBool::new(false) }
    }

    fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
        self.changed.notify_waiters();
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }
}

impl Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

//! The other rooms' way to the refresher: ask for a refresh, hand over usage, hear how far it has come.
//!
//! Not here: what becomes of it (see the parent and `book`).

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::{
    Outcome, Sync,
    book::{Book, NotInBook},
    outbox::{NotKept, Outbox, Pending, Report, Reported},
};
use crate::{
    clock::Clock,
    domain::SubscriptionId,
    source::{
        Counts, SourceError,
        usage::{Counted, SmsSent, UsageDelay},
    },
    tally::{Tallies, Tally},
};

/// The other rooms' way to the refresher.
#[derive(Clone)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<oneshot::Sender<Outcome>>,
    pub(super) sync: watch::Receiver<Sync>,
    pub(super) book: Arc<Mutex<Book>>,
    pub(super) outbox: Outbox,
    pub(super) usage_delay: Arc<dyn Fn(SubscriptionId) -> Option<UsageDelay> + Send + std::marker::Sync>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tallied: Arc<Tallied>,
}

/// How refreshes ended since the start.
#[derive(Debug, Default)]
pub struct Tallied {
    ended: Tallies<3>,
    not_kept: Tally,
}

impl Tallied {
    /// One more ended so.
    pub(super) fn ended(&self, outcome: &Outcome) {
        self.ended.add(
            match outcome {
                Outcome::Updated => 0,
                Outcome::Unchanged => 1,
                Outcome::Failed(_) => 2,
            },
            1,
        );
    }

    /// Facts could not be kept on disk.
    pub(super) fn not_kept(&self) {
        self.not_kept.count();
    }

    /// How many were told other facts, how many the same, and how many failed.
    #[must_use]
    pub fn refreshes(&self) -> [(&'static str, u64); 3] {
        [("updated", 0), ("unchanged", 1), ("failed", 2)]
            .map(|(outcome, which)| (outcome, self.ended.sum(which)))
    }

    /// How often facts could not be kept on disk.
    #[must_use]
    pub fn times_not_kept(&self) -> u64 {
        self.not_kept.total()
    }
}

/// Why no refresh was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRefreshed {
    /// As many callers as may already wait.
    TooManyWaiting,
    /// The sidecar is stopping.
    Stopping,
}

/// What became of a report of usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageReport {
    /// How many SMS counted.
    pub counted: u32,
    /// How many had been counted before.
    pub repeated: u32,
    /// Credits that remain, if credits are bought.
    pub credits: Option<u64>,
    /// Whether there were counts, and the source will take them.
    pub counts_taken: bool,
}

/// Why a report of usage was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReported {
    /// It could not be kept.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// The subscription is not held.
    #[error("the subscription is not held")]
    NotHeld,
}

impl From<NotInBook> for NotReported {
    fn from(NotInBook: NotInBook) -> Self {
        Self::NotHeld
    }
}

impl Handle {
    /// Asks for a refresh and waits for its end: the next one to begin, which all who wait for it share.
    pub async fn refresh(&self) -> Result<Outcome, NotRefreshed> {
        let (caller, outcome) = oneshot::channel();
        self.requests.try_send(caller).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotRefreshed::TooManyWaiting,
            mpsc::error::TrySendError::Closed(_) => NotRefreshed::Stopping,
        })?;
        outcome.await.map_err(|_| NotRefreshed::Stopping)
    }

    /// How many may wait for a refresh at a time.
    #[must_use]
    pub fn most_waiting(&self) -> usize {
        self.requests.max_capacity()
    }

    /// Takes what an authentication server reports. It outlives this process when this returns, and SMS are subtracted.
    pub async fn report(
        &self,
        id: SubscriptionId,
        counts: Option<Counts>,
        sms: Vec<SmsSent>,
    ) -> Result<UsageReport, NotReported> {
        let delay = (self.usage_delay)(id);
        let counts_taken = counts.is_some() && delay.is_some();
        let counted = counts.map(|counts| Counted { counts, at: self.clock.now() });
        let Reported { counted, repeated } = self.outbox.report(Report { id, counted, sms, delay }).await?;
        let credits = self.book.lock().await.subtract_reported(id, self.clock.now())?;
        Ok(UsageReport { counted, repeated, credits, counts_taken })
    }

    /// Why the source told nothing the last time, if it did not.
    #[must_use]
    pub fn failure(&self) -> Option<SourceError> {
        self.sync.borrow().failure.clone()
    }

    /// How refreshes ended.
    #[must_use]
    pub fn tallied(&self) -> &Tallied {
        &self.tallied
    }

    /// How many SMS were reported that the source has not taken.
    #[must_use]
    pub fn sms_waiting(&self) -> usize {
        self.outbox.sms_waiting()
    }

    /// How many of them the licensing backend deferred.
    #[must_use]
    pub fn sms_deferred(&self) -> usize {
        self.outbox.sms_deferred()
    }

    /// How many SMS and counts were set aside since the start, for they will never be taken.
    #[must_use]
    pub fn usage_set_aside(&self) -> [(&'static str, u64); 2] {
        self.outbox.set_aside()
    }

    /// What was reported of a subscription and not taken.
    #[must_use]
    pub fn pending(&self, id: SubscriptionId) -> Pending {
        self.outbox.pending(id)
    }

    /// How far the refresher has come, now and at every change.
    #[must_use]
    pub fn sync(&self) -> watch::Receiver<Sync> {
        self.sync.clone()
    }
}

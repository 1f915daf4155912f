//! The other rooms' way to the refresher: ask for a refresh, hand over usage, hear how far it has come.
//!
//! Not here: what becomes of it (see the parent and `book`).

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::{
    Outcome, Sync,
    book::{Book, NotInBook, SmsReport, SmsSent},
};
use crate::{
    clock::Clock,
    domain::SubscriptionId,
    source::{Counts, SourceError},
};

/// The other rooms' way to the refresher.
#[derive(Clone)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<oneshot::Sender<Outcome>>,
    pub(super) sync: watch::Receiver<Sync>,
    pub(super) book: Arc<Mutex<Book>>,
    pub(super) report: Arc<dyn Fn(SubscriptionId, Counts) -> bool + Send + std::marker::Sync>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Why no refresh was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRefreshed {
    /// As many callers as may already wait.
    TooManyWaiting,
    /// The sidecar is stopping.
    Stopping,
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

    /// Subtracts SMS that were sent.
    pub async fn count_sms(
        &self,
        subscription_id: SubscriptionId,
        sent: &[SmsSent],
    ) -> Result<SmsReport, NotInBook> {
        self.book.lock().await.count_sms(subscription_id, sent, self.clock.now())
    }

    /// Hands counts to the source; whether it takes any.
    #[must_use]
    pub fn report(&self, subscription_id: SubscriptionId, counts: Counts) -> bool {
        (self.report)(subscription_id, counts)
    }

    /// Why the source told nothing the last time, if it did not.
    #[must_use]
    pub fn failure(&self) -> Option<SourceError> {
        self.sync.borrow().failure.clone()
    }

    /// How far the refresher has come, now and at every change.
    #[must_use]
    pub fn sync(&self) -> watch::Receiver<Sync> {
        self.sync.clone()
    }
}

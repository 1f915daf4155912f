//! The disk beside the refresher: one write at a time, and nobody is kept from being answered by it.
//!
//! Not here: what is written and how it is safe (see `persist`), and when (see the parent).

use std::{sync::Arc, time::Duration};

use tokio::{
    task::{JoinError, JoinHandle, spawn_blocking},
    time::timeout,
};
use tracing::error;

use super::{
    Tallied,
    persist::{PersistError, Persisted, Step, Store},
};
use crate::domain::{Instant, Span};

/// A disk that may refuse, or hang.
pub(super) struct Disk {
    store: Option<Arc<Store>>,
    /// How long it may take.
    within: Duration,
    /// Since when what is on it is what was told; nothing while what is published is not on it.
    since: Option<Instant>,
    /// Whether what was to be kept last is not on it.
    is_behind: bool,
    /// It has not come to an end with this.
    saving: Option<JoinHandle<Result<(), PersistError>>>,
    tallied: Arc<Tallied>,
}

/// Facts that did not change are written again when what is on disk is older than this, so that a restart knows
/// how old they really are to the hour.
const REWRITE_AFTER: Span = Span::from_nanos(3_600 * Span::SECOND.nanos());

impl Disk {
    pub(super) fn new(store: Option<Store>, within: Duration, tallied: Arc<Tallied>) -> Self {
        Self { store: store.map(Arc::new), within, since: None, is_behind: false, saving: None, tallied }
    }

    /// Whether what has not changed is to be written again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| REWRITE_AFTER <= now - since)
    }

    /// Whether what was to be kept last is not on it.
    pub(super) const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Keeps what `persisted` yields; a disk that refuses is told of, loudly.
    pub(super) async fn keep(&mut self, persisted: impl Future<Output = Persisted>) {
        let Some(store) = self.store.clone() else { return };
        (self.since, self.is_behind) = (None, true);
        self.write(store, persisted).await;
        if self.is_behind {
            self.tallied.not_kept();
        }
    }

    async fn write(&mut self, store: Arc<Store>, persisted: impl Future<Output = Persisted>) {
        let within = self.within;
        // One at a time: a slow disk must not end with something older over something newer.
        if let Some(saving) = &mut self.saving {
            let Ok(ended) = timeout(within, saving).await else {
                error!("facts not kept on disk: it has not come to an end with those before");
                return;
            };
            went_well(ended);
            self.saving = None;
        }
        let persisted = persisted.await;
        let since = persisted.records.iter().map(|record| record.as_of).max();
        let mut saving = spawn_blocking(move || store.save(&persisted));
        match timeout(within, &mut saving).await {
            Ok(ended) => {
                self.is_behind = !went_well(ended);
                self.since = since.filter(|_| !self.is_behind);
            }
            Err(_) => {
                error!("facts not kept on disk: it took longer than {within:?}");
                self.saving = Some(saving);
            }
        }
    }

    /// Tells whoever watches the store.
    pub(super) fn reached(&self, step: Step) {
        self.store.iter().for_each(|store| store.reached(step));
    }
}

/// Whether facts are on disk now; tells why they are not.
fn went_well(saved: Result<Result<(), PersistError>, JoinError>) -> bool {
    match saved {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error!("facts not kept on disk, tried again at the next refresh: {error}"),
        Err(failure) => error!("facts not kept on disk: {failure}"),
    }
    false
}

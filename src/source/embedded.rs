//! Facts kept in this process: enough of a licensing backend for `demo`.
//!
//! Not the licensing backend: it knows no licences and no units, and forgets everything when the process ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{Counts, FactsSource, Fetched, Origin, SourceError};
use crate::{
    clock::Clock,
    domain::{Facts, SubscriptionId, facts::ActiveUsers},
};

/// Facts in memory, which reported counts change.
pub struct EmbeddedSource {
    clock: Arc<dyn Clock>,
    facts: Mutex<BTreeMap<SubscriptionId, Facts>>,
    reported: Notify,
}

impl EmbeddedSource {
    /// Tells `facts`, dated by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, facts: Vec<Facts>) -> Self {
        let facts = facts.into_iter().map(|facts| (facts.subscription_id, facts)).collect();
        Self { clock, facts: Mutex::new(facts), reported: Notify::new() }
    }

    fn facts(&self) -> MutexGuard<'_, BTreeMap<SubscriptionId, Facts>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FactsSource for EmbeddedSource {
    fn identity(&self) -> String {
        "embedded".to_owned()
    }

    fn origin(&self) -> Origin {
        Origin::Live
    }

    async fn fetch(&self) -> Result<Fetched, SourceError> {
        Ok(Fetched::unsigned(self.facts().values().cloned()))
    }

    async fn changed(&self) {
        self.reported.notified().await;
    }

    fn report(&self, subscription_id: SubscriptionId, counts: Counts) -> bool {
        let now = self.clock.now();
        let mut held = self.facts();
        let Some(facts) = held.get_mut(&subscription_id) else { return false };
        if let Some(active) = counts.active_users {
            facts.users.active = ActiveUsers(active);
            // The overuse clock belongs to the backend: it starts, holds and clears here.
            facts.users.overused_since =
                facts.users.excess().map(|_| facts.users.overused_since.unwrap_or(now));
        }
        facts.all_users.count = counts.all_users.unwrap_or(facts.all_users.count);
        facts.components.count = counts.components.unwrap_or(facts.components.count);
        self.reported.notify_one();
        true
    }
}

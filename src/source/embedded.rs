//! Facts kept in this process: enough of a licensing backend for `demo`.
//!
//! Not the licensing backend: it knows no licences and no units, and forgets everything when the process ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Answer, Ask, Counts, FactsSource, Fetched, Origin,
    usage::{Counted, Usage, UsageDelay},
};
use crate::domain::{
    Facts, SubscriptionId,
    facts::{ActiveUsers, SmsCredits},
};

/// Facts in memory, which usage changes.
pub struct EmbeddedSource {
    facts: Mutex<BTreeMap<SubscriptionId, Facts>>,
}

impl EmbeddedSource {
    /// Tells `facts`.
    #[must_use]
    pub fn new(facts: Vec<Facts>) -> Self {
        let facts = facts.into_iter().map(|facts| (facts.subscription_id, facts)).collect();
        Self { facts: Mutex::new(facts) }
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

    async fn fetch(&self, ask: Ask) -> Answer {
        let mut held = self.facts();
        let mut usage_taken = BTreeSet::new();
        for (id, usage) in ask.usage {
            if let Some(facts) = held.get_mut(&id) {
                count(facts, &usage);
                usage_taken.insert(id);
            }
        }
        Answer { fetched: Ok(Fetched::unsigned(held.values().cloned())), usage_taken }
    }

    /// Facts change here through usage alone.
    async fn changed(&self) {
        std::future::pending().await
    }

    fn usage_delay(&self, subscription_id: SubscriptionId) -> Option<UsageDelay> {
        let at_once = UsageDelay { counts: Duration::ZERO, sms: Duration::ZERO };
        self.facts().contains_key(&subscription_id).then_some(at_once)
    }
}

fn count(facts: &mut Facts, Usage { counts, sms }: &Usage) {
    if let Some(Counted { counts: Counts { active_users, all_users, components }, at }) = *counts {
        if let Some(active) = active_users {
            facts.users.active = ActiveUsers(active);
            // The overuse clock belongs to the backend: it starts, holds and clears here.
            facts.users.overused_since =
                facts.users.excess().map(|_| facts.users.overused_since.unwrap_or(at));
        }
        facts.all_users.count = all_users.unwrap_or(facts.all_users.count);
        facts.components.count = components.unwrap_or(facts.components.count);
    }
    let spent = sms.iter().map(|sms| u64::from(sms.credits)).fold(0, u64::saturating_add);
    facts.sms_credits = facts.sms_credits.map(|SmsCredits(left)| SmsCredits(left.saturating_sub(spent)));
}

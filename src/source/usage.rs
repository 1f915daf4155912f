//! What authentication servers count, on its way to who takes it.
//!
//! Not here: how it is kept until it is taken (see `refresh::outbox`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::domain::{Instant, SubscriptionId};

/// At most so many SMS are handed over at a time.
pub const MOST_SMS: usize = 1_000;

/// Counts of an authentication server; nothing where it did not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Users with at least one authentication method enabled.
    pub active_users: Option<u64>,
    /// All users.
    pub all_users: Option<u64>,
    /// Components.
    pub components: Option<u64>,
}

/// Counts, and when they were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The counts.
    pub counts: Counts,
    /// When.
    pub at: Instant,
}

/// An SMS an authentication server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmsSent {
    /// Its id, which counts once.
    pub id: Arc<str>,
    /// What it cost.
    pub credits: u32,
}

/// What was counted of one subscription and nobody has taken yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The newest counts.
    pub counts: Option<Counted>,
    /// SMS, the oldest first, at most `MOST_SMS`.
    pub sms: Vec<SmsSent>,
}

/// Usage of each subscription.
pub type UsageBySubscription = BTreeMap<SubscriptionId, Usage>;

/// How long usage waits for company before it is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageDelay {
    /// When there are counts in it.
    pub counts: Duration,
    /// When there are only SMS in it, which are subtracted here at once.
    pub sms: Duration,
}

impl Counts {
    /// These, and where they are silent what was counted `before`.
    #[must_use]
    pub fn over(self, before: Self) -> Self {
        Self {
            active_users: self.active_users.or(before.active_users),
            all_users: self.all_users.or(before.all_users),
            components: self.components.or(before.components),
        }
    }
}

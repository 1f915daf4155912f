//! What authentication servers count, on its way to who takes it.
//!
//! Not here: how it is kept until it is taken (see `refresh::outbox`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crate::{
    domain::{Instant, SubscriptionId},
    wire::usage::{Count, Invalid, SmsCost, SmsId},
};

pub use crate::wire::usage::MOST_SMS;

/// Counts of an authentication server; nothing where it did not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Users with at least one authentication method enabled.
    pub active_users: Option<Count>,
    /// All users.
    pub all_users: Option<Count>,
    /// Components.
    pub components: Option<Count>,
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
    /// Its ID, which counts once.
    pub id: SmsId,
    /// What it cost.
    pub cost: SmsCost,
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

/// What became of usage that was handed over: what is not named here was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageAnswer {
    /// Counts that were not taken.
    pub counts: BTreeMap<CountKind, NotTaken>,
    /// SMS that were not taken, by their position.
    pub sms: BTreeMap<usize, NotTaken>,
}

/// Which count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CountKind {
    /// Users with at least one authentication method enabled.
    ActiveUsers,
    /// All users.
    AllUsers,
    /// Components.
    Components,
}

/// Why something was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It never will be.
    Refused(String),
    /// It may be later, not sooner than after this.
    Deferred(String, Duration),
    /// Nobody has said: it is to be handed over again.
    Unanswered,
}

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

    /// What was counted of this kind.
    #[must_use]
    pub const fn get(self, kind: CountKind) -> Option<Count> {
        match kind {
            CountKind::ActiveUsers => self.active_users,
            CountKind::AllUsers => self.all_users,
            CountKind::Components => self.components,
        }
    }

    /// These alone.
    #[must_use]
    pub fn only(self, kinds: &BTreeSet<CountKind>) -> Self {
        let left_out = CountKind::ALL.into_iter().filter(|kind| !kinds.contains(kind));
        left_out.fold(self, Self::without)
    }

    /// These but for one.
    #[must_use]
    pub const fn without(mut self, kind: CountKind) -> Self {
        *match kind {
            CountKind::ActiveUsers => &mut self.active_users,
            CountKind::AllUsers => &mut self.all_users,
            CountKind::Components => &mut self.components,
        } = None;
        self
    }

    /// The kinds that were counted.
    pub fn kinds(self) -> impl Iterator<Item = CountKind> {
        CountKind::ALL.into_iter().filter(move |kind| self.get(*kind).is_some())
    }
}

impl CountKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ActiveUsers, Self::AllUsers, Self::Components];

    /// As its field is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveUsers => "active_users",
            Self::AllUsers => "all_users",
            Self::Components => "components",
        }
    }
}

impl fmt::Display for CountKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl SmsSent {
    /// The SMS `id`, which cost `credits`.
    pub fn new(id: &str, credits: u32) -> Result<Self, Invalid> {
        Ok(Self { id: SmsId::new(id)?, cost: SmsCost::new(credits)? })
    }
}

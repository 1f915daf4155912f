//! Where facts come from: one trait, and what can go wrong on the way.
//!
//! Not here: when to ask again (see `refresh`), and what follows from facts (see `domain`).

pub mod facts_json;
pub mod file;
pub mod remote;
pub mod units;
pub mod usage;

use std::{collections::BTreeMap, fmt, future::Future};

pub use self::usage::Counts;
use self::usage::{UsageAnswer, UsageBySubscription, UsageDelay};
use crate::{
    domain::{Facts, Instant, SubscriptionId},
    proto::licensing::SignedFacts,
};

/// Tells facts about every subscription this sidecar enforces.
pub trait FactsSource: Send + Sync + 'static {
    /// Which source this is, such as `file /etc/esa-sidecar/facts.json`. What was persisted from one source is
    /// never taken for another's.
    fn identity(&self) -> String;

    /// What answers name as the origin of facts from here.
    fn origin(&self) -> Origin;

    /// Asks for the facts as they are now, and hands over usage.
    fn fetch(&self, ask: Ask) -> impl Future<Output = Answer> + Send;

    /// Returns when asking again is worth it at once. Dropping it half way loses nothing.
    fn changed(&self) -> impl Future<Output = ()> + Send;

    /// How soon usage of a subscription is to be handed over; none when nobody takes it.
    fn usage_delay(&self, subscription_id: SubscriptionId) -> Option<UsageDelay>;
}

/// Where facts came from, as answers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Told by the licensing backend to this process.
    Live,
    /// Read back from disk at start.
    Persisted,
    /// Read from a facts file.
    File,
}

/// What a source told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The same as last time.
    Unchanged,
    /// These, and no others.
    All(Vec<Told>),
    /// These; what was told of others stands.
    Some {
        /// Facts of the subscriptions that could be asked for, each once.
        told: Vec<Told>,
        /// Why others could not be asked, if they could not.
        failure: Option<SourceError>,
    },
}

/// Facts of one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The facts.
    pub facts: Facts,
    /// What vouches for them; nothing does for a facts file.
    pub proof: Option<Proof>,
}

/// What vouches for facts: they were verified (see `signing`), and can be again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// As they came, every byte.
    pub signed: SignedFacts,
    /// Their number, which never goes back.
    pub sequence: u64,
    /// When the backend issued them.
    pub issued_at: Instant,
}

impl Fetched {
    /// Facts nobody vouches for, and no others.
    #[must_use]
    pub fn unsigned(facts: impl IntoIterator<Item = Facts>) -> Self {
        Self::All(facts.into_iter().map(Told::from).collect())
    }
}

impl From<Facts> for Told {
    /// Nobody vouches for them.
    fn from(facts: Facts) -> Self {
        Self { facts, proof: None }
    }
}

/// What a source is asked for, and given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Why it is asked.
    pub occasion: Occasion,
    /// What was counted and nobody has taken yet.
    pub usage: UsageBySubscription,
    /// The numbers of the facts that are held.
    pub held: BTreeMap<SubscriptionId, u64>,
}

/// Why a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// It said that something changed. What changed is enough of an answer.
    Changed,
    /// It is time, there is usage to hand over, or a caller wants to know: all of it is to be asked for.
    Due,
}

/// What a source answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The facts.
    pub fetched: Result<Fetched, SourceError>,
    /// What became of the usage of subscriptions, of those it was handed over of: the facts told of them know of what was
    /// taken.
    pub usage_taken: BTreeMap<SubscriptionId, UsageAnswer>,
}

impl From<Result<Fetched, SourceError>> for Answer {
    /// No usage was taken.
    fn from(fetched: Result<Fetched, SourceError>) -> Self {
        Self { fetched, usage_taken: BTreeMap::new() }
    }
}

/// Why a source has no facts to tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It could not be asked.
    #[error("{0}")]
    Unreachable(String),
    /// It answered with something that is refused.
    #[error("{0}")]
    Refused(String),
    /// Facts of some subscriptions could not be told, each for a reason of its own.
    #[error(transparent)]
    Several(Box<Several>),
}

/// What went wrong with all there is, and what with single subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.in_words())]
pub struct Several {
    /// What is of no subscription.
    pub of_all: Option<SourceError>,
    /// What is of one.
    pub of: BTreeMap<SubscriptionId, SourceError>,
}

impl SourceError {
    /// The same, of this subscription alone.
    #[must_use]
    pub fn of(self, id: SubscriptionId) -> Self {
        Self::Several(Box::new(Several { of_all: None, of: BTreeMap::from([(id, self)]) }))
    }

    /// Both; worth trying again if one of them is.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            // Every replica says the same.
            (one, other) if one == other => one,
            (Self::Refused(one), Self::Refused(other)) => Self::Refused(format!("{one}; {other}")),
            (
                one @ (Self::Unreachable(_) | Self::Refused(_)),
                other @ (Self::Unreachable(_) | Self::Refused(_)),
            ) => Self::Unreachable(format!("{one}; {other}")),
            (one, other) => {
                let mut all = Several::default();
                all.add(one);
                all.add(other);
                Self::Several(Box::new(all))
            }
        }
    }

    /// What went wrong with this subscription, and nothing else; what is of no subscription may name others.
    #[must_use]
    pub fn only_of(&self, id: &SubscriptionId) -> Option<&Self> {
        match self {
            Self::Unreachable(_) | Self::Refused(_) => None,
            Self::Several(several) => several.of.get(id),
        }
    }

    /// Whether something went wrong with all there is.
    #[must_use]
    pub fn is_of_all(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Refused(_) => true,
            Self::Several(several) => several.of_all.is_some(),
        }
    }

    /// What is retried, with back-off: a source that could not be asked may answer the next time. What was refused
    /// stays wrong until somebody changes it, so that waits for the change or for the next interval.
    #[must_use]
    pub fn is_retried(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(_) => false,
            Self::Several(several) => several.each().any(Self::is_retried),
        }
    }
}

impl Several {
    fn each(&self) -> impl Iterator<Item = &SourceError> {
        self.of_all.iter().chain(self.of.values())
    }

    fn add(&mut self, error: SourceError) {
        let and = |before: Option<SourceError>, error: SourceError| match before {
            Some(before) => before.and(error),
            None => error,
        };
        match error {
            SourceError::Several(several) => {
                let Self { of_all, of } = *several;
                if let Some(error) = of_all {
                    self.of_all = Some(and(self.of_all.take(), error));
                }
                for (id, error) in of {
                    let error = and(self.of.remove(&id), error);
                    self.of.insert(id, error);
                }
            }
            error @ (SourceError::Unreachable(_) | SourceError::Refused(_)) => {
                self.of_all = Some(and(self.of_all.take(), error));
            }
        }
    }

    /// Each once, for a backend that is away is away for all.
    fn in_words(&self) -> String {
        let mut said: Vec<String> = Vec::new();
        for error in self.each().map(ToString::to_string) {
            if !said.contains(&error) {
                said.push(error);
            }
        }
        said.join("; ")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Live => "live",
            Self::Persisted => "persisted",
            Self::File => "file",
        })
    }
}

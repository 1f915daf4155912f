//! Where facts come from: one trait, and what can go wrong on the way.
//!
//! Not here: when to ask again (see `refresh`), and what follows from facts (see `domain`).

pub mod embedded;
pub mod facts_json;
pub mod file;
pub mod units;

use std::{fmt, future::Future};

use crate::domain::{Facts, Instant, SubscriptionId};

/// Tells facts about every subscription this sidecar enforces.
pub trait FactsSource: Send + Sync + 'static {
    /// Which source this is, such as `file /etc/esa-sidecar/facts.json`. What was persisted from one source is
    /// never taken for another's.
    fn identity(&self) -> String;

    /// What answers name as the origin of facts from here.
    fn origin(&self) -> Origin;

    /// Asks for the facts as they are now.
    fn fetch(&self) -> impl Future<Output = Result<Fetched, SourceError>> + Send;

    /// Returns when asking again is worth it at once. Dropping it half way loses nothing.
    fn changed(&self) -> impl Future<Output = ()> + Send;

    /// Hands over what an authentication server counted; whether anybody takes it.
    fn report(&self, subscription_id: SubscriptionId, counts: Counts) -> bool;
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

/// What a source answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The same as last time.
    Unchanged,
    /// These, and no others.
    All {
        /// Facts of every subscription, each once.
        facts: Vec<Facts>,
        /// When the backend signed them, if it does.
        issued_at: Option<Instant>,
    },
}

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

/// Why a source has no facts to tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It could not be asked.
    #[error("{0}")]
    Unreachable(String),
    /// It answered with something that is refused.
    #[error("{0}")]
    Refused(String),
}

impl SourceError {
    /// What is retried, with back-off: a source that could not be asked may answer the next time. What was refused
    /// stays wrong until somebody changes it, so that waits for the change or for the next interval.
    #[must_use]
    pub const fn is_retried(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(_) => false,
        }
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

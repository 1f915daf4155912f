//! Every gRPC status this service sends, with why.
//!
//! The code is chosen by what the caller can do with it (semantics 4.6): change the question, ask elsewhere, or ask
//! again later. The reason in `google.rpc.ErrorInfo` is stable; the message is for people. A denial is never here:
//! it is an answer.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    cache::Missing, domain::SubscriptionId, edge::room::Full, enforcement::convert::Unreadable,
    proto::enforcement as api, refresh::NotRefreshed,
};

/// The domain of `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "esa-sidecar";

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field does not read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// No subscription is named, and several are held.
    #[error("subscription_id: {held} subscriptions are held; name one")]
    SubscriptionIdRequired {
        /// How many.
        held: usize,
    },
    /// The named subscription is not held here.
    #[error("subscription `{0}` is not held by this sidecar; check the ID, or ask the sidecar that holds it")]
    SubscriptionNotHeld(SubscriptionId),
    /// No facts since the first start.
    #[error("no facts have been received yet; ask again when the sidecar is ready")]
    NoFacts,
    /// The operator wants no answers from facts this old (semantics 5.3).
    #[error("facts are {}, and this is not answered from facts older than {}; see why they are not refreshed",
        in_words(*age), humantime::format_duration(*most))]
    FactsTooOld {
        /// Their age, if it is known.
        age: Option<Duration>,
        /// The most it may be.
        most: Duration,
    },
    /// More in one call than is taken.
    #[error("{field}: {count} given, at most {most} are taken in one call; send several")]
    TooMany {
        /// Of what.
        field: &'static str,
        /// How many.
        count: usize,
        /// How many are taken.
        most: usize,
    },
    /// As many watches as may be are open, in all or of this client.
    #[error("{}", too_many_watches(*.0))]
    TooManyWatches(Full),
    /// As many calls as may already wait for a refresh, in all or of this client.
    #[error("as many calls as are allowed wait for a refresh already; ask again in a second")]
    TooManyRefreshes,
    /// Usage that is not on disk would be lost with this process (semantics 6.9).
    #[error("the usage could not be kept, and none of it was taken: {0}; report the same again")]
    UsageNotKept(String),
    /// The caller may not ask this.
    #[error("the caller `{caller}` may not ask this ({what}); see the table `[[callers]]` of the sidecar")]
    NotEntitled {
        /// What it is called.
        caller: String,
        /// What it asked.
        what: String,
    },
    /// The caller asks more than it may.
    #[error("the caller `{caller}` may ask {per_second} questions in a second and {burst} at once; {}",
        when(*retry_after))]
    OverQuota {
        /// What it is called.
        caller: String,
        /// In a second.
        per_second: u32,
        /// At once.
        burst: u32,
        /// When the same could be asked; never, if it is more than may be asked at once.
        retry_after: Option<Duration>,
    },
    /// The sidecar is stopping.
    #[error("the sidecar is stopping; ask again once it has restarted")]
    Stopping,
}

impl Refusal {
    /// The code of the status.
    pub(super) const fn code(&self) -> Code {
        match self {
            // The question has to change.
            Self::Unreadable(_) | Self::SubscriptionIdRequired { .. } | Self::TooMany { .. } => {
                Code::InvalidArgument
            }
            // Another sidecar may hold it.
            Self::SubscriptionNotHeld(_) => Code::NotFound,
            // The same question can be answered later.
            Self::NoFacts | Self::FactsTooOld { .. } | Self::UsageNotKept(_) | Self::Stopping => {
                Code::Unavailable
            }
            // The same question can be answered when there is less of it.
            Self::TooManyWatches(_) | Self::TooManyRefreshes | Self::OverQuota { .. } => {
                Code::ResourceExhausted
            }
            // Somebody else may ask it.
            Self::NotEntitled { .. } => Code::PermissionDenied,
        }
    }

    /// The stable reason of `google.rpc.ErrorInfo`.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "FIELD_INVALID",
            Self::SubscriptionIdRequired { .. } => "SUBSCRIPTION_ID_REQUIRED",
            Self::SubscriptionNotHeld(_) => "SUBSCRIPTION_NOT_HELD",
            Self::NoFacts => "NO_FACTS_YET",
            Self::FactsTooOld { .. } => "FACTS_TOO_OLD",
            Self::TooMany { .. } => "TOO_MANY_ITEMS",
            Self::TooManyWatches(_) => "TOO_MANY_WATCHES",
            Self::TooManyRefreshes => "TOO_MANY_REFRESHES",
            Self::UsageNotKept(_) => "USAGE_NOT_KEPT",
            Self::NotEntitled { .. } => "NOT_ENTITLED",
            Self::OverQuota { .. } => "OVER_QUOTA",
            Self::Stopping => "STOPPING",
        }
    }

    /// Where the reason is among those for which a question has no answer, if it is one of them.
    pub(super) const fn of_question(&self) -> Option<usize> {
        match self {
            Self::Unreadable(_) => Some(0),
            Self::SubscriptionIdRequired { .. } => Some(1),
            Self::SubscriptionNotHeld(_) => Some(2),
            Self::NoFacts => Some(3),
            Self::FactsTooOld { .. } => Some(4),
            Self::NotEntitled { .. } => Some(5),
            Self::OverQuota { .. } => Some(6),
            // Of a call as a whole.
            Self::TooMany { .. }
            | Self::TooManyWatches(_)
            | Self::TooManyRefreshes
            | Self::UsageNotKept(_)
            | Self::Stopping => None,
        }
    }

    /// The reasons for which a question, by itself or among many, has no answer.
    pub(super) const OF_QUESTIONS: [&'static str; 7] = [
        "FIELD_INVALID",
        "SUBSCRIPTION_ID_REQUIRED",
        "SUBSCRIPTION_NOT_HELD",
        "NO_FACTS_YET",
        "FACTS_TOO_OLD",
        "NOT_ENTITLED",
        "OVER_QUOTA",
    ];

    /// The refusal of one question among many.
    pub(super) fn into_question_error(self) -> api::QuestionError {
        api::QuestionError {
            code: self.code().into(),
            reason: self.reason().to_owned(),
            message: self.to_string(),
        }
    }
}

fn too_many_watches(full: Full) -> String {
    match full {
        Full::Room(most) => {
            format!("as many watches are open as are allowed ({most}); close some, or raise `limits.watches`")
        }
        Full::Share(most) => format!(
            "as many watches are open as one client may have ({most}); close some, or raise `limits.watches` or \
             `limits.caller_percent`"
        ),
    }
}

fn when(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(
        || "ask in several calls".to_owned(),
        |wait| {
            format!(
                "ask again in {}",
                humantime::format_duration(Duration::from_millis(1 + wait.as_millis() as u64))
            )
        },
    )
}

fn in_words(age: Option<Duration>) -> String {
    age.map_or_else(
        || "dated after the present".to_owned(),
        |age| format!("{} old", humantime::format_duration(Duration::from_secs(age.as_secs()))),
    )
}

impl From<Missing> for Refusal {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::NoFacts => Self::NoFacts,
            Missing::NotHeld(id) => Self::SubscriptionNotHeld(id),
            Missing::Ambiguous { held } => Self::SubscriptionIdRequired { held },
        }
    }
}

impl From<NotRefreshed> for Refusal {
    fn from(not_refreshed: NotRefreshed) -> Self {
        match not_refreshed {
            NotRefreshed::TooManyWaiting => Self::TooManyRefreshes,
            NotRefreshed::Stopping => Self::Stopping,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::with_error_info(refusal.reason(), DOMAIN, HashMap::new());
        if let Refusal::Unreadable(Unreadable { field, what }) = &refusal {
            details.add_bad_request_violation(field.clone(), what.clone());
        }
        if let Refusal::OverQuota { retry_after, .. } = &refusal {
            details.set_retry_info(*retry_after);
        }
        Self::with_error_details(refusal.code(), refusal.to_string(), details)
    }
}

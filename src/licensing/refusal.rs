//! Every gRPC status the licensing backend sends, with why.
//!
//! The code is chosen by what the caller can do with it; the reason in `google.rpc.ErrorInfo` is stable. What belongs to
//! another customer is `NOT_FOUND`, as if it did not exist.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    sign_in::LOOKS,
    store::{Contended, StoreError},
};
use crate::{domain::license::ActivationRefusal, escape::escape_control};

/// The domain of `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "esa-licensing";

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A field does not read.
    #[error("{field}: {what}")]
    Unreadable {
        /// Which.
        field: String,
        /// What is wrong with it.
        what: String,
    },
    /// No credential, or none that opens anything.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// Name or password is wrong; which of them is not said.
    #[error("name or password is wrong, or the account is disabled")]
    WrongPassword,
    /// Too many wrong passwords, whether anybody has the name or not.
    #[error("too many wrong names or passwords; try again in {}", until(*.0))]
    TooSoon(Duration),
    /// The one-time password was right.
    #[error(
        "the one-time password is good for one sign-in within 24 hours; ask an owner for another \
         (`esa-sidecar accounts reset-password NAME`), or whoever runs the backend (`esa-sidecar licensing --reset-owner`)"
    )]
    OneTimePasswordEnded,
    /// Only the password can be changed for now.
    #[error(
        "the one-time password has to be changed before anything else: `esa-sidecar accounts change-password`"
    )]
    PasswordChangeRequired,
    /// The caller may not do this.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// There is none, or none the caller sees.
    #[error("there is no {what} `{}` that you see", shown(id))]
    NotFound {
        /// A unit, a licence, an account.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// The name or ID is taken.
    #[error("{what} `{id}` exists already; choose another")]
    Taken {
        /// A licence, an account.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// The request ID was used for something else.
    #[error("request_id: `{0}` was used for another request; choose a new one for each change")]
    RequestIdReused(String),
    /// Nothing can be activated with this licence.
    #[error("nothing can be activated with license {license_id}: {}", told(*.refusal))]
    NotActivated {
        /// Which licence.
        license_id: String,
        /// Why not.
        refusal: ActivationRefusal,
    },
    /// A license has made as many units as it may.
    #[error("{what}")]
    UsedUp {
        /// Which licence.
        license_id: String,
        /// What to do.
        what: String,
    },
    /// The state of something does not allow it.
    #[error("{0}")]
    Precondition(String),
    /// As many as may be.
    #[error("{0}")]
    TooMany(String),
    /// More than its share, and when to come again.
    #[error("{0}; try again in {wait}", wait = humantime::format_duration(*.1))]
    TooFast(&'static str, Duration),
    /// Changes are not heard of, for the database does not answer.
    #[error("this replica does not reach its database for now; ask another one, or later")]
    Deaf,
    /// The database.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Refusal {
    /// A field that does not read.
    pub(super) fn unreadable(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Unreadable { field: field.into(), what: what.into() }
    }

    fn code(&self) -> Code {
        match self {
            Self::Unreadable { .. } | Self::RequestIdReused(_) => Code::InvalidArgument,
            Self::Unauthenticated(_) | Self::WrongPassword | Self::OneTimePasswordEnded => {
                Code::Unauthenticated
            }
            Self::NotAllowed(_) | Self::PasswordChangeRequired => Code::PermissionDenied,
            Self::NotFound { .. } => Code::NotFound,
            Self::Taken { .. } => Code::AlreadyExists,
            Self::NotActivated { .. } | Self::Precondition(_) => Code::FailedPrecondition,
            Self::TooSoon(_) | Self::TooMany(_) | Self::TooFast(..) | Self::UsedUp { .. } => {
                Code::ResourceExhausted
            }
            // The same again may go through once the database is back, and changes nothing twice.
            Self::Deaf | Self::Store(_) => Code::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "UNREADABLE",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::WrongPassword => "WRONG_PASSWORD",
            Self::TooSoon(_) => "TOO_SOON",
            Self::OneTimePasswordEnded => "ONE_TIME_PASSWORD_ENDED",
            Self::PasswordChangeRequired => "PASSWORD_CHANGE_REQUIRED",
            Self::NotAllowed(_) => "NOT_ALLOWED",
            Self::NotFound { .. } => "NOT_FOUND",
            Self::Taken { .. } => "TAKEN",
            Self::RequestIdReused(_) => "REQUEST_ID_REUSED",
            Self::NotActivated { refusal, .. } => match refusal {
                ActivationRefusal::Expired => "LICENSE_EXPIRED",
                ActivationRefusal::Suspended => "LICENSE_SUSPENDED",
                ActivationRefusal::Canceled => "LICENSE_CANCELED",
                ActivationRefusal::Deactivated => "LICENSE_DEACTIVATED",
                ActivationRefusal::Full => "LICENSE_FULL",
            },
            Self::Precondition(_) => "PRECONDITION",
            Self::TooMany(_) | Self::UsedUp { .. } => "TOO_MANY",
            Self::TooFast(..) => "TOO_FAST",
            Self::Deaf | Self::Store(_) => "DATABASE",
        }
    }
}

impl Contended for Refusal {
    fn is_contended(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_contended())
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::with_error_info(refusal.reason(), DOMAIN, HashMap::new());
        if let Refusal::Unreadable { field, what } = &refusal {
            details.add_bad_request_violation(field, what);
        }
        if let Refusal::TooSoon(wait) | Refusal::TooFast(_, wait) = &refusal {
            details.set_retry_info(Some(*wait));
        }
        let message = if let Refusal::Store(error) = &refusal {
            tracing::error!("a call was not done: {error}");
            // What a database says may hold what it was asked.
            "the database did not do it; ask again, nothing is done twice".to_owned()
        } else {
            refusal.to_string()
        };
        Self::with_error_details(refusal.code(), message, details)
    }
}

/// Told to everybody alike: nobody hears where a name signed in before.
fn until(wait: Duration) -> String {
    let told = humantime::format_duration(wait);
    if wait <= LOOKS {
        return told.to_string();
    }
    let looks = humantime::format_duration(LOOKS);
    format!("{told}, or once in {looks} from where you signed in before")
}

/// What somebody asked for, as it is repeated: the beginning of it, for an answer has little room.
pub(super) fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(64).collect();
    let mut shown = escape_control(&beginning).into_owned();
    if text.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}

const fn told(refusal: ActivationRefusal) -> &'static str {
    match refusal {
        ActivationRefusal::Expired => "it has expired; renew it",
        ActivationRefusal::Suspended => "it is suspended; resume it",
        ActivationRefusal::Canceled => "it was canceled; resume it",
        ActivationRefusal::Deactivated => "it was deactivated; use another",
        ActivationRefusal::Full => "no seat is free; deactivate units that are idle, or add seats",
    }
}

//! Units: where one stands, how long it has not connected, and who may deactivate it.
//!
//! Not here: the status of its licence (see `license`), and where units are kept.

use super::{
    instant::{Instant, Span},
    limits::{CONNECTION_ORANGE, CONNECTION_RED},
};

/// Where a unit stands (semantics 6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnitState {
    /// Activated.
    Active,
    /// Deactivated; the application learns of it at its next sync. It takes no seat.
    DeactivationPending,
    /// Deactivated, and the application knows.
    Deactivated,
}

/// How long a unit has not connected (semantics 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Connection {
    /// Lately.
    Recent,
    /// For more than 14 days.
    Orange,
    /// For more than 30 days.
    Red,
}

/// Who wants to deactivate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deactivating<'a> {
    /// The owner of the licence.
    Owner,
    /// A security admin, by the ID of the account.
    SecurityAdmin(&'a str),
}

/// How a unit was activated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivatedBy<'a> {
    /// With an account, by its ID.
    Account(&'a str),
    /// By licence key.
    LicenseKey,
}

/// Why a unit is not deactivated (semantics 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeactivationRefusal {
    /// It was activated with another account.
    OtherAccount,
    /// It was activated by licence key.
    LicenseKey,
}

impl UnitState {
    /// Where it stands once it is deactivated: asking again changes nothing (semantics 6.6).
    #[must_use]
    pub const fn deactivated(self) -> Self {
        match self {
            Self::Active | Self::DeactivationPending => Self::DeactivationPending,
            Self::Deactivated => Self::Deactivated,
        }
    }

    /// Where it stands once it has been told how it stands.
    #[must_use]
    pub const fn told(self) -> Self {
        match self {
            Self::Active => Self::Active,
            Self::DeactivationPending | Self::Deactivated => Self::Deactivated,
        }
    }
}

impl Connection {
    /// At `t`, of a unit that connected last at `last`: exactly 14 days are not more than 14 days.
    #[must_use]
    pub fn at(t: Instant, last: Instant) -> Self {
        let away = t - last;
        if CONNECTION_RED < away {
            Self::Red
        } else if CONNECTION_ORANGE < away {
            Self::Orange
        } else {
            Self::Recent
        }
    }

    /// How long a unit with this status has not connected: more than the first, at most the second.
    #[must_use]
    pub const fn away(self) -> (Option<Span>, Option<Span>) {
        match self {
            Self::Recent => (None, Some(CONNECTION_ORANGE)),
            Self::Orange => (Some(CONNECTION_ORANGE), Some(CONNECTION_RED)),
            Self::Red => (Some(CONNECTION_RED), None),
        }
    }
}

/// A security admin deactivates only units activated with that same account; the owner of the licence any. Whether
/// it was activated from the remote management server does not matter (semantics 6.5).
pub fn may_deactivate(
    who: Deactivating<'_>,
    activated_by: ActivatedBy<'_>,
) -> Result<(), DeactivationRefusal> {
    match (who, activated_by) {
        (Deactivating::Owner, _) => Ok(()),
        (Deactivating::SecurityAdmin(own), ActivatedBy::Account(account)) if own == account => Ok(()),
        (Deactivating::SecurityAdmin(_), ActivatedBy::Account(_)) => Err(DeactivationRefusal::OtherAccount),
        (Deactivating::SecurityAdmin(_), ActivatedBy::LicenseKey) => Err(DeactivationRefusal::LicenseKey),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_away_for_exactly_14_or_30_days_has_not_turned_yet() {
        let t = Instant::from_unix_seconds(1_800_000_000);
        for (days, more, connection) in [
            (0, 0, Connection::Recent),
            (14, 0, Connection::Recent),
            (14, 1, Connection::Orange),
            (30, 0, Connection::Orange),
            (30, 1, Connection::Red),
        ] {
            let last = t - Span::days(days) - Span::from_nanos(more);
            assert_eq!(Connection::at(t, last), connection, "{days} d and {more} ns");
        }
        assert_eq!(Connection::at(t, t + Span::days(1)), Connection::Recent, "a clock that is ahead");
    }

    #[test]
    fn a_security_admin_deactivates_only_units_of_that_account_and_the_owner_any() {
        use ActivatedBy::{Account, LicenseKey};
        use Deactivating::{Owner, SecurityAdmin};
        for (who, activated_by, outcome) in [
            (Owner, Account("a"), Ok(())),
            (Owner, LicenseKey, Ok(())),
            (SecurityAdmin("a"), Account("a"), Ok(())),
            (SecurityAdmin("a"), Account("b"), Err(DeactivationRefusal::OtherAccount)),
            (SecurityAdmin("a"), LicenseKey, Err(DeactivationRefusal::LicenseKey)),
        ] {
            assert_eq!(may_deactivate(who, activated_by), outcome, "{who:?} {activated_by:?}");
        }
    }

    #[test]
    fn deactivation_is_pending_until_the_unit_is_told_and_asking_again_changes_nothing() {
        use UnitState::{Active, Deactivated, DeactivationPending};
        assert_eq!(
            [Active, DeactivationPending, Deactivated].map(UnitState::deactivated),
            [DeactivationPending, DeactivationPending, Deactivated]
        );
        assert_eq!(
            [Active, DeactivationPending, Deactivated].map(UnitState::told),
            [Active, Deactivated, Deactivated]
        );
    }
}

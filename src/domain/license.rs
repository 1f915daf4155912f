//! Licences: what several of one customer come to, what may be activated with one, and its status.
//!
//! Not here: where licences are kept, and what follows from the facts they come to (see `rules`).

use super::{
    facts::{
        Activation, ActiveUsers, DisabledByLicensing, Facts, FairUse, LicensedUsers, SmsCredits,
        SubscriptionId, Users,
    },
    instant::Instant,
    rules,
};

/// What a licence grants, and how it stands in itself, whatever is used of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct License {
    /// Seats.
    pub seats: LicensedUsers,
    /// The instant from which it is expired.
    pub expires_at: Instant,
    /// Suspended, canceled, deactivated or none of it.
    pub state: LicenseState,
    /// Fair-use limit of all users; 0 for none.
    pub all_users_limit: u64,
    /// Fair-use limit of components; 0 for none.
    pub components_limit: u64,
    /// OTP SMS credits that remain; nothing when SMS is not bought from the vendor.
    pub sms_credits: Option<SmsCredits>,
}

/// What was done to a licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LicenseState {
    /// Nothing. It may have expired.
    Active,
    /// Suspended; it can be resumed.
    Suspended {
        /// Since when.
        since: Instant,
    },
    /// Canceled; it can be resumed.
    Canceled {
        /// Since when.
        since: Instant,
    },
    /// Deactivated, for good.
    Deactivated {
        /// Since when.
        since: Instant,
    },
}

/// What is used of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Seats: active users, or active units where a unit is a seat.
    pub seats: u64,
    /// All users.
    pub all_users: u64,
    /// Components.
    pub components: u64,
}

/// Green, yellow or red (semantics 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LicenseStatus {
    /// Valid and activated.
    Valid,
    /// About to expire, or action is required.
    Attention,
    /// Overused, or expired with active units.
    Problem,
}

/// Why nothing can be activated with a licence (semantics 6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationRefusal {
    /// It has expired.
    Expired,
    /// It is suspended.
    Suspended,
    /// It was canceled.
    Canceled,
    /// It was deactivated.
    Deactivated,
    /// No seat is free.
    Full,
}

/// How a licence came to its end; the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Expired,
    Suspended,
    Canceled,
    Deactivated,
}

impl License {
    /// Whether it is neither expired nor suspended, canceled or deactivated.
    #[must_use]
    pub fn is_valid(&self, t: Instant) -> bool {
        t < self.end().0
    }

    /// Whether it counts among licences of which the last ends at `last_end`: it is valid or, when none is, it is one
    /// of those that ended last.
    #[must_use]
    pub fn counts(&self, last_end: Instant, t: Instant) -> bool {
        if t < last_end { self.is_valid(t) } else { self.end().0 == last_end }
    }

    /// When it ends, or ended, and how: by expiry, unless something was done to it before.
    fn end(&self) -> (Instant, End) {
        let done = match self.state {
            LicenseState::Active => None,
            LicenseState::Suspended { since } => Some((since, End::Suspended)),
            LicenseState::Canceled { since } => Some((since, End::Canceled)),
            LicenseState::Deactivated { since } => Some((since, End::Deactivated)),
        };
        done.filter(|(since, _)| *since < self.expires_at).unwrap_or((self.expires_at, End::Expired))
    }
}

/// The facts of a subscription whose licences are `licenses`: seats, limits and credits add up over those that are
/// valid. When none is left, those that ended last stand for all, so that the days of grace begin with what was
/// licensed to the end (semantics 2.7, 2.8).
#[must_use]
pub fn pool(
    subscription_id: SubscriptionId,
    licenses: &[License],
    used: Used,
    overused_since: Option<Instant>,
    t: Instant,
) -> Facts {
    let last_end = last_end(licenses.iter());
    let any_valid = t < last_end;
    let counted = || licenses.iter().filter(|license| license.counts(last_end, t));
    let end = counted().map(|license| license.end().1).min().filter(|_| !any_valid);
    let disabled = |reason: &str| Some(DisabledByLicensing { reason: reason.into(), since: last_end });
    let (activation, disabled_by_licensing) = match end {
        None if licenses.is_empty() => (Activation::NotActivated, None),
        None | Some(End::Expired) => (Activation::Active, None),
        Some(End::Suspended) => (Activation::Active, disabled("suspended")),
        Some(End::Canceled) => (Activation::Active, disabled("canceled")),
        Some(End::Deactivated) => (Activation::Deactivated { since: last_end }, None),
    };
    let seats = counted().fold(0_u64, |sum, license| sum.saturating_add(license.seats.0));
    let users =
        Users { active: ActiveUsers(used.seats), licensed: LicensedUsers(seats), overused_since: None };
    Facts {
        subscription_id,
        activation,
        expires_at: counted().map(|license| license.expires_at).max().unwrap_or(t),
        disabled_by_licensing,
        users: Users { overused_since: users.excess().map(|_| overused_since.unwrap_or(t)), ..users },
        all_users: FairUse {
            count: used.all_users,
            limit: limits(counted().map(|license| license.all_users_limit)),
        },
        components: FairUse {
            count: used.components,
            limit: limits(counted().map(|license| license.components_limit)),
        },
        sms_credits: counted()
            .filter_map(|license| license.sms_credits)
            .reduce(|SmsCredits(sum), SmsCredits(more)| SmsCredits(sum.saturating_add(more))),
    }
}

/// When the last of these licences ends, or ended.
pub fn last_end<'a>(licenses: impl Iterator<Item = &'a License>) -> Instant {
    licenses.map(|license| license.end().0).max().unwrap_or(Instant::BEGINNING)
}

/// The next instant at which time alone changes what `licenses` come to.
#[must_use]
pub fn next_turn(licenses: &[License], t: Instant) -> Option<Instant> {
    licenses.iter().map(|license| license.end().0).filter(|end| t < *end).min()
}

/// The status of a licence of a subscription with the facts `pooled` (semantics 6.2).
#[must_use]
pub fn status(license: &License, pooled: &Facts, active_units: u64, t: Instant) -> LicenseStatus {
    let expired = license.expires_at <= t;
    if pooled.users.excess().is_some() || (expired && 0 < active_units) {
        LicenseStatus::Problem
    } else if !license.is_valid(t)
        || rules::expires_soon(license.expires_at, t).is_some()
        || rules::seats_low(pooled.users).is_some()
    {
        LicenseStatus::Attention
    } else {
        LicenseStatus::Valid
    }
}

/// Whether something new may be activated with a licence of a subscription with the facts `pooled`; what exists may
/// be overused, nothing may be added to it (semantics 6.7).
pub fn may_activate(license: &License, pooled: &Facts, t: Instant) -> Result<(), ActivationRefusal> {
    let (end, how) = license.end();
    if end <= t {
        return Err(match how {
            End::Expired => ActivationRefusal::Expired,
            End::Suspended => ActivationRefusal::Suspended,
            End::Canceled => ActivationRefusal::Canceled,
            End::Deactivated => ActivationRefusal::Deactivated,
        });
    }
    let Users { active, licensed, .. } = pooled.users;
    if active.0 < licensed.0 { Ok(()) } else { Err(ActivationRefusal::Full) }
}

/// Fair-use limits add up; where one licence knows no limit, there is none.
fn limits(limits: impl Iterator<Item = u64> + Clone) -> u64 {
    if limits.clone().any(|limit| limit == 0) { 0 } else { limits.fold(0, u64::saturating_add) }
}

#[cfg(test)]
mod tests;

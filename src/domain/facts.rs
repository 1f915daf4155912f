//! What we are told about a subscription (semantics 1).
//!
//! Not here: anything computed from it. Counts that could be exchanged have types of their own.

use std::{fmt, str::FromStr};

use super::instant::Instant;

/// A public license ID, `XXX-XXX-XXX`: letters and digits, kept in upper case. It identifies, it does not activate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId([u8; SubscriptionId::LENGTH]);

/// Facts about one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whom they are about.
    pub subscription_id: SubscriptionId,
    /// Whether the product is activated.
    pub activation: Activation,
    /// The instant from which the subscription is expired.
    pub expires_at: Instant,
    /// Another licensing state that disables the product in time.
    pub disabled_by_licensing: Option<DisabledByLicensing>,
    /// Seats, and the users that take them.
    pub users: Users,
    /// All users against their fair-use limit.
    pub all_users: FairUse,
    /// Components against their fair-use limit.
    pub components: FairUse,
    /// Remaining OTP SMS credits; none at all when SMS is not bought from the vendor.
    pub sms_credits: Option<SmsCredits>,
}

/// Whether the product is activated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Not yet.
    NotActivated,
    /// Yes.
    Active,
    /// Not any more: deactivated in the licensing portal.
    Deactivated {
        /// Since when.
        since: Instant,
    },
}

/// The vendor's "other licensing state resulting in disabling".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisabledByLicensing {
    /// The reason licensing names, such as `suspended` or `canceled`.
    pub reason: Box<str>,
    /// Since when.
    pub since: Instant,
}

/// Active users and seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Users {
    /// Users with at least one authentication method enabled.
    pub active: ActiveUsers,
    /// Seats.
    pub licensed: LicensedUsers,
    /// First instant at which more users were active than licensed. Read only while that holds.
    pub overused_since: Option<Instant>,
}

/// How many users are active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveUsers(pub u64);

/// How many users are licensed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LicensedUsers(pub u64);

/// How many SMS credits remain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmsCredits(pub u64);

/// Longest name of a licensing reason, in bytes: it is repeated in answers and logs.
pub const LONGEST_REASON: usize = 64;

/// A count against a fair-use limit; a limit of 0 means that no threshold applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FairUse {
    /// How many there are.
    pub count: u64,
    /// The limit.
    pub limit: u64,
}

/// A text that is not a public license ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotASubscriptionId;

impl Users {
    /// How many more users are active than licensed; nothing while they fit (semantics 2.9).
    #[must_use]
    pub fn excess(self) -> Option<u128> {
        let (active, licensed) = (u128::from(self.active.0), u128::from(self.licensed.0));
        active.checked_sub(licensed).filter(|excess| 0 < *excess)
    }
}

impl Facts {
    /// The facts with the overuse clock started: told by the backend, or else seen here first at `seen`
    /// (semantics 2.9, last paragraph of section 2).
    #[must_use]
    pub fn with_overuse_seen(mut self, seen: Instant) -> Self {
        if self.users.excess().is_some() {
            self.users.overused_since.get_or_insert(seen);
        }
        self
    }
}

impl SubscriptionId {
    /// Characters in an ID, hyphens included.
    pub const LENGTH: usize = 11;

    /// As it is printed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII letters, digits and hyphens get in.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for SubscriptionId {
    type Err = NotASubscriptionId;

    fn from_str(text: &str) -> Result<Self, NotASubscriptionId> {
        let mut bytes: [u8; Self::LENGTH] = text.as_bytes().try_into().map_err(|_| NotASubscriptionId)?;
        let well_formed = bytes.iter().enumerate().all(|(position, byte)| match position {
            3 | 7 => *byte == b'-',
            _ => byte.is_ascii_alphanumeric(),
        });
        bytes.make_ascii_uppercase();
        if well_formed { Ok(Self(bytes)) } else { Err(NotASubscriptionId) }
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl fmt::Debug for SubscriptionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

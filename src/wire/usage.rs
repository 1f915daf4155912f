//! What units report, as values that cannot be wrong: each has one constructor, used wherever one is read.
//!
//! What a sidecar takes of a caller or of its disk, the licensing backend takes too, so that nothing is acknowledged that is
//! refused later (semantics 7.26). Not here: whole messages.

use std::{fmt, num::NonZeroU32, str::FromStr, sync::Arc};

use super::{Unreadable, text};

/// SMS in one sync.
pub const MOST_SMS: usize = 1_000;

/// ID of an SMS: 1 to 64 bytes, each character visible as itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SmsId(Arc<str>);

/// What an SMS cost: 1 to 10,000 credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SmsCost(NonZeroU32);

/// A count of users, components, seats or credits: at most 10^12.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(u64);

/// Name of an installation: at most 255 characters, each visible as itself. Empty: the unit is one by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installation(String);

/// Version of a product: at most 64 characters, each visible as itself. Empty: not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProductVersion(String);

/// Why a value is none, and what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    /// The value stands in `field`.
    pub fn at(self, field: impl Into<String>) -> Unreadable {
        Unreadable::new(field, self)
    }
}

impl From<Unreadable> for Invalid {
    fn from(Unreadable { field: _, what }: Unreadable) -> Self {
        Self(what)
    }
}

impl SmsId {
    /// The longest, in bytes.
    pub const LONGEST: usize = 64;

    /// The ID that reads so.
    pub fn new(id: &str) -> Result<Self, Invalid> {
        if !(1..=Self::LONGEST).contains(&id.len()) {
            return Err(Invalid(format!("{} bytes; an ID has 1 to {}", id.len(), Self::LONGEST)));
        }
        if let Some(what) = text::hidden(id) {
            return Err(Invalid(what));
        }
        Ok(Self(id.into()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SmsId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl SmsCost {
    /// The highest. No real SMS costs a hundredth of it.
    pub const MOST: u32 = 10_000;

    /// So many credits; 0 counts as 1.
    pub fn new(credits: u32) -> Result<Self, Invalid> {
        if Self::MOST < credits {
            return Err(Invalid(format!("{credits} credits; an SMS costs at most {}", Self::MOST)));
        }
        Ok(Self(NonZeroU32::new(credits).unwrap_or(NonZeroU32::MIN)))
    }

    /// In credits.
    #[must_use]
    pub const fn credits(self) -> u32 {
        self.0.get()
    }
}

impl Count {
    /// The highest.
    pub const MOST: u64 = 1_000_000_000_000;

    /// So many.
    pub fn new(count: u64) -> Result<Self, Invalid> {
        if Self::MOST < count {
            return Err(Invalid(format!("{count}; at most {}", Self::MOST)));
        }
        Ok(Self(count))
    }

    /// How many.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Count {
    type Err = Invalid;

    fn from_str(count: &str) -> Result<Self, Invalid> {
        Self::new(
            count.parse().map_err(|_| Invalid(format!("`{count}` is no number from 0 to {}", Self::MOST)))?,
        )
    }
}

impl Installation {
    /// The name that reads so.
    pub fn new(name: &str) -> Result<Self, Invalid> {
        Ok(Self(text("", name, 0, 255)?))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ProductVersion {
    /// The version that reads so.
    pub fn new(version: &str) -> Result<Self, Invalid> {
        Ok(Self(text("", version, 0, 64)?))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Installation {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        Self::new(name)
    }
}

impl FromStr for ProductVersion {
    type Err = Invalid;

    fn from_str(version: &str) -> Result<Self, Invalid> {
        Self::new(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_up_to_its_bound_and_not_beyond() {
        let long = |count| "x".repeat(count);
        for (id, taken) in [
            ("a", true),
            (&*long(64), true),
            ("ü", true),
            ("a b", true),
            ("", false),
            (&*long(65), false),
            // 33 characters, 66 bytes.
            (&*"ü".repeat(33), false),
            ("a\nb", false),
            ("\t", false),
            ("a\0", false),
            ("\u{85}", false),
            ("\u{7f}", false),
        ] {
            assert_eq!(SmsId::new(id).is_ok(), taken, "{id:?}");
        }
        let most = 1_000_000_000_000_u64;
        for (count, taken) in [(0, true), (most, true), (most + 1, false), (1 << 60, false)] {
            assert_eq!(Count::new(count).is_ok(), taken, "{count}");
            assert_eq!(count.to_string().parse::<Count>().is_ok(), taken, "{count}");
        }
        for (credits, cost) in
            [(0, Some(1)), (1, Some(1)), (10_000, Some(10_000)), (10_001, None), (u32::MAX, None)]
        {
            assert_eq!(SmsCost::new(credits).ok().map(SmsCost::credits), cost, "{credits}");
        }
        let name = |count| "ü".repeat(count);
        for (name, taken) in [("", true), (&*name(255), true), (&*name(256), false), ("a\nb", false)] {
            assert_eq!(Installation::new(name).is_ok(), taken, "{name:?}");
        }
        for (version, taken) in [("", true), (&*long(64), true), (&*long(65), false), ("3\r", false)] {
            assert_eq!(ProductVersion::new(version).is_ok(), taken, "{version:?}");
        }
    }
}

//! Every number of the two documents, once, each with the rule it comes from.

use super::instant::Span;

/// Expiry is warned of with less than this left (semantics 2.1).
pub const EXPIRES_SOON: Span = Span::days(30);

/// Fewer free seats than this, and less than a tenth of all, is a warning (semantics 2.2).
pub const SEATS_LOW: u128 = 10;

/// This many SMS credits or fewer, but not none, is a warning (semantics 2.3).
pub const SMS_CREDITS_LOW: u64 = 10;

/// A count over nine tenths of a fair-use limit is a warning (semantics 2.4, 2.5).
pub const FAIR_USE_NINE_TENTHS: (u128, u128) = (9, 10);

/// Everything still works for this long after expiry, or another licensing state, began (semantics 2.7, 2.8).
pub const FULL_FUNCTIONALITY: Span = Span::days(7);

/// After this long the product is disabled (semantics 2.7, 2.8).
pub const LIMITED_FUNCTIONALITY: Span = Span::days(30);

/// Everything still works for this long after an overuse of at most a tenth began (semantics 2.9).
pub const OVERUSE_GRACE: Span = Span::days(7);

/// One part in so many: a tenth of the seats (semantics 2.2, 2.9).
pub const TENTH: u128 = 10;

/// A unit that has not connected for longer than this is orange (semantics 6.3).
pub const CONNECTION_ORANGE: Span = Span::days(14);

/// A unit that has not connected for longer than this is red (semantics 6.3).
pub const CONNECTION_RED: Span = Span::days(30);

//! Facts, IDs and instants as the protocol carries them, read strictly: what does not read is refused with the path of
//! the field.
//!
//! Not here: the question and the answer (see `enforcement::convert`), and who vouches for facts (see `signing`).

pub mod codec;
mod facts;
mod text;
pub mod usage;

use std::fmt::Display;

use prost_types::Timestamp;

use crate::{
    domain::{Instant, SubscriptionId},
    rfc3339,
};

pub use facts::facts;
pub use text::{one_line, text};

/// A field that does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct Unreadable {
    /// Path of the field.
    pub field: String,
    /// What is wrong and what is wanted.
    pub what: String,
}

/// No more than this much of a caller's text is repeated to it.
const REPEATED: usize = 40;

impl Unreadable {
    /// `field` is wrong, because `what`.
    pub fn new(field: impl Into<String>, what: impl Display) -> Self {
        Self { field: field.into(), what: what.to_string() }
    }
}

/// The subscription a caller names; none when the text is empty.
pub fn subscription_id(text: &str) -> Result<Option<SubscriptionId>, Unreadable> {
    if text.is_empty() {
        return Ok(None);
    }
    let malformed = |_| {
        let shown: String = text.chars().take(REPEATED).collect();
        Unreadable::new(
            "subscription_id",
            format!("`{shown}` is no public license ID; it looks like `3A8-WN7-7TD`"),
        )
    };
    text.parse().map(Some).map_err(malformed)
}

/// An instant of the protocol; `field` is its path.
pub fn instant(timestamp: &Timestamp, field: &str) -> Result<Instant, Unreadable> {
    let Timestamp { seconds, nanos } = *timestamp;
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let instant = nanos.map(|nanos| {
        Instant::from_unix_nanos(Instant::from_unix_seconds(seconds).unix_nanos() + i128::from(nanos))
    });
    instant.filter(|instant| (rfc3339::FIRST..=rfc3339::LAST).contains(instant)).ok_or_else(|| {
        Unreadable::new(field, "not an instant of the years 0001 to 9999 with 0 to 999999999 nanos")
    })
}

/// An instant as the protocol has it; none past the year 9999, where the protocol has none.
pub fn timestamp(instant: Instant) -> Option<Timestamp> {
    if !(rfc3339::FIRST..=rfc3339::LAST).contains(&instant) {
        return None;
    }
    let (seconds, nanos) = rfc3339::split(instant);
    i32::try_from(nanos).ok().map(|nanos| Timestamp { seconds, nanos })
}

/// A number this version has no value for.
pub fn unknown(field: &str, number: i32) -> Unreadable {
    Unreadable::new(
        field,
        format!("{number} is not known to this version; see the proto file for the values it takes"),
    )
}

#[cfg(test)]
mod tests;

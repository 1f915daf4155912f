//! What the commands of Unit Management share: whom they call, as whom, and how lists look.
//!
//! Not here: what is asked (see `units`, `licenses`, `accounts`, `audit`).

pub(super) mod backend;
pub(super) mod caller;
pub(super) mod listing;
pub(super) mod name;
mod prompt;
pub(super) mod record;
pub(super) mod secret;
pub(super) mod session;
pub(super) mod sheet;

use prost_types::Timestamp;
use serde_json::Value;

use super::status::values;

/// An instant for programs; none when it is absent.
pub(super) fn instant(timestamp: Option<&Timestamp>) -> Value {
    timestamp.map(values::instant).into()
}

/// The day an instant falls on, for tables.
pub(super) fn day(timestamp: Option<&Timestamp>) -> String {
    let text = timestamp.map(values::instant_for_people).unwrap_or_default();
    text.split_once('T').map_or(text.clone(), |(day, _)| day.to_owned())
}

/// Texts the contract leaves empty for "none", for programs.
pub(super) fn told(text: &str) -> Value {
    Some(text).filter(|text| !text.is_empty()).into()
}

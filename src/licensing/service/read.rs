//! Fields of requests, read strictly: what does not read is refused with its path.
//!
//! Not here: whole requests.

use std::collections::BTreeSet;

use crate::{
    domain::{
        Instant,
        license::LicenseStatus,
        unit::{Connection, UnitState},
    },
    licensing::{
        refusal::Refusal,
        store::{instant, nanos},
    },
    proto::licensing::{
        ActorKind, Connection as ApiConnection, LicenseStatus as ApiStatus, UnitState as ApiState,
    },
    wire::{self, Unreadable, usage::Count},
};

impl From<Unreadable> for Refusal {
    fn from(Unreadable { field, what }: Unreadable) -> Self {
        Self::Unreadable { field, what }
    }
}

/// A text of `least` to `most` characters, none of them a control character.
pub(in crate::licensing) fn text(
    field: &str,
    text: &str,
    least: usize,
    most: usize,
) -> Result<String, Refusal> {
    Ok(wire::text(field, text, least, most)?)
}

/// The name of a new account. One of before may hold an `@`, which now begins the customer's name.
pub(super) fn account_name(field: &str, name: &str) -> Result<String, Refusal> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || ".-_".contains(character);
    // What the audit log calls others than accounts.
    if ["backend", "license", "nobody", "operator", "system", "unit"]
        .contains(&name.to_ascii_lowercase().as_str())
    {
        return Err(Refusal::unreadable(
            field,
            format!("`{name}` is no name for an account; choose another"),
        ));
    }
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(name.to_owned());
    }
    let what = "a name has 1 to 64 letters, digits and `.`, `_`, `-`; who signs in writes `@` and the customer behind it";
    Err(Refusal::unreadable(field, what))
}

/// A count that can be kept.
pub(super) fn count(field: &str, count: u64) -> Result<u64, Refusal> {
    Ok(Count::new(count).map_err(|invalid| invalid.at(field))?.get())
}

/// An instant that can be kept.
pub(super) fn kept_instant(
    field: &str,
    timestamp: Option<&prost_types::Timestamp>,
) -> Result<Instant, Refusal> {
    let timestamp = timestamp.ok_or_else(|| Refusal::unreadable(field, "missing"))?;
    // As it is read back: far from now it is kept to the millisecond.
    Ok(instant(nanos(wire::instant(timestamp, field)?)))
}

/// An instant, if there is one.
pub(super) fn optional_instant(
    field: &str,
    timestamp: Option<&prost_types::Timestamp>,
) -> Result<Option<Instant>, Refusal> {
    timestamp.map(|timestamp| Ok(wire::instant(timestamp, field)?)).transpose()
}

/// What a hash is.
pub(super) const SHA256: &str = "64 hexadecimal digits in lower case, the SHA-256 of the unit's secret";

/// Whether this is a hash.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A nonce.
pub(super) fn nonce(nonce: &[u8]) -> Result<&[u8], Refusal> {
    let what = || format!("{} bytes; a nonce has 16 to 64", nonce.len());
    if (16..=64).contains(&nonce.len()) { Ok(nonce) } else { Err(Refusal::unreadable("nonce", what())) }
}

/// Licence statuses to filter by. However often one is named, it is one.
pub(super) fn statuses(numbers: &[i32]) -> Result<BTreeSet<LicenseStatus>, Refusal> {
    let read = |number: &i32| match ApiStatus::try_from(*number) {
        Ok(ApiStatus::Valid) => Ok(LicenseStatus::Valid),
        Ok(ApiStatus::Attention) => Ok(LicenseStatus::Attention),
        Ok(ApiStatus::Problem) => Ok(LicenseStatus::Problem),
        Ok(ApiStatus::Unspecified) | Err(_) => Err(wire::unknown("statuses", *number).into()),
    };
    numbers.iter().map(read).collect()
}

/// Kinds of actors to filter by; that of entries from before there were any is one of them.
pub(super) fn actor_kinds(numbers: &[i32]) -> Result<BTreeSet<ActorKind>, Refusal> {
    let read =
        |number: &i32| ActorKind::try_from(*number).map_err(|_| wire::unknown("actor_kinds", *number).into());
    numbers.iter().map(read).collect()
}

/// Connection statuses to filter by.
pub(super) fn connections(numbers: &[i32]) -> Result<BTreeSet<Connection>, Refusal> {
    let read = |number: &i32| match ApiConnection::try_from(*number) {
        Ok(ApiConnection::Recent) => Ok(Connection::Recent),
        Ok(ApiConnection::Orange) => Ok(Connection::Orange),
        Ok(ApiConnection::Red) => Ok(Connection::Red),
        Ok(ApiConnection::Unspecified) | Err(_) => Err(wire::unknown("connections", *number).into()),
    };
    numbers.iter().map(read).collect()
}

/// States of units to filter by; active and pending when none is named.
pub(super) fn states(numbers: &[i32]) -> Result<BTreeSet<UnitState>, Refusal> {
    if numbers.is_empty() {
        return Ok(BTreeSet::from([UnitState::Active, UnitState::DeactivationPending]));
    }
    let read = |number: &i32| match ApiState::try_from(*number) {
        Ok(ApiState::Active) => Ok(UnitState::Active),
        Ok(ApiState::DeactivationPending) => Ok(UnitState::DeactivationPending),
        Ok(ApiState::Deactivated) => Ok(UnitState::Deactivated),
        Ok(ApiState::Unspecified) | Err(_) => Err(wire::unknown("states", *number).into()),
    };
    numbers.iter().map(read).collect()
}

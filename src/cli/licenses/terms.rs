//! How what a license grants is written on the command line: when it expires, and its attributes.
//!
//! Not here: the same in a file (see `import_file`).

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use prost_types::Timestamp;

use crate::{
    cli::{
        CommandError, instant,
        unit_management::backend::{now, timestamp},
    },
    domain::Instant,
};

/// From when a license is expired.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Expiry {
    /// The instant from which it is expired, such as `2027-06-30T12:00:00Z`
    #[arg(long, value_name = "INSTANT", value_parser = instant::parse)]
    expires_at: Option<Instant>,
    /// How long it runs from now on, such as `365d`
    #[arg(long, value_name = "TIME", value_parser = crate::config::duration)]
    expires_in: Option<Duration>,
}

impl Expiry {
    pub(super) fn timestamp(&self) -> Result<Timestamp, CommandError> {
        let from_now = self.expires_in.and_then(|time| {
            let nanos = i128::try_from(time.as_nanos()).ok()?;
            Some(Instant::from_unix_nanos(now().unix_nanos().checked_add(nanos)?))
        });
        match self.expires_at.or(from_now) {
            Some(instant) => timestamp(instant),
            None => Err(CommandError::new("the instant it expires is out of range")),
        }
    }
}

/// Reads `KEY=VALUE`.
pub(super) fn attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("`{text}` is no attribute; write it like `cost_centre=4711`")),
    }
}

/// Attributes as the protocol has them; a key given twice is refused.
pub(super) fn attributes(given: &[(String, String)]) -> Result<BTreeMap<String, String>, CommandError> {
    let mut attributes = BTreeMap::new();
    for (key, value) in given {
        if attributes.insert(key.clone(), value.clone()).is_some() {
            return Err(CommandError::new(format!("attribute `{key}` is given twice")));
        }
    }
    Ok(attributes)
}

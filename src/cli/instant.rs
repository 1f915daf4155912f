//! Instants on the command line.

use crate::{
    clock::{Clock as _, SystemClock},
    domain::Instant,
    rfc3339,
};

/// Reads `now` or an instant.
pub(super) fn parse(text: &str) -> Result<Instant, rfc3339::InstantError> {
    if text == "now" { Ok(SystemClock::new().now()) } else { rfc3339::parse(text) }
}

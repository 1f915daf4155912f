//! Instants as text, the way RFC 3339 writes them: `2027-06-30T12:00:00Z`.
//!
//! Not a clock. The range is that of a protobuf `Timestamp`, years 1 to 9999, so that whatever can be read can be
//! answered.

use chrono::{DateTime, SecondsFormat, Timelike as _, Utc};

use crate::domain::Instant;

/// 0001-01-01T00:00:00Z
pub const FIRST: Instant = Instant::from_unix_seconds(-62_135_596_800);
/// 9999-12-31T23:59:59.999999999Z
pub const LAST: Instant = Instant::from_unix_nanos(253_402_300_800_000_000_000 - 1);

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Why a text is not an instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstantError {
    /// It does not read as RFC 3339.
    #[error("`{0}` is not an instant; write it like `2027-06-30T12:00:00Z`")]
    Malformed(String),
    /// Rules count days of 86 400 s.
    #[error("`{0}` names a leap second; write the second after it")]
    LeapSecond(String),
    /// Outside the years 1 to 9999.
    #[error("`{0}` is outside the years 0001 to 9999 UTC")]
    OutOfRange(String),
}

/// Reads an instant; any offset is turned into UTC.
pub fn parse(text: &str) -> Result<Instant, InstantError> {
    let read = DateTime::parse_from_rfc3339(text).map_err(|_| InstantError::Malformed(text.to_owned()))?;
    if i128::from(read.nanosecond()) >= NANOS_PER_SECOND {
        return Err(InstantError::LeapSecond(text.to_owned()));
    }
    let nanos = i128::from(read.timestamp()) * NANOS_PER_SECOND + i128::from(read.nanosecond());
    let instant = Instant::from_unix_nanos(nanos);
    if (FIRST..=LAST).contains(&instant) {
        Ok(instant)
    } else {
        Err(InstantError::OutOfRange(text.to_owned()))
    }
}

/// Writes an instant in UTC, with as many digits of the second as it needs.
#[must_use]
pub fn format(instant: Instant) -> String {
    let (seconds, nanos) = split(instant);
    DateTime::<Utc>::from_timestamp(seconds, nanos)
        .unwrap_or(if instant < FIRST { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC })
        .to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Writes an instant to the second it falls in, for people; programs get `format`.
#[must_use]
pub fn format_for_people(instant: Instant) -> String {
    format(Instant::from_unix_seconds(split(instant).0))
}

/// Whole seconds since 1970, and the nanoseconds of the second; both as protobuf wants them.
#[must_use]
pub fn split(instant: Instant) -> (i64, u32) {
    const SECOND: i64 = 1_000_000_000;
    let nanos = instant.unix_nanos();
    // Every answer has instants in it, nearly all of them before 2262, and division of 64 bits is a multiplication.
    let (seconds, rest) = match i64::try_from(nanos) {
        Ok(nanos) => (nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND)),
        Err(_) => {
            let furthest = if nanos < 0 { i64::MIN } else { i64::MAX };
            let seconds = i64::try_from(nanos.div_euclid(NANOS_PER_SECOND)).unwrap_or(furthest);
            (seconds, i64::try_from(nanos.rem_euclid(NANOS_PER_SECOND)).unwrap_or_default())
        }
    };
    (seconds, u32::try_from(rest).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_read() {
        for text in [
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999999Z",
            "1970-01-01T00:00:00Z",
            "2027-06-30T12:00:00.000000001Z",
            "2027-06-30T12:00:00.500Z",
            "9999-12-31T23:59:59.999999999Z",
        ] {
            assert_eq!(parse(text).map(format), Ok(text.to_owned()));
        }
    }

    #[test]
    fn an_offset_becomes_utc() {
        assert_eq!(parse("2027-06-30T14:30:00+02:30"), parse("2027-06-30T12:00:00Z"));
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        let refused = |text: &str| parse(text).map_err(|error| error.to_string());
        for text in ["", "tomorrow", "2027-06-30", "2027-02-30T00:00:00Z", "2027-06-30T12:00:00"] {
            assert_eq!(
                refused(text),
                Err(format!("`{text}` is not an instant; write it like `2027-06-30T12:00:00Z`"))
            );
        }
        assert!(refused("2016-12-31T23:59:60Z").is_err_and(|text| text.contains("leap second")));
        assert!(refused("0000-06-30T12:00:00Z").is_err_and(|text| text.contains("0001 to 9999")));
        assert!(refused("9999-12-31T23:59:59-01:00").is_err_and(|text| text.contains("0001 to 9999")));
    }

    #[test]
    fn the_range_is_that_of_a_protobuf_timestamp() {
        assert_eq!(format(FIRST), "0001-01-01T00:00:00Z");
        assert_eq!(format(LAST), "9999-12-31T23:59:59.999999999Z");
    }
}

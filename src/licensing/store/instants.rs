//! Instants as they are kept, in 64 bits, for the years 0001 to 9999 (semantics 7.6), in the order of time.
//!
//! From 1678 to 2261 it is nanoseconds since 1970, which is all that 64 bits can tell. What is before and after, such as
//! the end of a license that has none, is kept to the millisecond: the few months of nanoseconds that are left at both
//! ends have room for that many milliseconds.

use crate::domain::Instant;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const NANOS_PER_MILLISECOND: i128 = 1_000_000;

/// 1678-01-01T00:00:00Z
const FIRST: i64 = -9_214_560_000 * NANOS_PER_SECOND;
/// 2262-01-01T00:00:00Z
const LAST: i64 = 9_214_646_400 * NANOS_PER_SECOND;

/// An instant as it is kept.
#[must_use]
pub fn nanos(instant: Instant) -> i64 {
    let nanos = instant.unix_nanos();
    let bound = nanos.clamp(FIRST.into(), LAST.into());
    // Down to the millisecond, so that what is kept is never after what was told.
    let kept = bound + (nanos - bound).div_euclid(NANOS_PER_MILLISECOND);
    i64::try_from(kept).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// An instant that was kept.
#[must_use]
pub fn instant(kept: i64) -> Instant {
    let bound = kept.clamp(FIRST, LAST);
    let further = i128::from(kept) - i128::from(bound);
    Instant::from_unix_nanos(i128::from(bound) + further * NANOS_PER_MILLISECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc3339;

    #[test]
    fn every_instant_is_kept_in_the_order_of_time_to_the_millisecond_at_least() {
        let mut before = None;
        for (told, kept) in [
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("0001-01-01T00:00:00.000000001Z", "0001-01-01T00:00:00Z"),
            ("1677-12-31T23:59:59.999999999Z", "1677-12-31T23:59:59.999Z"),
            ("1678-01-01T00:00:00Z", "1678-01-01T00:00:00Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2027-06-30T12:00:00.123456789Z", "2027-06-30T12:00:00.123456789Z"),
            ("2261-12-31T23:59:59.999999999Z", "2261-12-31T23:59:59.999999999Z"),
            ("2262-01-01T00:00:00Z", "2262-01-01T00:00:00Z"),
            ("2262-01-01T00:00:00.001Z", "2262-01-01T00:00:00.001Z"),
            ("5000-01-01T00:00:00.0015Z", "5000-01-01T00:00:00.001Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999Z"),
        ] {
            let told = rfc3339::parse(told).unwrap();
            assert_eq!(rfc3339::format(instant(nanos(told))), kept);
            assert!(before.replace(nanos(told)) <= Some(nanos(told)));
        }
        assert_eq!(nanos(Instant::from_unix_seconds(1)), NANOS_PER_SECOND, "as databases have it already");
    }
}

//! How long a caller gives a call: the header `grpc-timeout`.
//!
//! Not here: what happens when it is over.

use std::time::Duration;

use hyper::HeaderMap;

/// What the caller gives; nothing when it does not say so in the protocol's form: up to eight digits and a unit.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.as_bytes();
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || 8 < digits.len() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3_600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            of(&headers)
        };
        for (text, timeout) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("42m", Some(Duration::from_millis(42))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("999999999S", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("1d", None),
            ("", None),
        ] {
            assert_eq!(read(text), timeout, "{text}");
        }
        assert_eq!(of(&HeaderMap::new()), None);
    }
}

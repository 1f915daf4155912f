//! What of a value is repeated in an error.
//!
//! A value in the wrong place may be a secret: the URL of the database where an address is wanted, a license key where a
//! public license ID is. Errors end up in logs and tickets, and the key and the file say where to look.

/// More characters than a value has that people take for a number, a time, a word or an address of this machine; license
/// keys, one-time passwords and tokens have more.
const MOST: usize = 16;

/// `what` without `value`, if that could be a secret.
pub(super) fn without(what: &str, value: &str) -> String {
    if is_plain(value) {
        what.to_owned()
    } else {
        what.replace(&format!("`{value}`"), "what is set").replace(value, "…")
    }
}

fn is_plain(value: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_+.:*[]".contains(character);
    value.is_empty() || (value.chars().count() <= MOST && value.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::without;

    #[test]
    fn what_could_be_a_secret_is_not_repeated() {
        for value in ["loud", "127.0.0.1:1", "[::1]:99999", "1.5", "-1", "1M", ""] {
            let what = format!("`{value}` is not expected");
            assert_eq!(without(&what, value), what);
        }
        for value in [
            "postgres://u:p@h",
            "a@b",
            "correct horse",
            "ABCD-EFGH-JKLM-NPQR",
            "23456-789AB-CDEFG-HJKLM-NPQRS",
            "pass=word",
            "p\nq",
            "größe",
        ] {
            let said = without(&format!("`{value}` is not expected; {value}"), value);
            assert_eq!(said, "what is set is not expected; …");
        }
    }
}

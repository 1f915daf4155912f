//! Licence keys and public license IDs: how they are made, written and kept.
//!
//! A key has 125 random bits, so its SHA-256 is enough to keep it by. Not here: keys that sign (see `signing`).

use super::refusal::Refusal;
use crate::{domain::SubscriptionId, sha256};

/// Letters and digits nobody confuses: no 0, O, 1, I.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";

/// A new licence key, `XXXXX-XXXXX-XXXXX-XXXXX-XXXXX`.
pub(super) fn license_key() -> Result<String, Refusal> {
    grouped(5, 5)
}

/// A new public license ID, `XXX-XXX-XXX`.
pub(super) fn public_license_id() -> Result<SubscriptionId, Refusal> {
    let malformed = || Refusal::Precondition("a new public license ID is malformed".to_owned());
    grouped(3, 3)?.parse().map_err(|_| malformed())
}

/// What is kept of a licence key. Spaces, hyphens and case do not matter to whoever types one.
pub(super) fn hash(key: &str) -> String {
    let typed =
        key.chars().filter(char::is_ascii_alphanumeric).map(|character| character.to_ascii_uppercase());
    sha256::hex(typed.collect::<String>().as_bytes())
}

/// A one-time password: 80 random bits, written to be typed.
pub(super) fn one_time_password() -> Result<String, Refusal> {
    grouped(4, 4)
}

/// Whether it is written as one: nobody guesses it.
pub(super) fn is_one_time(password: &str) -> bool {
    let groups: Vec<&[u8]> = password.as_bytes().split(|byte| *byte == b'-').collect();
    groups.len() == 4
        && groups.iter().all(|group| group.len() == 4 && group.iter().all(|byte| ALPHABET.contains(byte)))
}

fn grouped(groups: usize, of: usize) -> Result<String, Refusal> {
    let mut bytes = vec![0_u8; groups * of];
    getrandom::fill(&mut bytes).map_err(|error| {
        Refusal::Precondition(format!("the operating system has no random bytes: {error}"))
    })?;
    let letter =
        |byte: &u8| ALPHABET.get(usize::from(*byte) % ALPHABET.len()).copied().map_or('2', char::from);
    let groups: Vec<String> = bytes.chunks(of).map(|group| group.iter().map(letter).collect()).collect();
    Ok(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_time_password_is_told_from_what_people_choose() -> Result<(), Refusal> {
        assert!(is_one_time(&one_time_password()?));
        for other in
            ["", "ABCD-EFGH-JKLM", "ABCD-EFGH-JKLM-NPQ1", "abcd-efgh-jklm-npqr", "ABCD-EFGH-JKLM-NPQR-"]
        {
            assert!(!is_one_time(other), "{other}");
        }
        Ok(())
    }

    #[test]
    fn a_key_is_the_same_however_it_is_typed() -> Result<(), Refusal> {
        let key = license_key()?;
        assert_eq!(key.len(), 29);
        assert_eq!(hash(&key), hash(&key.to_lowercase().replace('-', " ")));
        assert_ne!(hash(&key), hash(&license_key()?));
        Ok(())
    }
}

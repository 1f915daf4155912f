//! Passwords: argon2id, a few at a time, and never in the way of other calls.
//!
//! Not here: who may try, and how often (see `sign_in`), and whose turn it is (see `turns`).

mod common;
mod turns;

use std::sync::LazyLock;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

pub(super) use self::turns::Lane;
use self::turns::Turns;
use super::refusal::Refusal;

/// Hashes and verifies. Each hash takes 46 MiB and tens of milliseconds, so only so many are made at a time, and only so
/// many wait for their turn.
#[derive(Clone, Debug)]
pub(super) struct Passwords(Turns);

/// Longest password, in characters.
const LONGEST: usize = 256;

/// The same in bytes: no more of what is tried is kept in memory while it waits to be hashed.
pub(super) const LONGEST_BYTES: usize = 4 * LONGEST;

/// Shortest and longest password, in characters.
const LENGTHS: std::ops::RangeInclusive<usize> = 12..=LONGEST;

/// The hash of a password nobody has: a name that does not exist takes as long to refuse as one that does.
static NOBODY: LazyLock<String> =
    LazyLock::new(|| hasher().hash_password(b"nobody").map(|hash| hash.to_string()).unwrap_or_default());

/// argon2id with 46 MiB in one pass, which is as hard as 19 MiB in two (OWASP's password storage cheat sheet). Blocks of more
/// than 32 MiB the C library always gives back to the system; of smaller ones each thread would keep its own for good.
fn hasher() -> Argon2<'static> {
    const PARAMS: Params = match Params::new(46 << 10, 1, 1, None) {
        Ok(params) => params,
        Err(_) => Params::DEFAULT,
    };
    Argon2::new(Algorithm::Argon2id, Version::V0x13, PARAMS)
}

impl Passwords {
    pub(super) fn new(at_a_time: usize, waiting: usize) -> Self {
        // Not at the first unknown name, which would take longer than any other.
        std::thread::spawn(|| LazyLock::force(&NOBODY).len());
        Self(Turns::new(at_a_time, waiting))
    }

    /// The hash to keep.
    pub(super) async fn hash(&self, lane: Lane, password: &str) -> Result<String, Refusal> {
        let password = normalized(password);
        self.0
            .work(lane, move || hasher().hash_password(password.as_bytes()).map(|hash| hash.to_string()))
            .await?
            .map_err(|error| Refusal::Precondition(format!("the password could not be hashed: {error}")))
    }

    /// Whether `password` has `hash`; with none, as long as if it had one.
    pub(super) async fn verify(
        &self,
        lane: Lane,
        password: &str,
        hash: Option<String>,
    ) -> Result<bool, Refusal> {
        let spellings = spellings(password);
        self.0
            .work(lane, move || {
                let known = hash.is_some();
                let hash = hash.unwrap_or_else(|| NOBODY.clone());
                let Ok(hash) = PasswordHash::new(&hash) else { return false };
                let verifies = |password: &Zeroizing<String>| {
                    hasher().verify_password(password.as_bytes(), &hash).is_ok()
                };
                known & spellings.iter().any(verifies)
            })
            .await
    }
}

/// A password as it is hashed: one keyboard writes `ü` as one character, another as two (RFC 8265, section 4.2).
fn normalized(password: &str) -> Zeroizing<String> {
    Zeroizing::new(password.nfc().collect())
}

/// What may have been hashed of it: before passwords were normalized, it was what somebody's keyboard wrote.
fn spellings(password: &str) -> Vec<Zeroizing<String>> {
    let mut spellings = vec![normalized(password)];
    for older in [Zeroizing::new(password.to_owned()), Zeroizing::new(password.nfd().collect())] {
        if !spellings.contains(&older) {
            spellings.push(older);
        }
    }
    spellings
}

/// Whether an account with this name and customer may choose a password.
pub(super) fn check_new(password: &str, name: &str, customer: &str) -> Result<(), Refusal> {
    let count = normalized(password).chars().count();
    if !LENGTHS.contains(&count) {
        let what = format!("{count} characters; a password has {} to {}", LENGTHS.start(), LENGTHS.end());
        return Err(Refusal::unreadable("new_password", what));
    }
    if common::is_common(password, &[name, customer]) {
        let what = "it is easily guessed: made of common passwords, of your own name or your customer's, or of keys in a \
                    row; choose another, such as four words nobody would expect together";
        return Err(Refusal::unreadable("new_password", what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_same_however_a_keyboard_writes_it() {
        let (one, two) = ("m\u{fc}nster-b\u{f6}rse", "mu\u{308}nster-bo\u{308}rse");
        assert_eq!(normalized(one), normalized(two));
        for typed in [one, two] {
            let spellings = spellings(typed);
            for hashed_once in [one, two] {
                assert!(spellings.iter().any(|spelling| spelling.as_str() == hashed_once), "{typed}");
            }
        }
        assert_eq!(spellings("ascii").len(), 1, "one hash for most");
    }
}

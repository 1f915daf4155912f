//! Passwords: argon2id, a few at a time, and never in the way of other calls.
//!
//! Not here: who may try, and how often (see `sign_in`).

use std::sync::{Arc, LazyLock};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::refusal::Refusal;

/// Hashes and verifies. Each hash takes 19 MiB and tens of milliseconds, so only so many are made at a time.
#[derive(Clone, Debug)]
pub(super) struct Passwords(Arc<Semaphore>);

/// Longest password, in characters.
const LONGEST: usize = 256;

/// The same in bytes: no more of what is tried is kept in memory while it waits to be hashed.
pub(super) const LONGEST_BYTES: usize = 4 * LONGEST;

/// Shortest and longest password, in characters.
const LENGTHS: std::ops::RangeInclusive<usize> = 12..=LONGEST;

/// The hash of a password nobody has: a name that does not exist takes as long to refuse as one that does.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    Argon2::default().hash_password(b"nobody").map(|hash| hash.to_string()).unwrap_or_default()
});

impl Passwords {
    pub(super) fn new(at_a_time: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_a_time)))
    }

    /// The hash to keep.
    pub(super) async fn hash(&self, password: &str) -> Result<String, Refusal> {
        let password = password.to_owned();
        self.work(move || Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()))
            .await?
            .map_err(|error| Refusal::Precondition(format!("the password could not be hashed: {error}")))
    }

    /// Whether `password` has `hash`; with none, as long as if it had one.
    pub(super) async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, Refusal> {
        let password = password.to_owned();
        self.work(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.clone());
            let verifies = |hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
            known & PasswordHash::new(&hash).is_ok_and(verifies)
        })
        .await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let stopping =
            || Refusal::TooMany("the backend is stopping; ask again once it has restarted".to_owned());
        let place = self.0.acquire().await.map_err(|_| stopping())?;
        let done = spawn_blocking(work).await.map_err(|_| stopping());
        drop(place);
        done
    }
}

/// Whether a password may be chosen.
pub(super) fn check_new(password: &str) -> Result<(), Refusal> {
    let count = password.chars().count();
    if LENGTHS.contains(&count) {
        return Ok(());
    }
    let what = format!("{count} characters; a password has {} to {}", LENGTHS.start(), LENGTHS.end());
    Err(Refusal::unreadable("new_password", what))
}

//! Passwords: argon2id, a few at a time, and never in the way of other calls.
//!
//! Not here: who may try, and how often (see `sign_in`).

use std::sync::{Arc, LazyLock};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use super::refusal::Refusal;

/// Hashes and verifies. Each hash takes 46 MiB and tens of milliseconds, so only so many are made at a time, and only so
/// many wait for their turn.
#[derive(Clone, Debug)]
pub(super) struct Passwords {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

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
        Self { places: Arc::new(Semaphore::new(at_a_time)), waiting: Arc::new(Semaphore::new(waiting)) }
    }

    /// The hash to keep.
    pub(super) async fn hash(&self, password: &str) -> Result<String, Refusal> {
        let password = password.to_owned();
        self.work(move || hasher().hash_password(password.as_bytes()).map(|hash| hash.to_string()))
            .await?
            .map_err(|error| Refusal::Precondition(format!("the password could not be hashed: {error}")))
    }

    /// Whether `password` has `hash`; with none, as long as if it had one.
    pub(super) async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, Refusal> {
        let password = password.to_owned();
        self.work(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.clone());
            let verifies = |hash| hasher().verify_password(password.as_bytes(), &hash).is_ok();
            known & PasswordHash::new(&hash).is_ok_and(verifies)
        })
        .await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let place = self.place().await?;
        // The place goes with the work, which a call that is given up does not end.
        let placed = move || {
            let done = work();
            drop(place);
            done
        };
        spawn_blocking(placed).await.map_err(|_| stopping())
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let full = "too many passwords are being looked at; try again in a moment";
        let _waiting = self.waiting.try_acquire().map_err(|_| Refusal::TooMany(full.to_owned()))?;
        Arc::clone(&self.places).acquire_owned().await.map_err(|_| stopping())
    }
}

fn stopping() -> Refusal {
    Refusal::TooMany("the backend is stopping; ask again once it has restarted".to_owned())
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

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        task::{Context, Waker},
    };

    use super::*;

    /// Work that has begun and goes on until the sender is used or dropped.
    async fn begun(passwords: &Passwords) -> (tokio::task::JoinHandle<()>, mpsc::Sender<()>) {
        let (end, ended) = mpsc::channel();
        let (begins, begun) = tokio::sync::oneshot::channel();
        let passwords = passwords.clone();
        let call = tokio::spawn(async move {
            let work = move || {
                begins.send(()).unwrap();
                ended.recv().ok();
            };
            passwords.work(work).await.unwrap();
        });
        begun.await.unwrap();
        (call, end)
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_keeps_its_place_until_its_hash_is_done() {
        let passwords = Passwords::new(1, 1);
        let (call, end) = begun(&passwords).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        assert_eq!(passwords.places.available_permits(), 0, "the hash is still being made");
        end.send(()).unwrap();
        passwords.work(|| ()).await.unwrap();
        assert_eq!(passwords.places.available_permits(), 1);
    }

    #[tokio::test]
    async fn only_so_many_wait_for_their_hash_and_the_next_is_refused() {
        let passwords = Passwords::new(1, 1);
        let (call, end) = begun(&passwords).await;
        let mut waits = Box::pin(passwords.work(|| ()));
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let refused = passwords.work(|| ()).await.unwrap_err();
        assert!(matches!(refused, Refusal::TooMany(_)), "{refused:?}");
        end.send(()).unwrap();
        call.await.unwrap();
        waits.await.unwrap();
        passwords.work(|| ()).await.unwrap();
    }
}

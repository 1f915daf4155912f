//! Passwords: argon2id, a few at a time, and never in the way of other calls.
//!
//! Not here: who may try, and how often (see `sign_in`), and whose turn it is (see `lines` and `turns`).

mod common;
mod lines;
mod turns;

use std::{sync::LazyLock, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use tokio::time::Instant;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

pub(super) use self::lines::Lane;
use self::turns::{Place, Turns, full};
use super::{keys, refusal::Refusal};

/// Hashes and verifies. Each hash takes 46 MiB and tens of milliseconds, so only so many are made at a time, and only so
/// many wait for their turn: of sign-ins, whoever they name, and as many of those who are known, which no stranger delays.
#[derive(Clone, Debug)]
pub(super) struct Passwords {
    known: Turns,
    sign_ins: Turns,
}

/// A sign-in that finds no place in line is refused after this at least, and after so many times what a sign-in takes to be
/// hashed, where the processor is busy with other things. Until then one whose name is known there was looked at beside the
/// line; whether it was does not show, for everybody waits as long.
const TURNED_AWAY_AFTER: Duration = Duration::from_secs(2);
const TURNED_AWAY_AFTER_HASHES: u32 = 10;

/// And after this, though nothing gets done: what waits takes room.
const TURNED_AWAY_BY: Duration = Duration::from_secs(20);

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
        Self { known: Turns::new(at_a_time, waiting), sign_ins: Turns::new(at_a_time, waiting) }
    }

    /// The hash to keep.
    pub(super) async fn hash(&self, lane: Lane, password: &str) -> Result<String, Refusal> {
        let password = normalized(password);
        self.known
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
        self.known.work(lane, verifying(password, hash)).await
    }

    /// The same for a sign-in, which waits in line with all others from its address. It may be looked at `beside` the line
    /// as well: a right password opens at once, and of a wrong one its place in line says when and what is told, as of any
    /// name. Nobody sees from an answer which it was.
    pub(super) async fn verify_sign_in(
        &self,
        line: Lane,
        beside: Option<Lane>,
        password: &str,
        hash: Option<String>,
    ) -> Result<bool, Refusal> {
        let came = Instant::now();
        let place = self.sign_ins.place(line, verifying(password, hash.clone()));
        let waits = place.as_ref().is_none_or(Place::waits);
        let looked_at_beside = async {
            if let Some(lane) = beside.filter(|_| waits)
                && self.verify(lane, password, hash).await.is_ok_and(|right| right)
            {
                return;
            }
            std::future::pending().await
        };
        let in_line = async {
            let done = match place {
                Some(place) => place.done().await,
                None => Err(full()),
            };
            if done.is_err() {
                self.turned_away(came).await;
            }
            done
        };
        tokio::select! {
            () = looked_at_beside => Ok(true),
            done = in_line => done,
        }
    }

    /// Waits until what came then, and has no place, is refused. A line that is full is hashed without a pause, so how long
    /// that takes is known, and it is the same for who is known and who is not.
    async fn turned_away(&self, came: Instant) {
        loop {
            let until = came + turned_away_after(self.sign_ins.longest_lately());
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

fn turned_away_after(hash: Duration) -> Duration {
    hash.saturating_mul(TURNED_AWAY_AFTER_HASHES).clamp(TURNED_AWAY_AFTER, TURNED_AWAY_BY)
}

/// The work of looking at a password; with no hash, as long as if there were one.
fn verifying(password: &str, hash: Option<String>) -> impl FnOnce() -> bool + Send + use<> {
    let spellings = spellings(password);
    move || {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.clone());
        let Ok(hash) = PasswordHash::new(&hash) else { return false };
        let verifies =
            |password: &Zeroizing<String>| hasher().verify_password(password.as_bytes(), &hash).is_ok();
        known & spellings.iter().any(verifies)
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
    if keys::is_one_time(password) {
        let what = "it is written as a one-time password is; choose another form";
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
    use std::{
        sync::mpsc,
        task::{Context, Waker},
    };

    use super::*;

    fn from(address: &str) -> Lane {
        Lane::Address { network: address.to_owned(), address: address.to_owned() }
    }

    fn known() -> Option<Lane> {
        Some(Lane::Known { customer: "acme".to_owned(), pair: "anna from here".to_owned() })
    }

    /// Keeps the only thread for sign-ins busy until the sender is dropped.
    async fn busy(passwords: &Passwords) -> mpsc::Sender<()> {
        let ((end, ended), (begins, begun)) = (mpsc::channel::<()>(), tokio::sync::oneshot::channel());
        let work = move || {
            begins.send(()).unwrap();
            ended.recv().ok();
        };
        let place = passwords.sign_ins.place(from("elsewhere"), work).unwrap();
        tokio::spawn(place.done());
        begun.await.unwrap();
        end
    }

    #[tokio::test]
    async fn in_line_a_wrong_password_is_answered_at_its_turn_whoever_is_known_and_a_right_one_at_once() {
        let passwords = Passwords::new(1, 64);
        let hash = passwords.hash(Lane::Own, "right").await.unwrap();
        let end = busy(&passwords).await;
        let try_it = |beside, password| {
            let (passwords, hash) = (passwords.clone(), Some(hash.clone()));
            Box::pin(async move { passwords.verify_sign_in(from("here"), beside, password, hash).await })
        };
        assert!(try_it(known(), "right").await.unwrap(), "no line keeps it waiting");
        let mut context = Context::from_waker(Waker::noop());
        let mut tries = [try_it(known(), "wrong"), try_it(None, "wrong"), try_it(None, "right")];
        for _ in 0..3 {
            for one in &mut tries {
                assert!(one.as_mut().poll(&mut context).is_pending(), "its turn has not come");
            }
            // By then whatever is looked at beside the line was.
            passwords.known.work(Lane::Own, || ()).await.unwrap();
        }
        drop(end);
        let [one, two, three] = tries;
        assert!(!one.await.unwrap() && !two.await.unwrap() && three.await.unwrap());
    }

    #[tokio::test]
    async fn a_full_line_turns_a_wrong_password_away_as_late_and_alike_whoever_is_known() {
        let passwords = Passwords::new(1, 8);
        let hash = passwords.hash(Lane::Own, "right").await.unwrap();
        let end = busy(&passwords).await;
        let taken = passwords.sign_ins.place(from("here"), || ()).unwrap();
        let try_it = async |beside, password| {
            let began = Instant::now();
            let answer = passwords.verify_sign_in(from("here"), beside, password, Some(hash.clone())).await;
            (answer, began.elapsed())
        };
        let ((right, _), one, two, three) = tokio::join!(
            try_it(known(), "right"),
            try_it(known(), "wrong"),
            try_it(None, "wrong"),
            try_it(None, "right"),
        );
        assert!(right.unwrap(), "no flood keeps it out");
        for (answer, after) in [one, two, three] {
            assert!(matches!(answer, Err(Refusal::TooMany(_))), "{answer:?}");
            assert!(TURNED_AWAY_AFTER <= after, "{after:?}");
        }
        drop((end, taken));
    }

    #[test]
    fn whoever_finds_no_place_waits_for_ten_hashes_and_neither_less_than_two_seconds_nor_more_than_twenty() {
        for (hash, after) in [(0, 2_000), (200, 2_000), (201, 2_010), (1_999, 19_990), (2_001, 20_000)] {
            let after = Duration::from_millis(after);
            assert_eq!(turned_away_after(Duration::from_millis(hash)), after, "{hash} ms");
        }
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_longer_when_hashes_begin_to_take_long() {
        let passwords = Passwords::new(1, 8);
        let end = busy(&passwords).await;
        let taken = passwords.sign_ins.place(from("here"), || ()).unwrap();
        tokio::time::pause();
        let began = Instant::now();
        let slower = async {
            tokio::time::sleep(TURNED_AWAY_AFTER / 2).await;
            passwords.sign_ins.took(TURNED_AWAY_AFTER / 4);
        };
        let (answer, ()) = tokio::join!(passwords.verify_sign_in(from("here"), None, "wrong", None), slower);
        assert!(matches!(answer, Err(Refusal::TooMany(_))), "{answer:?}");
        let after = TURNED_AWAY_AFTER / 4 * TURNED_AWAY_AFTER_HASHES;
        assert!(after <= began.elapsed() && began.elapsed() < 2 * after, "{:?}", began.elapsed());
        drop((end, taken));
    }

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

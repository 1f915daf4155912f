//! Whose turn it is at the database, and how often somebody may change something: nobody's many calls hold up everybody
//! else's (semantics 7.39).
//!
//! SQLite has one writer and PostgreSQL few connections. Whoever comes waits in a line of its own, of which few are at the
//! database at a time; a line that is full, or an account that asks for more than it may, is told when to come again. What
//! counts here is the work of this process, so it is measured by its own monotonic clock.
//! Not here: what is changed, whose reads wait where (see `reading`), and refused attempts (see `attempts`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::refusal::Refusal;

/// Lines of calls that wait, and what was changed lately by whom.
#[derive(Debug, Default)]
pub(super) struct Turns {
    lines: Mutex<HashMap<String, Line>>,
    changed: Mutex<HashMap<String, Spent>>,
}

#[derive(Debug)]
struct Line {
    turns: Arc<Semaphore>,
    /// Those that wait and those whose turn it is.
    length: usize,
}

/// How much of its budget somebody has spent, as of an instant.
#[derive(Clone, Copy, Debug)]
struct Spent {
    amount: f64,
    at: Instant,
}

/// It is somebody's turn until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

/// A place in a line.
#[derive(Debug)]
struct Place {
    turns: Arc<Turns>,
    whose: String,
}

/// Who waits in one line, and how many of them are at the database at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    /// A session, an API credential, a license key or a unit: its changes are made one after the other.
    One(&'a str),
    /// Sign-ins of an account, and what ends its sessions: whatever its API credentials have waiting, it comes in, and ends
    /// them.
    Sessions(&'a str),
    /// All accounts of a customer.
    Customer(&'a str),
    /// What ends sessions of a customer's accounts: it waits behind no other change of theirs.
    Ends(&'a str),
    /// All units of a customer, and what license keys make of them: accounts do not wait behind them, nor they behind
    /// accounts.
    Units(&'a str),
    /// A session, an API credential, a license key or a unit: it reads one thing after the other.
    Reader(Asks, &'a str),
    /// All of a customer that read.
    Readers(Asks, &'a str),
    /// Whoever comes from an address with what is not known yet.
    Strangers(Asks, &'a str),
    /// All of them, whatever their address.
    AllStrangers(Asks),
}

/// What somebody reads for. Each has connections or lines of its own, so that none keeps another waiting.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asks {
    /// Calls of accounts, and license keys.
    Calls,
    /// Syncs and watches of units.
    Syncs,
    /// Sign-ins.
    SignIns,
}

/// Whose budget a change is taken from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spender<'a> {
    /// An account's, for what its sessions change.
    Account(&'a str),
    /// An API credential's.
    Credential(&'a str),
    /// That of all API credentials of an account.
    Credentials(&'a str),
    /// An account's, for sign-ins and for what ends sessions: nothing else takes from it.
    Sessions(&'a str),
    /// A license key's, by its hash.
    LicenseKey(&'a str),
}

/// What somebody may change at once, after a while without changes.
const BUDGET: f64 = 2_000.0;

/// What comes back of it in a second.
const PER_SECOND: f64 = 20.0;

/// Bytes of a request that count like a change.
const BYTES: f64 = 10_000.0;

/// Changes that a sign-in counts like: nobody needs many, and each is an entry for good.
const SIGN_IN: f64 = 10.0;

/// Budgets remembered before those are forgotten that are whole again.
const REMEMBERED: usize = 10_000;

/// When to come again to a line that was full.
const LINE_MOVES: Duration = Duration::from_secs(1);

impl Whose<'_> {
    fn name(self) -> String {
        match self {
            Self::One(id) => format!("one {id}"),
            Self::Sessions(id) => format!("sessions {id}"),
            Self::Customer(id) => format!("customer {id}"),
            Self::Ends(id) => format!("ends {id}"),
            Self::Units(id) => format!("units {id}"),
            Self::Reader(asks, id) => format!("reader {asks:?} {id}"),
            Self::Readers(asks, id) => format!("readers {asks:?} {id}"),
            Self::Strangers(asks, address) => format!("strangers {asks:?} {address}"),
            Self::AllStrangers(asks) => format!("all strangers {asks:?}"),
        }
    }

    /// Of each kind of connections (see `store`) there are more, so that some are left for others.
    const fn at_once(self) -> usize {
        match self {
            Self::One(_) | Self::Sessions(_) | Self::Reader(..) => 1,
            Self::Ends(_)
            | Self::Units(_)
            | Self::Readers(..)
            | Self::Strangers(..)
            | Self::AllStrangers(_) => 2,
            Self::Customer(_) => 4,
        }
    }

    const fn longest(self) -> usize {
        match self {
            Self::One(_) | Self::Sessions(_) | Self::Reader(..) => 256,
            Self::Customer(_)
            | Self::Ends(_)
            | Self::Units(_)
            | Self::Readers(Asks::Calls | Asks::SignIns, _) => 1_024,
            // Each of these takes no more than a look at a row or two. Behind one address may be a whole fleet; who waits
            // there for a moment would otherwise be refused for as long as somebody else floods.
            Self::Readers(Asks::Syncs, _) | Self::Strangers(..) | Self::AllStrangers(_) => 16_384,
        }
    }
}

impl Spender<'_> {
    fn name(self) -> String {
        match self {
            Self::Account(id) => format!("account {id}"),
            Self::Credential(id) => format!("credential {id}"),
            Self::Credentials(id) => format!("credentials {id}"),
            Self::Sessions(id) => format!("sessions {id}"),
            Self::LicenseKey(id) => format!("key {id}"),
        }
    }

    const fn least(self) -> f64 {
        match self {
            Self::Account(_) | Self::Credential(_) | Self::Credentials(_) | Self::LicenseKey(_) => 1.0,
            Self::Sessions(_) => SIGN_IN,
        }
    }

    /// How much of a budget it has.
    const fn share(self) -> f64 {
        match self {
            // One that leaked leaves the others of its account theirs.
            Self::Credential(_) => 0.25,
            Self::Account(_) | Self::Sessions(_) | Self::Credentials(_) | Self::LicenseKey(_) => 1.0,
        }
    }

    const fn refused(self) -> &'static str {
        match self {
            Self::Account(_) => "this account has changed too much in too short a time",
            Self::Credential(_) => "this API credential has changed too much in too short a time",
            Self::Credentials(_) => {
                "the API credentials of this account have changed too much in too short a time"
            }
            Self::Sessions(_) => "this account has signed in too often in too short a time",
            Self::LicenseKey(_) => "this license key has activated too much in too short a time",
        }
    }
}

impl Turns {
    /// Waits until it is `whose` turn; refused while too many wait in the same line.
    pub(super) async fn wait(self: &Arc<Self>, whose: Whose<'_>) -> Result<Turn, Refusal> {
        let name = whose.name();
        let turns = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Line { turns: Arc::new(Semaphore::new(whose.at_once())), length: 0 };
            let line = lines.entry(name.clone()).or_insert_with(new);
            if whose.longest() <= line.length {
                return Err(Refusal::TooFast("too many calls wait already", LINE_MOVES));
            }
            line.length += 1;
            Arc::clone(&line.turns)
        };
        let place = Place { turns: Arc::clone(self), whose: name };
        // Nobody closes it.
        let closed = |_| Refusal::TooFast("the backend stops", LINE_MOVES);
        Ok(Turn { _permit: turns.acquire_owned().await.map_err(closed)?, _place: place })
    }

    /// Takes a change of so many bytes from a budget; refused while that is spent.
    pub(super) fn spend(&self, whose: Spender<'_>, bytes: usize) -> Result<(), Refusal> {
        self.spend_at(whose, bytes, Instant::now())
    }

    /// Takes what a change has written from a budget, which it may overdraw: the next one waits for it.
    pub(super) fn charge(&self, whose: Spender<'_>, bytes: usize) {
        self.charge_at(whose, bytes, Instant::now());
    }

    fn charge_at(&self, whose: Spender<'_>, bytes: usize, now: Instant) {
        let cost = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / BYTES / whose.share();
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = changed.entry(whose.name()).or_insert(Spent { amount: 0.0, at: now });
        *spent = Spent { amount: (spent.left_at(now) + cost).min(2.0 * BUDGET), at: now };
    }

    fn spend_at(&self, whose: Spender<'_>, bytes: usize, now: Instant) -> Result<(), Refusal> {
        let cost = whose.least() + f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / BYTES;
        let cost = (cost / whose.share()).min(BUDGET);
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if REMEMBERED < changed.len() {
            changed.retain(|_, spent| 0.0 < spent.left_at(now));
        }
        let spent = changed.entry(whose.name()).or_insert(Spent { amount: 0.0, at: now });
        let amount = spent.left_at(now);
        let wait = (amount + cost - BUDGET) / PER_SECOND;
        if 0.0 < wait {
            let wait = Duration::from_secs_f64(wait.ceil());
            return Err(Refusal::TooFast(whose.refused(), wait));
        }
        *spent = Spent { amount: amount + cost, at: now };
        Ok(())
    }
}

impl Spent {
    /// What is spent of the budget still.
    fn left_at(self, now: Instant) -> f64 {
        (self.amount - PER_SECOND * now.saturating_duration_since(self.at).as_secs_f64()).max(0.0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.turns.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get_mut(&self.whose) {
            line.length -= 1;
            if line.length == 0 {
                lines.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_full_refuses_the_next_one_and_keeps_nobody_else_waiting() {
        let turns = Arc::new(Turns::default());
        let first = turns.wait(Whose::One("anna")).await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..255 {
            let turns = Arc::clone(&turns);
            waiting.push(tokio::spawn(async move { turns.wait(Whose::One("anna")).await.map(drop) }));
        }
        while turns.lines.lock().unwrap().get("one anna").unwrap().length < 256 {
            tokio::task::yield_now().await;
        }
        let refused = turns.wait(Whose::One("anna")).await.unwrap_err();
        assert!(matches!(refused, Refusal::TooFast(..)), "{refused}");
        turns.wait(Whose::One("ben")).await.unwrap();
        turns.wait(Whose::Customer("anna")).await.unwrap();
        // Whoever gives up leaves the line.
        waiting.pop().unwrap().abort();
        while turns.lines.lock().unwrap().get("one anna").unwrap().length == 256 {
            tokio::task::yield_now().await;
        }
        drop(first);
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
        assert!(turns.lines.lock().unwrap().is_empty(), "nothing is kept of who came and went");
    }

    #[test]
    fn what_an_account_changes_is_bounded_and_comes_back_with_time() {
        let (turns, start) = (Turns::default(), Instant::now());
        let (anna, ben) = (Spender::Account("anna"), Spender::Account("ben"));
        for _ in 0..2_000 {
            turns.spend_at(anna, 0, start).unwrap();
        }
        let Refusal::TooFast(_, wait) = turns.spend_at(anna, 0, start).unwrap_err() else { panic!() };
        assert_eq!(wait, Duration::from_secs(1));
        turns.spend_at(ben, 100 << 20, start).unwrap();
        turns.spend_at(ben, 0, start).unwrap_err();
        let later = start + Duration::from_secs(1);
        for _ in 0..20 {
            turns.spend_at(anna, 0, later).unwrap();
        }
        turns.spend_at(anna, 0, later).unwrap_err();
        turns.spend_at(anna, 15_000_000, start + Duration::from_secs(200)).unwrap();
    }

    #[test]
    fn what_a_change_has_written_is_taken_from_the_budget_as_well() {
        let (turns, start) = (Turns::default(), Instant::now());
        let anna = Spender::Account("anna");
        turns.spend_at(anna, 0, start).unwrap();
        turns.charge_at(anna, 1 << 30, start);
        let Refusal::TooFast(_, wait) = turns.spend_at(anna, 0, start).unwrap_err() else { panic!() };
        assert_eq!(wait.as_secs(), 101, "overdrawn once at the most");
        turns.spend_at(anna, 0, start + wait).unwrap();
    }

    #[test]
    fn whoever_has_an_account_s_credential_keeps_nobody_from_signing_in_to_it() {
        let (turns, now) = (Turns::default(), Instant::now());
        turns.spend_at(Spender::Account("anna"), 100 << 20, now).unwrap();
        turns.spend_at(Spender::Account("anna"), 0, now).unwrap_err();
        for _ in 0..200 {
            turns.spend_at(Spender::Sessions("anna"), 0, now).unwrap();
        }
        turns.spend_at(Spender::Sessions("anna"), 0, now).unwrap_err();
    }

    #[test]
    fn a_license_key_activates_a_fleet_in_an_hour() {
        let (turns, start) = (Turns::default(), Instant::now());
        let fleet = 50_000;
        for number in 0..fleet {
            let at = start + Duration::from_hours(1) * number / fleet;
            turns.spend_at(Spender::LicenseKey("key"), 500, at).unwrap();
        }
    }
}

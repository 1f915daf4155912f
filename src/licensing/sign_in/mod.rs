//! Signing in and out (semantics 7.33 and 7.34).
//!
//! A name that somebody has, one that nobody has and one that is disabled are answered after the same work: one look into
//! the database, one hash, and nothing written before the answer. Not here: how passwords are hashed (see `passwords`), and
//! what a session opens (see `caller`).

mod change_password;
mod failures;
mod origin;
mod throttle;

use std::{sync::Arc, time::Duration};

use tokio::sync::OnceCell;

pub(super) use self::{
    origin::Address,
    throttle::{LOOKS, Throttle},
};
use self::{
    origin::{Attempt, Key},
    throttle::Look,
};
use super::{
    Backend,
    accounts::{self, Account, ONE_TIME_USED, SignInName},
    actor::{Actor, Entry},
    caller::Caller,
    change::Change,
    keys,
    passwords::{self, Lane},
    refusal::Refusal,
    sessions::Session,
    store::nanos,
    turns::{Asks, Spender, Whose},
};
use crate::domain::Span;

/// The key names and addresses are hashed with, once it was read; a clone shares it.
#[derive(Clone, Default)]
pub(super) struct SignInKey(Arc<OnceCell<Key>>);

const SIGN_IN: &str = "account.sign_in";

/// Addresses an account is known at: the latest so many, each so long.
const ADDRESSES: i64 = 64;
const KNOWN_FOR: Span = Span::days(90);

impl Backend {
    /// Opens a session.
    pub(super) async fn open_session(
        &self,
        name: &str,
        password: &str,
        address: &Address,
    ) -> Result<Session, Refusal> {
        // Nobody has a longer name or password; what waits to be hashed is kept in memory until then.
        if accounts::LONGEST_BYTES < name.len() || passwords::LONGEST_BYTES < password.len() {
            let why = "nobody has so long a name or password";
            self.attempted_by_nobody(SIGN_IN, "a name that is not kept", why).await;
            return Err(Refusal::WrongPassword);
        }
        let name = SignInName::typed(name);
        let attempt = self.sign_in_key().await?.attempt(&name, address);
        let turn = self.turn_of_strangers(Asks::SignIns, address).await?;
        let found = accounts::to_sign_in(self.store.reads(), &name, &attempt.address).await?;
        drop(turn);
        let guess = self.throttle.begin(attempt.clone(), self.clock.now());
        let is_one_time = keys::is_one_time(password);
        // Nobody guesses a one-time password: what looks like one is looked at however many others failed.
        if let Look::Not(wait) = guess.look()
            && !is_one_time
        {
            return Err(too_soon(wait));
        }
        let known = found.as_ref().is_some_and(|(_, known)| *known);
        let account = found.map(|(account, _)| account);
        let hash = account.as_ref().map(|account| account.password_hash.clone());
        // One that somebody chose in that form may be guessed: what counts is that the account waits for one.
        let awaited = |account: &Account| is_one_time && account.must_change_password;
        let opens = |account: &&Account| !account.disabled && (guess.opens(known) || awaited(account));
        // No flood from an address keeps out whoever is known there, or was given a one-time password; what would open
        // nothing is not looked at beside the line, from which a right password is answered at once.
        let beside = account.as_ref().filter(opens).filter(|account| known || awaited(account));
        let beside = beside.map(|Account { customer_id, .. }| Lane::Known {
            customer: customer_id.clone(),
            pair: attempt.pair,
        });
        let line = Lane::Address { network: attempt.network, address: attempt.address.clone() };
        let verified = self.passwords.verify_sign_in(line, beside, password, hash).await;
        let right = match verified {
            Ok(right) => right,
            Err(refusal) => {
                guess.turned_away(self.clock.now());
                return Err(refusal);
            }
        };
        if let Some(account) = account.as_ref().filter(opens).filter(|_| right)
            && let Some(session) = self.opened(account, &attempt.address, address.as_str()).await?
        {
            return Ok(session);
        }
        let (look, is_last) = (guess.look(), guess.wrong(self.clock.now()));
        tokio::spawn(self.clone().write_down(name, account, right, is_last));
        Err(match look {
            Look::Freely => Refusal::WrongPassword,
            Look::WhereKnown(wait, _) | Look::Not(wait) => too_soon(wait),
        })
    }

    /// The session of an account whose password was right, unless that was replaced or the account disabled meanwhile.
    async fn opened(&self, before: &Account, address: &str, from: &str) -> Result<Option<Session>, Refusal> {
        // The password is right, so the throttle does not count it.
        self.turns.spend(Spender::Sessions(&before.account_id), 0)?;
        let _turn = self.turns.wait(Whose::Sessions(&before.account_id)).await?;
        let _customer = self.turns.wait(Whose::Customer(&before.customer_id)).await?;
        let mut change = Change::begin(self).await?;
        let account = accounts::held(&mut change, &before.account_id).await?;
        if account.disabled || account.password_hash != before.password_hash {
            return Ok(None);
        }
        if account.must_change_password && (account.one_time_used || account.one_time_until <= change.at) {
            return Err(Refusal::OneTimePasswordEnded);
        }
        if account.must_change_password {
            let used = sqlx::query("UPDATE accounts SET must_change_password = $2 WHERE account_id = $1");
            used.bind(&account.account_id).bind(ONE_TIME_USED).execute(&mut *change.tx).await?;
        }
        know(&mut change, &account.account_id, address).await?;
        let Account { customer_id, name, .. } = &account;
        change.audit(Actor::session(name).did(customer_id, SIGN_IN, name, ""));
        let session = self.open_session_of(&mut change, account, from).await?;
        self.told(change.keep().await?);
        Ok(Some(session))
    }

    /// Writes a wrong password down, after the answer.
    async fn write_down(self, name: SignInName, account: Option<Account>, right: bool, is_last: bool) {
        let entry = match account {
            Some(Account { customer_id, name, disabled, .. }) => {
                let why = match (disabled, right) {
                    (true, _) => "the account is disabled",
                    (false, true) => "the right password, where the name is not known and has to wait",
                    (false, false) => "wrong password",
                };
                Ok(Actor::stranger_to(&name).failed(&customer_id, SIGN_IN, &name, why))
            }
            None => self.of_nobody(&name).await,
        };
        match entry {
            Ok(entry) => {
                let Entry { customer_id, target, .. } = entry.clone();
                self.attempted(entry).await;
                if is_last {
                    let detail =
                        format!("{} wrong passwords within a day; no new address signs in", throttle::A_DAY);
                    let entry = Actor::backend().did(&customer_id, "account.limit", &target, detail);
                    self.write(vec![entry]).await;
                }
            }
            Err(error) => tracing::error!("a sign-in that failed was not written to the audit log: {error}"),
        }
    }

    /// The entry about a name nobody has, which may be a password that was typed into the wrong field.
    async fn of_nobody(&self, name: &SignInName) -> Result<Entry, Refusal> {
        let shown = self.sign_in_key().await?.shown(name);
        let own = self.own_customer().await?;
        Ok(Actor::nobody().failed(&own, SIGN_IN, &shown, "no account has this name"))
    }

    /// Ends the session of the call.
    pub(super) async fn sign_out_of(&self, caller: &Caller) -> Result<(), Refusal> {
        // An API credential has none.
        let Some(session) = &caller.session else { return Ok(()) };
        // Each took a sign-in, which was counted; nobody is kept from ending one.
        let _turn = self.turns.wait(Whose::One(caller.comes_with())).await?;
        let _ends = self.turns.wait(Whose::Ends(&caller.customer_id)).await?;
        let mut change = Change::begin(self).await?;
        change.admit(caller, "").await?;
        let delete = sqlx::query("DELETE FROM sessions WHERE token_sha256 = $1");
        delete.bind(session.clone()).execute(&mut *change.tx).await?;
        change.audit(caller.did(&caller.customer_id, "account.sign_out", &caller.name, ""));
        self.told(change.keep().await?);
        Ok(())
    }

    async fn sign_in_key(&self) -> Result<&Key, Refusal> {
        self.sign_in_key.0.get_or_try_init(|| Key::load(&self.store)).await
    }

    /// Forgets what failed of an account whose password was replaced within `change`, on all replicas.
    pub(super) async fn forgive(&self, change: &mut Change, account: &Account) -> Result<(), Refusal> {
        let name = SignInName::typed(&format!("{}@{}", account.name, account.customer));
        let Attempt { name, .. } = self.sign_in_key().await?.attempt(&name, &Address::default());
        let none = sqlx::query("UPDATE sign_in_failures SET failures = 0, updated_at = $2 WHERE name = $1");
        none.bind(name.clone()).bind(nanos(change.at)).execute(&mut *change.tx).await?;
        self.throttle.forgive(&name);
        Ok(())
    }
}

/// From now on the account is known at `address`.
async fn know(change: &mut Change, account_id: &str, address: &str) -> Result<(), Refusal> {
    let known = sqlx::query(
        "INSERT INTO sign_in_addresses (account_id, address, last_at) VALUES ($1, $2, $3)
         ON CONFLICT (account_id, address) DO UPDATE SET last_at = $3",
    );
    let known = known.bind(account_id.to_owned()).bind(address.to_owned()).bind(nanos(change.at));
    known.execute(&mut *change.tx).await?;
    let forgotten = sqlx::query(
        "DELETE FROM sign_in_addresses WHERE account_id = $1 AND (last_at < $2 OR address NOT IN (
             SELECT address FROM sign_in_addresses WHERE account_id = $1 ORDER BY last_at DESC, address LIMIT $3))",
    );
    let forgotten = forgotten.bind(account_id.to_owned()).bind(nanos(change.at - KNOWN_FOR)).bind(ADDRESSES);
    forgotten.execute(&mut *change.tx).await?;
    Ok(())
}

fn too_soon(wait: Duration) -> Refusal {
    Refusal::TooSoon(wait)
}

//! Signing in and out, and changing one's own password.
//!
//! Not here: how passwords are hashed (see `passwords`), and what a session opens (see `caller`).

use sqlx::Row as _;

use super::{
    Backend,
    accounts::{self, Account, backend_entry},
    audit::refused,
    caller::{self, Caller},
    change::{Change, Entry},
    issue::entry,
    passwords,
    refusal::Refusal,
    store::{StoreError, instant, nanos},
};
use crate::{
    domain::{Instant, Span},
    rfc3339, sha256,
};

/// An open session.
pub(super) struct Session {
    pub(super) token: String,
    pub(super) expires_at: Instant,
    pub(super) account: Account,
}

const SIGN_IN: &str = "account.sign_in";
const CHANGE_PASSWORD: &str = "account.change_password";

/// What the old password of a change was.
enum Old {
    /// Right: the hash of the new one.
    Right(String),
    /// Changed to the new one before, by the same call, whose answer was lost.
    Changed,
    Wrong,
}

impl Backend {
    /// Opens a session. Wrong passwords are counted, and too many in a row lock the account for a while.
    pub(super) async fn open_session(&self, name: &str, password: &str) -> Result<Session, Refusal> {
        // Nobody has a longer name or password; what waits to be hashed is kept in memory until then.
        if passwords::LONGEST_BYTES < name.len().max(password.len()) {
            self.attempted_by_nobody(SIGN_IN, name, "nobody has so long a name or password").await;
            return Err(Refusal::WrongPassword);
        }
        let known = accounts::by_name(self.store.reads(), name).await?;
        let now = self.clock.now();
        // Of a lock the log has heard when it began: who is kept out writes nothing there.
        if let Some(locked) = known.as_ref().and_then(|account| locked(account, now)) {
            return Err(locked);
        }
        let hash = known.as_ref().map(|account| account.password_hash.clone());
        let right = self.passwords.verify(password, hash).await?;
        let Some(before) = known else {
            self.attempted_by_nobody(SIGN_IN, name, "no account has this name").await;
            return Err(Refusal::WrongPassword);
        };
        let mut change = Change::begin(self).await?;
        // Guesses made at once are looked at one after the other: the lock holds for those that came before it, too. And
        // a password that was replaced while it was looked at opens nothing any more.
        let account = accounts::held(&mut change, &before.name).await?;
        if let Some(locked) = locked(&account, change.at) {
            return Err(locked);
        }
        let tried = if right && !account.disabled && account.password_hash == before.password_hash {
            Ok(self.opened(&mut change, account).await?)
        } else {
            Err(self.wrong(&mut change, &account, SIGN_IN).await?)
        };
        // What came of it is kept either way.
        self.told(change.keep().await?);
        tried
    }

    async fn opened(&self, change: &mut Change, account: Account) -> Result<Session, Refusal> {
        let secret = caller::secret()?;
        let expires_at = change.at + self.settings.session_time.into();
        let insert =
            sqlx::query("INSERT INTO sessions (token_sha256, account_id, expires_at) VALUES ($1, $2, $3)");
        let insert = insert.bind(sha256::hex(secret.as_bytes())).bind(&account.account_id);
        insert.bind(nanos(expires_at)).execute(&mut *change.tx).await?;
        let cleared = sqlx::query("UPDATE accounts SET failed_sign_ins = 0 WHERE account_id = $1");
        cleared.bind(&account.account_id).execute(&mut *change.tx).await?;
        change.audit(Entry {
            customer_id: account.customer_id.clone(),
            actor: account.name.clone(),
            action: SIGN_IN,
            target: account.name.clone(),
            done: true,
            detail: String::new(),
        });
        Ok(Session { token: format!("esas_{secret}"), expires_at, account })
    }

    /// Counts a wrong password within `change`.
    async fn wrong(
        &self,
        change: &mut Change,
        account: &Account,
        action: &'static str,
    ) -> Result<Refusal, Refusal> {
        let Account { account_id, customer_id, name, .. } = account;
        let attempts = self.settings.sign_in_attempts;
        // Counted in the database, so that tries at several replicas add up.
        let update = sqlx::query(
            "UPDATE accounts SET
                 locked_until = CASE WHEN failed_sign_ins + 1 >= $2 THEN $3 ELSE locked_until END,
                 failed_sign_ins = CASE WHEN failed_sign_ins + 1 >= $2 THEN 0 ELSE failed_sign_ins + 1 END
             WHERE account_id = $1 RETURNING locked_until",
        );
        let until = nanos(change.at + Span::from(self.settings.sign_in_lock));
        let update = update.bind(account_id).bind(i64::from(attempts)).bind(until);
        let locked_until: i64 = update.fetch_one(&mut *change.tx).await?.try_get("locked_until")?;
        let why = if account.disabled { "the account is disabled" } else { "wrong password" };
        change.audit(refused(customer_id, name, action, name, why));
        if nanos(change.at) < locked_until {
            let until = rfc3339::format(instant(locked_until));
            let detail = format!("{attempts} wrong passwords in a row; nobody signs in before {until}");
            change.audit(backend_entry(customer_id, "account.lock", name, detail));
        }
        Ok(Refusal::WrongPassword)
    }

    /// Ends the session of the call.
    pub(super) async fn end_session(&self, caller: &Caller) -> Result<(), Refusal> {
        let mut change = Change::begin(self).await?;
        if let Some(session) = &caller.session {
            change.admit(caller, "").await?;
            let delete = sqlx::query("DELETE FROM sessions WHERE token_sha256 = $1");
            delete.bind(session.clone()).execute(&mut *change.tx).await?;
            change.audit(entry(caller, &caller.customer_id, "account.sign_out", &caller.name, ""));
        }
        self.told(change.keep().await?);
        Ok(())
    }

    /// Changes the password of the caller; its other sessions end.
    pub(super) async fn change_password(&self, caller: &Caller, old: &str, new: &str) -> Result<(), Refusal> {
        passwords::check_new(new)?;
        if passwords::LONGEST_BYTES < old.len() {
            let Caller { customer_id, name, .. } = caller;
            let why = "nobody has so long a password";
            self.attempted(refused(customer_id, name, CHANGE_PASSWORD, name, why)).await;
            return Err(Refusal::WrongPassword);
        }
        if old == new {
            return Err(Refusal::unreadable("new_password", "the same as before; choose another"));
        }
        loop {
            let before = accounts::by_name(self.store.reads(), &caller.name).await?;
            let before = before.ok_or(Refusal::WrongPassword)?;
            if let Some(locked) = locked(&before, self.clock.now()) {
                let Account { customer_id, name, .. } = &before;
                self.attempted(refused(customer_id, name, CHANGE_PASSWORD, name, &locked.to_string())).await;
                return Err(locked);
            }
            let tried = self.look_at(&before, old, new).await?;
            let mut change = Change::begin(self).await?;
            let account = accounts::held_by(&mut change, caller).await?;
            // Looked at once more if it was locked or replaced meanwhile, as by guesses made at once.
            if locked(&account, change.at).is_some() || account.password_hash != before.password_hash {
                continue;
            }
            let done = match tried {
                Old::Right(hash) => {
                    choose(&mut change, caller, hash).await?;
                    Ok(())
                }
                Old::Changed => Ok(()),
                Old::Wrong => Err(self.wrong(&mut change, &account, CHANGE_PASSWORD).await?),
            };
            self.told(change.keep().await?);
            return done;
        }
    }

    async fn look_at(&self, account: &Account, old: &str, new: &str) -> Result<Old, Refusal> {
        let hash = || Some(account.password_hash.clone());
        if self.passwords.verify(old, hash()).await? {
            return Ok(Old::Right(self.passwords.hash(new).await?));
        }
        // A one-time password was chosen by nobody.
        let is_chosen = !account.must_change_password;
        Ok(if is_chosen && self.passwords.verify(new, hash()).await? { Old::Changed } else { Old::Wrong })
    }
}

/// Keeps the password that the caller has chosen.
async fn choose(change: &mut Change, caller: &Caller, hash: String) -> Result<(), StoreError> {
    let update = sqlx::query(
        "UPDATE accounts SET password_hash = $2, must_change_password = 0, failed_sign_ins = 0
         WHERE account_id = $1",
    );
    update.bind(&caller.account_id).bind(hash).execute(&mut *change.tx).await?;
    let sessions = sqlx::query("DELETE FROM sessions WHERE account_id = $1 AND token_sha256 <> $2");
    let own = caller.session.clone().unwrap_or_default();
    sessions.bind(&caller.account_id).bind(own).execute(&mut *change.tx).await?;
    change.audit(entry(caller, &caller.customer_id, CHANGE_PASSWORD, &caller.name, ""));
    Ok(())
}

/// Why nobody signs in now, whatever the password.
fn locked(account: &Account, now: Instant) -> Option<Refusal> {
    let left = u64::try_from((account.locked_until - now).nanos()).ok().filter(|left| 0 < *left)?;
    // Whole seconds read better.
    Some(Refusal::Locked(std::time::Duration::from_secs(left.div_ceil(1_000_000_000))))
}

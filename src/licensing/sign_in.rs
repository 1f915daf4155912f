//! Signing in and out, and changing one's own password.
//!
//! Not here: how passwords are hashed (see `passwords`), and what a session opens (see `caller`).

use super::{
    Backend,
    accounts::{self, Account},
    caller::{self, Caller},
    change::{Change, Entry},
    issue::entry,
    passwords,
    refusal::Refusal,
    store::nanos,
};
use crate::{
    domain::{Instant, Span},
    sha256,
};

/// An open session.
pub(super) struct Session {
    pub(super) token: String,
    pub(super) expires_at: Instant,
    pub(super) account: Account,
}

/// Said in the audit log of a try that came too early.
const LOCKED: &str = "locked";

/// What came of a try, which is kept either way.
enum Tried {
    Opened(Session),
    Refused(Refusal),
}

impl Backend {
    /// Opens a session. Wrong passwords are counted, and too many in a row lock the account for a while.
    pub(super) async fn open_session(&self, name: &str, password: &str) -> Result<Session, Refusal> {
        // Nobody has a longer name or password; what waits to be hashed is kept in memory until then.
        if passwords::LONGEST_BYTES < name.len().max(password.len()) {
            return Err(Refusal::WrongPassword);
        }
        let known = accounts::by_name(self.store.reads(), name).await?;
        let now = self.clock.now();
        if let Some(account) = &known
            && let Some(locked) = locked(account, now)
        {
            self.refused(&account.customer_id, &account.name, "account.sign_in", &account.name, LOCKED).await;
            return Err(locked);
        }
        let hash = known.as_ref().map(|account| account.password_hash.clone());
        let right = self.passwords.verify(password, hash).await?;
        let Some(before) = known else { return Err(Refusal::WrongPassword) };
        let mut change = Change::begin(&self.store, now).await?;
        // Guesses made at once are looked at one after the other: the lock holds for those that came before it, too. And
        // a password that was replaced while it was looked at opens nothing any more.
        let account = accounts::held(&mut change, &before.name).await?;
        let tried = if let Some(locked) = locked(&account, now) {
            change.audit(sign_in_entry(&account, false, LOCKED));
            Tried::Refused(locked)
        } else if right && !account.disabled && account.password_hash == before.password_hash {
            Tried::Opened(self.opened(&mut change, account).await?)
        } else {
            Tried::Refused(self.wrong(&mut change, &account).await?)
        };
        self.told(change.keep().await?);
        match tried {
            Tried::Opened(session) => Ok(session),
            Tried::Refused(refusal) => Err(refusal),
        }
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
        change.audit(sign_in_entry(&account, true, ""));
        Ok(Session { token: format!("esas_{secret}"), expires_at, account })
    }

    async fn wrong(&self, change: &mut Change, account: &Account) -> Result<Refusal, Refusal> {
        let attempts = self.settings.sign_in_attempts;
        // Counted in the database, so that tries at several replicas add up.
        let update = sqlx::query(
            "UPDATE accounts SET
                 locked_until = CASE WHEN failed_sign_ins + 1 >= $2 THEN $3 ELSE locked_until END,
                 failed_sign_ins = CASE WHEN failed_sign_ins + 1 >= $2 THEN 0 ELSE failed_sign_ins + 1 END
             WHERE account_id = $1",
        );
        let until = change.at + Span::from(self.settings.sign_in_lock);
        update
            .bind(&account.account_id)
            .bind(i64::from(attempts))
            .bind(nanos(until))
            .execute(&mut *change.tx)
            .await?;
        let why = if account.disabled { "the account is disabled" } else { "wrong password" };
        change.audit(sign_in_entry(account, false, why));
        Ok(Refusal::WrongPassword)
    }

    /// Ends the session of the call.
    pub(super) async fn end_session(&self, caller: &Caller) -> Result<(), Refusal> {
        let mut change = Change::begin(&self.store, self.clock.now()).await?;
        if let Some(session) = &caller.session {
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
            return Err(Refusal::WrongPassword);
        }
        if old == new {
            return Err(Refusal::unreadable("new_password", "the same as before; choose another"));
        }
        let account = accounts::by_name(self.store.reads(), &caller.name).await?;
        let Some(account) = account else { return Err(Refusal::WrongPassword) };
        if let Some(locked) = locked(&account, self.clock.now()) {
            return Err(locked);
        }
        if !self.passwords.verify(old, Some(account.password_hash.clone())).await? {
            let mut change = Change::begin(&self.store, self.clock.now()).await?;
            let refusal = self.wrong(&mut change, &account).await?;
            self.told(change.keep().await?);
            return Err(refusal);
        }
        let hash = self.passwords.hash(new).await?;
        let mut change = Change::begin(&self.store, self.clock.now()).await?;
        let update = sqlx::query(
            "UPDATE accounts SET password_hash = $2, must_change_password = 0, failed_sign_ins = 0
             WHERE account_id = $1 AND password_hash = $3",
        );
        let update = update.bind(&account.account_id).bind(hash).bind(&account.password_hash);
        if update.execute(&mut *change.tx).await?.rows_affected() == 0 {
            // Somebody else changed it in between: the old one is not right any more.
            return Err(Refusal::WrongPassword);
        }
        let sessions = sqlx::query("DELETE FROM sessions WHERE account_id = $1 AND token_sha256 <> $2");
        let own = caller.session.clone().unwrap_or_default();
        sessions.bind(&account.account_id).bind(own).execute(&mut *change.tx).await?;
        change.audit(entry(caller, &caller.customer_id, "account.change_password", &caller.name, ""));
        self.told(change.keep().await?);
        Ok(())
    }
}

/// Why nobody signs in now, whatever the password.
fn locked(account: &Account, now: Instant) -> Option<Refusal> {
    let left = u64::try_from((account.locked_until - now).nanos()).ok().filter(|left| 0 < *left)?;
    // Whole seconds read better.
    Some(Refusal::Locked(std::time::Duration::from_secs(left.div_ceil(1_000_000_000))))
}

fn sign_in_entry(account: &Account, done: bool, detail: &str) -> Entry {
    Entry {
        customer_id: account.customer_id.clone(),
        actor: account.name.clone(),
        action: "account.sign_in",
        target: account.name.clone(),
        done,
        detail: detail.to_owned(),
    }
}

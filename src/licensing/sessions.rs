//! Sessions: what signing in opens, until it is ended, replaced by newer ones, idle for long, or too old.
//!
//! Not here: who may open one (see `sign_in`), and what it opens (see `caller`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use sqlx::{Row as _, any::AnyRow};
use uuid::Uuid;

use super::{
    Backend,
    accounts::Account,
    caller::{Caller, Found},
    change::Change,
    refusal::Refusal,
    store::{StoreError, instant, nanos, sought},
    token,
    turns::Whose,
    wire,
};
use crate::{
    domain::{Instant, Span},
    proto::licensing as api,
    sha256,
};

/// An open session.
pub(super) struct Session {
    pub(super) token: String,
    pub(super) expires_at: Instant,
    pub(super) account: Account,
}

/// Sessions of one account at a time.
const MOST: i64 = 16;

/// That a session was used is written down once in this part of the time it may be idle.
const STEPS: i128 = 16;

const USED: &str = "UPDATE sessions SET last_used_at = $2 WHERE token_sha256 = $1 AND last_used_at < $2";

/// When sessions were used last, by the hash of their token, as far as that is not written down.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<HashMap<String, Instant>>);

/// Uses remembered before those are forgotten that are old enough to be written down at the next one.
const REMEMBERED: usize = 10_000;

impl Uses {
    fn note(&self, token_sha256: &str, now: Instant, step: Span) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if REMEMBERED < uses.len() {
            uses.retain(|_, at| now - *at < step);
        }
        uses.insert(token_sha256.to_owned(), now);
    }

    fn of(&self, token_sha256: &str) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token_sha256).copied()
    }
}

impl Backend {
    /// Opens a session within `change`; of too many the one that was used least lately ends.
    pub(super) async fn open_session_of(
        &self,
        change: &mut Change,
        account: Account,
        address: &str,
    ) -> Result<Session, Refusal> {
        let secret = token::secret()?;
        let expires_at = change.at + self.settings.session_time.into();
        let insert = sqlx::query(
            "INSERT INTO sessions (token_sha256, account_id, expires_at, session_id, created_at, last_used_at, address)
             VALUES ($1, $2, $3, $4, $5, $5, $6)",
        );
        let insert =
            insert.bind(sha256::hex(secret.as_bytes())).bind(&account.account_id).bind(nanos(expires_at));
        let insert = insert.bind(Uuid::now_v7().simple().to_string()).bind(nanos(change.at));
        insert.bind(address.to_owned()).execute(&mut *change.tx).await?;
        self.write_uses(change, &account.account_id).await?;
        let (now, used_after) = self.uses_at(change.at);
        let ended = sqlx::query(
            "DELETE FROM sessions WHERE account_id = $1 AND (expires_at <= $2 OR last_used_at <= $3
                 OR session_id NOT IN (SELECT session_id FROM sessions WHERE account_id = $1
                     ORDER BY last_used_at DESC, session_id DESC LIMIT $4))",
        );
        let ended = ended.bind(&account.account_id).bind(nanos(now)).bind(nanos(used_after));
        ended.bind(MOST).execute(&mut *change.tx).await?;
        Ok(Session { token: format!("esas_{secret}"), expires_at, account })
    }

    /// Writes down when the sessions of an account were used last, so that none ends that is in use.
    async fn write_uses(&self, change: &mut Change, account_id: &str) -> Result<(), StoreError> {
        let sessions = sqlx::query("SELECT token_sha256 FROM sessions WHERE account_id = $1");
        for row in sessions.bind(account_id.to_owned()).fetch_all(&mut *change.tx).await? {
            let token_sha256: String = row.try_get("token_sha256")?;
            let Some(at) = self.uses.of(&token_sha256) else { continue };
            let used = sqlx::query(USED).bind(token_sha256).bind(nanos(at));
            used.execute(&mut *change.tx).await?;
        }
        Ok(())
    }

    /// A session that opens something now ends after the first of these instants, and was used last after the second.
    pub(super) fn last_uses(&self) -> (Instant, Instant) {
        self.uses_at(self.clock.now())
    }

    fn uses_at(&self, now: Instant) -> (Instant, Instant) {
        (now, now - Span::from(self.settings.session_idle))
    }

    /// Writes down that a session was used, now and then, beside the call.
    pub(super) async fn used(&self, token_sha256: &str, found: Option<&Found>) {
        let now = self.clock.now();
        let step = Span::from_nanos(Span::from(self.settings.session_idle).nanos() / STEPS);
        let Some(found) = found else { return };
        self.uses.note(token_sha256, now, step);
        if now - found.used_at < step {
            return;
        }
        let (store, token_sha256) = (self.store.clone(), token_sha256.to_owned());
        tokio::spawn(async move {
            let written = async {
                let mut tx = store.begin().await?;
                let used = sqlx::query(USED);
                used.bind(token_sha256).bind(nanos(now)).execute(&mut *tx).await?;
                Ok::<_, StoreError>(tx.commit().await?)
            };
            if let Err(error) = written.await {
                tracing::debug!("that a session was used was not written down: {error}");
            }
        });
    }

    /// Open sessions of the caller, the one used last first.
    pub(super) async fn sessions(&self, caller: &Caller) -> Result<Vec<api::Session>, Refusal> {
        let own = caller.must_be_session()?;
        let (now, used_after) = self.last_uses();
        let rows = sqlx::query(
            "SELECT session_id, token_sha256, created_at, last_used_at, expires_at, address FROM sessions
             WHERE account_id = $1 AND $2 < expires_at AND $3 < last_used_at
             ORDER BY last_used_at DESC, session_id DESC",
        );
        let rows = rows.bind(&caller.account_id).bind(nanos(now)).bind(nanos(used_after));
        let rows = rows.fetch_all(self.store.reads()).await?;
        Ok(rows.iter().map(|row| read(row, own)).collect::<Result<_, StoreError>>()?)
    }

    /// Ends a session of the caller by its ID.
    pub(super) async fn end_session_of(&self, caller: &Caller, session_id: &str) -> Result<(), Refusal> {
        caller.must_be_session()?;
        let session_id = sought(session_id);
        // Ending is never too much, and waits for nothing but other ends; where there is none to end, for none.
        let _turn = self.turns.wait(Whose::One(caller.comes_with())).await?;
        let is_open =
            sqlx::query("SELECT 1 AS found FROM sessions WHERE account_id = $1 AND session_id = $2");
        let is_open = is_open.bind(&caller.account_id).bind(&session_id);
        let reading = self.turn_of(caller).await?;
        if is_open.fetch_optional(self.store.reads()).await?.is_none() {
            return Ok(());
        }
        drop(reading);
        let _ends = self.turns.wait(Whose::Ends(&caller.customer_id)).await?;
        let mut change = Change::begin(self).await?;
        change.admit(caller, "").await?;
        let end = sqlx::query("DELETE FROM sessions WHERE account_id = $1 AND session_id = $2");
        let end = end.bind(&caller.account_id).bind(&session_id).execute(&mut *change.tx).await?;
        if end.rows_affected() == 0 {
            return Ok(());
        }
        change.audit(caller.did(&caller.customer_id, "account.end_session", &caller.name, session_id));
        self.told(change.keep().await?);
        Ok(())
    }
}

fn read(row: &AnyRow, own: &str) -> Result<api::Session, StoreError> {
    let at = |column: &str| row.try_get(column).map(|at| wire::timestamp(instant(at)));
    Ok(api::Session {
        session_id: row.try_get("session_id")?,
        created_at: at("created_at")?,
        last_used_at: at("last_used_at")?,
        expires_at: at("expires_at")?,
        address: row.try_get("address")?,
        current: row.try_get::<String, _>("token_sha256")? == own,
    })
}

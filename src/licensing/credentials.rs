//! API credentials: what programs sign in with, in place of a password.
//!
//! Not here: what one opens (see `caller`).

use sqlx::{Row as _, any::AnyRow};
use uuid::Uuid;

use super::{
    Backend,
    caller::Caller,
    change::Change,
    refusal::Refusal,
    scopes::Scopes,
    store::{StoreError, instant, nanos, sought},
    token, wire,
};
use crate::{
    domain::{Instant, Span},
    proto::licensing::ApiCredential,
    sha256,
};

const SELECT: &str =
    "SELECT credential_id, name, created_at, revoked_at, scopes, expires_at FROM api_credentials
     WHERE account_id = $1 AND ";

/// API credentials of an account that open something.
const MOST: i64 = 100;

/// And that ended or were revoked: of more than these the oldest are forgotten, and all once they did so long ago.
const MOST_ENDED: i64 = 100;
const ENDED_KEPT: Span = Span::days(90);

/// How long one lasts that was made without an end.
const A_YEAR: Span = Span::days(365);

/// A credential to make.
pub(super) struct NewCredential {
    pub(super) name: String,
    pub(super) scopes: Scopes,
    pub(super) expires_at: Option<Instant>,
}

impl Backend {
    /// Makes a credential of the caller within `change`; it, and its token. A credential makes none: one that leaked would
    /// otherwise outlive its revocation.
    pub(super) async fn make_credential(
        &self,
        change: &mut Change,
        caller: &Caller,
        new: &NewCredential,
    ) -> Result<(ApiCredential, String), Refusal> {
        caller.must_be_session()?;
        let NewCredential { name, scopes, expires_at } = new;
        let expires_at = expires_at.unwrap_or(change.at + A_YEAR);
        if expires_at <= change.at {
            return Err(Refusal::unreadable("expires_at", "it is past; name an instant to come"));
        }
        make_room(change, &caller.account_id).await?;
        let (id, secret) = (Uuid::now_v7().simple().to_string(), token::secret()?);
        let insert = sqlx::query(
            "INSERT INTO api_credentials (credential_id, account_id, name, secret_sha256, created_at, scopes, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        );
        let insert = insert.bind(&id).bind(&caller.account_id).bind(name.to_owned());
        let insert = insert.bind(sha256::hex(secret.as_bytes())).bind(nanos(change.at));
        let insert = insert.bind(scopes.bits()).bind(nanos(expires_at));
        insert.execute(&mut *change.tx).await?;
        change.audit(caller.did(&caller.customer_id, "credential.create", &id, name.as_str()));
        let token = format!("esac_{id}_{secret}");
        Ok((own(change, caller, &id).await?, token))
    }

    /// Revokes a credential of the caller within `change`.
    pub(super) async fn revoke_credential(
        &self,
        change: &mut Change,
        caller: &Caller,
        id: &str,
    ) -> Result<ApiCredential, Refusal> {
        let found = own(change, caller, id).await?;
        let id = found.credential_id.clone();
        if !caller.may_revoke(&id) {
            return Err(Refusal::NotAllowed(
                "an API credential revokes itself alone; sign in to revoke others",
            ));
        }
        // What changes nothing fills no log.
        if found.revoked_at.is_some() {
            return Ok(found);
        }
        let update = sqlx::query(
            "UPDATE api_credentials SET revoked_at = COALESCE(revoked_at, $2) WHERE credential_id = $1",
        );
        let update = update.bind(&id).bind(nanos(change.at)).execute(&mut *change.tx).await?;
        if update.rows_affected() != 1 {
            return Err(Refusal::NotFound { what: "API credential", id });
        }
        change.audit(caller.did(&caller.customer_id, "credential.revoke", &id, ""));
        own(change, caller, &id).await
    }

    /// Credentials of the caller after `after`.
    pub(super) async fn credentials(
        &self,
        caller: &Caller,
        after: &str,
        most: i64,
    ) -> Result<Vec<ApiCredential>, StoreError> {
        let sql = format!("{SELECT} $2 < credential_id ORDER BY credential_id LIMIT $3");
        let rows =
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&caller.account_id).bind(after.to_owned()).bind(most);
        rows.fetch_all(self.store.reads()).await?.iter().map(read).collect()
    }
}

/// Forgets credentials of an account that opened nothing for long; refused while too many open something.
async fn make_room(change: &mut Change, account_id: &str) -> Result<(), Refusal> {
    let open = sqlx::query(
        "SELECT COUNT(*) AS open FROM api_credentials WHERE account_id = $1 AND revoked_at IS NULL AND $2 < expires_at",
    );
    let open = open.bind(account_id.to_owned()).bind(nanos(change.at)).fetch_one(&mut *change.tx).await?;
    if MOST <= open.try_get("open")? {
        let what = format!(
            "an account has {MOST} API credentials at the most; revoke one that is not used any more"
        );
        return Err(Refusal::TooMany(what));
    }
    let ended = "account_id = $1 AND (revoked_at IS NOT NULL OR expires_at <= $2)";
    let forget = sqlx::AssertSqlSafe(format!(
        "DELETE FROM api_credentials WHERE {ended} AND (
             COALESCE(revoked_at, expires_at) <= $3 OR credential_id NOT IN (
                 SELECT credential_id FROM api_credentials WHERE {ended}
                 ORDER BY COALESCE(revoked_at, expires_at) DESC, credential_id DESC LIMIT $4))"
    ));
    let forget = sqlx::query(forget).bind(account_id.to_owned()).bind(nanos(change.at));
    forget.bind(nanos(change.at - ENDED_KEPT)).bind(MOST_ENDED).execute(&mut *change.tx).await?;
    Ok(())
}

async fn own(change: &mut Change, caller: &Caller, id: &str) -> Result<ApiCredential, Refusal> {
    let sql = sqlx::AssertSqlSafe(format!("{SELECT} credential_id = $2"));
    let row = sqlx::query(sql).bind(&caller.account_id).bind(sought(id));
    let row = row.fetch_optional(&mut *change.tx).await?;
    Ok(read(&row.ok_or_else(|| Refusal::NotFound { what: "API credential", id: id.to_owned() })?)?)
}

fn read(row: &AnyRow) -> Result<ApiCredential, StoreError> {
    let revoked_at: Option<i64> = row.try_get("revoked_at")?;
    let expires_at: i64 = row.try_get("expires_at")?;
    Ok(ApiCredential {
        credential_id: row.try_get("credential_id")?,
        name: row.try_get("name")?,
        created_at: wire::timestamp(instant(row.try_get("created_at")?)),
        revoked_at: revoked_at.and_then(|at| wire::timestamp(instant(at))),
        scopes: Scopes::kept(row.try_get("scopes")?).told(),
        expires_at: Some(expires_at).filter(|at| *at != i64::MAX).and_then(|at| wire::timestamp(instant(at))),
    })
}

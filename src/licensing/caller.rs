//! Who is calling: a session, an API credential or a unit, by the bearer token of the call.
//!
//! Not here: what a token looks like (see `token`), and passwords (see `accounts`).

use sqlx::{Any, Executor, Row as _, any::AnyRow};
use tonic::Request;

use super::{
    Backend,
    accounts::{LONGEST_BYTES, SignInName},
    actor::Actor,
    change::Change,
    passwords::Lane,
    reading::Reading,
    refusal::Refusal,
    scopes::Scopes,
    sign_in::Address,
    store::{StoreError, instant, nanos, sought},
    token::{Token, token},
    turns::Asks,
};
use crate::{
    domain::{Instant, unit::Deactivating},
    proto::licensing::{AccountRole, ApiScope},
    sha256,
};

/// The account a call is made with.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) account_id: String,
    pub(super) customer_id: String,
    pub(super) customer: String,
    pub(super) name: String,
    pub(super) role: AccountRole,
    pub(super) may_issue: bool,
    /// Hash of the session's token; nothing for an API credential.
    pub(super) session: Option<String>,
    /// The session's ID, which is no secret; empty for an API credential.
    session_id: String,
    /// The API credential; nothing for a session.
    credential: Option<Credential>,
    must_change_password: bool,
}

/// The API credential a call is made with.
#[derive(Clone, Debug)]
struct Credential {
    id: String,
    secret_sha256: String,
    scopes: Scopes,
}

/// Said of a credential that opens nothing, whatever the cause.
pub(super) const UNKNOWN: &str =
    "the credential opens nothing: it is unknown, has ended or was revoked; sign in again";

impl Backend {
    /// The account of a call, which may do all that its role may.
    pub(super) async fn caller<T: Sync>(&self, request: &Request<T>) -> Result<Caller, Refusal> {
        Ok(self.caller_reading(request).await?.0)
    }

    /// The same, in its turn to read.
    pub(super) async fn caller_reading<T: Sync>(
        &self,
        request: &Request<T>,
    ) -> Result<(Caller, Reading), Refusal> {
        let (caller, reading) = self.any_caller_reading(request).await?;
        if !caller.must_change_password {
            return Ok((caller, reading));
        }
        drop(reading);
        let refusal = Refusal::PasswordChangeRequired;
        self.turned_away(&caller, &refusal.to_string()).await;
        Err(refusal)
    }

    /// The account of a call, even one that has to change its password first.
    pub(super) async fn any_caller<T: Sync>(&self, request: &Request<T>) -> Result<Caller, Refusal> {
        Ok(self.any_caller_reading(request).await?.0)
    }

    /// The same, in its turn to read.
    pub(super) async fn any_caller_reading<T: Sync>(
        &self,
        request: &Request<T>,
    ) -> Result<(Caller, Reading), Refusal> {
        let token = token(request.metadata())?;
        let token_sha256 = match token {
            Token::Session(secret) | Token::Credential { secret, .. } => sha256::hex(secret.as_bytes()),
            Token::Unit { .. } => {
                let refused = "this is a unit's credential; an account's is needed here";
                return Err(Refusal::Unauthenticated(refused));
            }
        };
        let address = Address::of(request);
        let reading = self.turn_to_look_up(Asks::Calls, &token_sha256, &address).await?;
        let found = match token {
            Token::Credential { id, .. } => {
                by_credential(self.store.reads(), id, &token_sha256, self.clock.now()).await?
            }
            Token::Session(_) | Token::Unit { .. } => {
                let found = by_session(self.store.reads(), &token_sha256, self.last_uses()).await?;
                self.used(&token_sha256, found.as_ref()).await;
                found
            }
        };
        if let Some(Found { caller, opens: true, .. }) = found {
            let reading = self.found_out(reading, Asks::Calls, &token_sha256, &caller.customer_id).await?;
            return Ok((caller, reading));
        }
        drop(reading);
        self.opens_nothing(&token_sha256);
        let Found { caller, .. } = found.ok_or(Refusal::Unauthenticated(UNKNOWN))?;
        if let Some(Credential { id, .. }) = &caller.credential {
            self.turned_away(&caller, &format!("API credential {id} was revoked or has ended")).await;
        }
        Err(Refusal::Unauthenticated(UNKNOWN))
    }

    /// The account of a call that reads, which an API credential has to be for, in its turn.
    pub(super) async fn reader<T: Sync>(
        &self,
        request: &Request<T>,
        scope: ApiScope,
    ) -> Result<(Caller, Reading), Refusal> {
        let (caller, reading) = self.caller_reading(request).await?;
        caller.must_be_for(scope)?;
        Ok((caller, reading))
    }

    /// Waits for the turn of an account to read.
    pub(super) async fn turn_of(&self, caller: &Caller) -> Result<Reading, Refusal> {
        self.turn_to_read(Asks::Calls, caller.token_sha256(), &caller.customer_id).await
    }

    /// Adds an entry about a call that was not looked at, whatever it asked for.
    async fn turned_away(&self, caller: &Caller, why: &str) {
        let entry = caller.failed(&caller.customer_id, "account.authenticate", &caller.name, why);
        self.attempted(entry).await;
    }
}

impl Change {
    /// Locks the account of the caller until this change is whole, and looks again whether it may call at all: while the
    /// call waited, its session may have ended, its credential been revoked, its account been disabled or come to have
    /// other rights. It is then refused as if it had come after that. `other` is an account of the same customer that the
    /// change is about, which is locked with it; empty when there is none.
    pub(super) async fn admit(&mut self, caller: &Caller, other: &str) -> Result<(), Refusal> {
        let lock = self.holding(
            "SELECT account_id FROM accounts
             WHERE account_id = $1 OR (customer_id = $2 AND sign_in_name IN ($3, $4, $5, $6, $7, $8)) ORDER BY account_id",
        );
        let lock = sqlx::query(lock).bind(&caller.account_id).bind(&caller.customer_id);
        let other = if LONGEST_BYTES < other.len() { "" } else { other };
        let other = SignInName::within(other, &caller.customer);
        let lock = other.keys().iter().fold(lock, |query, key| query.bind(sought(key)));
        lock.fetch_all(&mut *self.tx).await?;
        self.locked();
        let found = match (&caller.session, &caller.credential) {
            // Whether it was idle was looked at when the call came in.
            (Some(session), _) => by_session(&mut *self.tx, session, (self.at, Instant::BEGINNING)).await?,
            (None, Some(Credential { id, secret_sha256, .. })) => {
                by_credential(&mut *self.tx, id, secret_sha256, self.at).await?
            }
            (None, None) => None,
        };
        let now = found.filter(|found| found.opens).ok_or(Refusal::Unauthenticated(UNKNOWN))?.caller;
        if now.must_change_password && !caller.must_change_password {
            return Err(Refusal::PasswordChangeRequired);
        }
        if (now.role, now.may_issue) != (caller.role, caller.may_issue) {
            return Err(Refusal::NotAllowed("the rights of this account were changed meanwhile; call again"));
        }
        Ok(())
    }
}

/// Whose session or credential it is, and whether it opens anything.
pub(super) struct Found {
    caller: Caller,
    opens: bool,
    /// When a session was used before.
    pub(super) used_at: Instant,
}

/// The account of a session that has not ended, by the hash of its token: it ends after the first of these instants, and was
/// used last after the second.
async fn by_session<'e>(
    from: impl Executor<'e, Database = Any>,
    token_sha256: &str,
    (now, used_after): (Instant, Instant),
) -> Result<Option<Found>, StoreError> {
    let row = sqlx::query(
        "SELECT a.account_id, a.customer_id, c.name AS customer, a.name, a.role, a.may_issue, a.must_change_password,
             CASE WHEN a.disabled = 0 THEN 1 ELSE 0 END AS opens, s.last_used_at, s.session_id
         FROM sessions s JOIN accounts a ON a.account_id = s.account_id
         JOIN customers c ON c.customer_id = a.customer_id
         WHERE s.token_sha256 = $1 AND $2 < s.expires_at AND $3 < s.last_used_at",
    );
    let row = row.bind(token_sha256.to_owned()).bind(nanos(now)).bind(nanos(used_after));
    let Some(row) = row.fetch_optional(from).await? else { return Ok(None) };
    let used_at = instant(row.try_get("last_used_at")?);
    let mut found = found(&row, Some(token_sha256.to_owned()), None)?;
    found.caller.session_id = row.try_get("session_id")?;
    Ok(Some(Found { used_at, ..found }))
}

/// The account of an API credential, whether or not it was revoked, by its ID and the hash of its secret.
async fn by_credential<'e>(
    from: impl Executor<'e, Database = Any>,
    id: &str,
    secret_sha256: &str,
    now: Instant,
) -> Result<Option<Found>, StoreError> {
    let row = sqlx::query(
        "SELECT a.account_id, a.customer_id, own.name AS customer, a.name, a.role, a.may_issue,
             a.must_change_password, CASE WHEN c.revoked_at IS NULL AND $3 < c.expires_at AND a.disabled = 0 THEN 1 ELSE 0 END AS opens,
             c.scopes
         FROM api_credentials c JOIN accounts a ON a.account_id = c.account_id
         JOIN customers own ON own.customer_id = a.customer_id
         WHERE c.credential_id = $1 AND c.secret_sha256 = $2",
    );
    let row = row.bind(sought(id)).bind(secret_sha256.to_owned()).bind(nanos(now));
    let Some(row) = row.fetch_optional(from).await? else { return Ok(None) };
    let scopes = Scopes::kept(row.try_get("scopes")?);
    let credential = Credential { id: sought(id), secret_sha256: secret_sha256.to_owned(), scopes };
    found(&row, None, Some(credential)).map(Some)
}

impl Caller {
    /// Whoever activates by licence key: no account, which may do nothing.
    pub(super) fn nobody() -> Self {
        Self {
            account_id: String::new(),
            customer_id: String::new(),
            customer: String::new(),
            name: String::new(),
            role: AccountRole::SecurityAdmin,
            may_issue: false,
            session: None,
            session_id: String::new(),
            credential: None,
            must_change_password: false,
        }
    }

    /// The ID of its API credential, if it has not signed in.
    pub(super) fn credential_id(&self) -> Option<&str> {
        self.credential.as_ref().map(|credential| credential.id.as_str())
    }

    /// What sets it apart from others of the same account: its API credential, or its session.
    pub(super) fn comes_with(&self) -> &str {
        self.credential_id().or(self.session.as_deref()).unwrap_or(&self.account_id)
    }

    /// Where its passwords wait to be hashed.
    pub(super) fn lane(&self) -> Lane {
        Lane::Account { customer: self.customer_id.clone(), account: self.account_id.clone() }
    }

    /// The hash of its token's secret.
    fn token_sha256(&self) -> &str {
        let credential = self.credential.as_ref().map(|credential| credential.secret_sha256.as_str());
        credential.or(self.session.as_deref()).unwrap_or_default()
    }

    /// What requests of this caller are remembered under.
    pub(super) fn key(&self) -> &str {
        &self.account_id
    }

    /// Who it is in the audit log of a customer: another one has names of its own.
    pub(super) fn actor_within(&self, customer_id: &str) -> Actor {
        let Self { name, customer, .. } = self;
        let other = format!("{name}@{customer}");
        let name = if customer_id == self.customer_id { name } else { &other };
        match self.credential_id() {
            Some(id) => Actor::api_credential(name).with(id),
            None => Actor::session(name).with(&self.session_id),
        }
    }

    pub(super) fn is_owner(&self) -> bool {
        self.role == AccountRole::Owner
    }

    pub(super) fn must_be_owner(&self) -> Result<(), Refusal> {
        let refused = Refusal::NotAllowed("only an owner may do this; ask one of your customer's owners");
        if self.is_owner() { Ok(()) } else { Err(refused) }
    }

    pub(super) fn must_issue(&self) -> Result<(), Refusal> {
        let refused =
            Refusal::NotAllowed("this account may not issue licenses; ask the operator of this backend");
        if self.may_issue { Ok(()) } else { Err(refused) }
    }

    /// Whether it owns the licenses it sees, or issues them.
    pub(super) fn must_own_or_issue(&self) -> Result<(), Refusal> {
        let refused =
            "only an owner, or whoever issues licenses, may do this; ask one of your customer's owners";
        if self.is_owner() || self.may_issue { Ok(()) } else { Err(Refusal::NotAllowed(refused)) }
    }

    /// Whether the call is made with a session, or with an API credential for this.
    pub(super) fn must_be_for(&self, scope: ApiScope) -> Result<(), Refusal> {
        let refused =
            Refusal::NotAllowed("this API credential is not for this; make one with the scope it takes");
        let is_for = self.credential.as_ref().is_none_or(|credential| credential.scopes.contain(scope));
        if is_for { Ok(()) } else { Err(refused) }
    }

    /// Accounts, their sessions and passwords are not for API credentials: one that leaked would otherwise outlive its
    /// revocation through what it made.
    pub(super) fn must_be_session(&self) -> Result<&str, Refusal> {
        self.session
            .as_deref()
            .ok_or(Refusal::NotAllowed("this is not for an API credential; sign in and do it as yourself"))
    }

    /// Whether it calls with this API credential, or with a session.
    pub(super) fn may_revoke(&self, credential_id: &str) -> bool {
        self.credential.as_ref().is_none_or(|credential| credential.id == credential_id)
    }

    pub(super) fn deactivating(&self) -> Deactivating<'_> {
        if self.is_owner() { Deactivating::Owner } else { Deactivating::SecurityAdmin(&self.account_id) }
    }
}

fn found(row: &AnyRow, session: Option<String>, credential: Option<Credential>) -> Result<Found, StoreError> {
    let flag = |column: &str| row.try_get::<i64, _>(column).map(|flag| flag != 0);
    let caller = Caller {
        account_id: row.try_get("account_id")?,
        customer_id: row.try_get("customer_id")?,
        customer: row.try_get("customer")?,
        name: row.try_get("name")?,
        role: role(row.try_get("role")?),
        may_issue: flag("may_issue")?,
        must_change_password: flag("must_change_password")?,
        session,
        session_id: String::new(),
        credential,
    };
    Ok(Found { caller, opens: flag("opens")?, used_at: Instant::BEGINNING })
}

/// A role as it is kept: the number of the protocol. What is unknown may do the least.
pub(super) fn role(kept: i64) -> AccountRole {
    match i32::try_from(kept).ok().and_then(|role| AccountRole::try_from(role).ok()) {
        Some(AccountRole::Owner) => AccountRole::Owner,
        Some(AccountRole::SecurityAdmin | AccountRole::Unspecified) | None => AccountRole::SecurityAdmin,
    }
}

//! One change: what it does to the database, its entries in the audit log, and its answer, all of it or nothing.
//!
//! Rows are locked in one order, so that no two changes wait for each other: accounts by ID (the caller's, and the one it
//! changes: see `caller::admit`), then the request, then customers by ID, then subscriptions by ID. Licenses, delegations,
//! units and usage are changed only beneath their subscription. What was read before a row was locked is read again.
//! Not here: what is changed, and who may (see the rooms that change things).

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use prost::Message;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::{
    Backend,
    actor::Entry,
    refusal::{Refusal, shown},
    service::read,
    store::{Store, StoreError, Tx, nanos, placeholders},
};
use crate::{clock::Clock, domain::Instant, sha256};

/// A change that is being made.
pub(super) struct Change {
    /// Its transaction.
    pub(super) tx: Tx,
    /// Its instant: everything in it happens then. It is taken anew by `locked`.
    pub(super) at: Instant,
    clock: Arc<dyn Clock>,
    for_update: &'static str,
    notifies: bool,
    entries: Vec<Entry>,
    subscriptions: BTreeSet<String>,
    answers: Option<(String, String)>,
}

/// What was changed, once it is kept.
#[derive(Debug)]
#[must_use = "watchers have to be told"]
pub(super) struct Changed(pub(super) BTreeSet<String>);

/// Bytes of the detail of an entry: however much somebody asks for, the log can be read.
pub(super) const LONGEST_DETAIL: usize = 1_024;

/// Bytes of an entry beside its target and detail, with what indexes hold of it, about.
const ENTRY: usize = 300;

/// Rows of the audit log in one statement.
const ROWS: usize = 500;

impl Change {
    pub(super) async fn begin(backend: &Backend) -> Result<Self, StoreError> {
        // SQLite has locked everything once this returns.
        Ok(Self::within(backend, backend.store.begin().await?))
    }

    /// The same for a change of a unit, or with a license key.
    pub(super) async fn begin_of_unit(backend: &Backend) -> Result<Self, StoreError> {
        Ok(Self::within(backend, backend.store.begin_of_unit().await?))
    }

    fn within(Backend { store, clock, .. }: &Backend, tx: Tx) -> Self {
        Self {
            tx,
            at: clock.now(),
            clock: Arc::clone(clock),
            for_update: store.for_update(),
            notifies: store.notifies(),
            entries: Vec::new(),
            subscriptions: BTreeSet::new(),
            answers: None,
        }
    }

    /// `sql` with the rows it reads held until this change is whole.
    pub(super) fn holding(&self, sql: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(format!("{sql}{}", self.for_update))
    }

    /// Rows were locked, perhaps after others changed them: what follows happens now, and not when the call came in.
    pub(super) fn locked(&mut self) {
        self.at = self.at.max(self.clock.now());
    }

    /// The answer to the same request made before, if it was. While another call makes the same change, this waits.
    pub(super) async fn answered<R: Message + Default>(
        &mut self,
        caller: &str,
        request_id: &str,
        request: &impl Message,
    ) -> Result<Option<R>, Refusal> {
        read::text("request_id", request_id, 1, 64)?;
        // The name of the type sets requests apart that happen to be written alike.
        let written = [std::any::type_name_of_val(request).as_bytes(), &request.encode_to_vec()].concat();
        let sha256 = sha256::hex(&written);
        let inserted = sqlx::query(
            "INSERT INTO requests (caller, request_id, sha256, response, made_at) VALUES ($1, $2, $3, '', $4)
             ON CONFLICT DO NOTHING",
        );
        let inserted = inserted.bind(caller).bind(request_id).bind(&sha256).bind(nanos(self.at));
        if 0 < inserted.execute(&mut *self.tx).await?.rows_affected() {
            self.answers = Some((caller.to_owned(), request_id.to_owned()));
            return Ok(None);
        }
        let before =
            sqlx::query("SELECT sha256, response FROM requests WHERE caller = $1 AND request_id = $2");
        let before = before.bind(caller).bind(request_id).fetch_one(&mut *self.tx).await?;
        if before.try_get::<String, _>("sha256")? != sha256 {
            return Err(Refusal::RequestIdReused(request_id.to_owned()));
        }
        let response: String = before.try_get("response")?;
        let response = BASE64.decode(response).ok().and_then(|bytes| R::decode(bytes.as_slice()).ok());
        let unreadable = || StoreError::Unreadable(format!("the answer to request {request_id}"));
        Ok(Some(response.ok_or_else(unreadable)?))
    }

    /// Adds an entry to the audit log.
    pub(super) fn audit(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Bytes that it adds to the audit log, about.
    pub(super) fn written(&self) -> usize {
        let of = |entry: &Entry| ENTRY + entry.target.len() + entry.detail.len().min(LONGEST_DETAIL);
        self.entries.iter().map(of).sum()
    }

    /// Watchers of this subscription are to be told.
    pub(super) fn touches(&mut self, subscription_id: impl Into<String>) {
        self.subscriptions.insert(subscription_id.into());
    }

    /// Keeps everything, and `response` as the answer should the same be asked again: without its secrets.
    pub(super) async fn answer(mut self, response: &impl Message) -> Result<Changed, Refusal> {
        if let Some((caller, request_id)) = self.answers.take() {
            let kept = sqlx::query("UPDATE requests SET response = $1 WHERE caller = $2 AND request_id = $3");
            let response = BASE64.encode(response.encode_to_vec());
            kept.bind(response).bind(caller).bind(request_id).execute(&mut *self.tx).await?;
        }
        self.keep().await
    }

    /// Keeps everything.
    pub(super) async fn keep(mut self) -> Result<Changed, Refusal> {
        for entries in self.entries.chunks(ROWS) {
            write(&mut self.tx, self.at, entries).await?;
        }
        if self.notifies {
            for subscription_id in &self.subscriptions {
                Store::notify(&mut self.tx, subscription_id).await?;
            }
        }
        self.tx.commit().await?;
        Ok(Changed(self.subscriptions))
    }
}

/// The beginning of a detail that is too long to be told.
fn cut(detail: &str) -> String {
    if detail.len() <= LONGEST_DETAIL {
        return detail.to_owned();
    }
    let end = detail.floor_char_boundary(LONGEST_DETAIL - '…'.len_utf8());
    format!("{}…", detail.get(..end).unwrap_or_default())
}

async fn write(tx: &mut Tx, at: Instant, entries: &[Entry]) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO audit (entry_id, customer_id, at, actor, actor_kind, actor_credential, action, target, done, detail) VALUES {}",
        placeholders(1, entries.len(), 10)
    );
    let mut insert = sqlx::query(AssertSqlSafe(sql));
    for Entry { customer_id, actor, action, target, done, detail } in entries {
        // Version 7: IDs grow with time, so the log is read in its order.
        insert = insert.bind(Uuid::now_v7().to_string()).bind(customer_id).bind(nanos(at));
        insert = insert.bind(&actor.name).bind(i64::from(i32::from(actor.kind))).bind(&actor.credential);
        // A target is what somebody asked for, whatever it is; an index holds no long one.
        insert = insert.bind(*action).bind(shown(target)).bind(i64::from(*done)).bind(cut(detail));
    }
    insert.execute(&mut **tx).await?;
    Ok(())
}

//! Refused attempts that are made again as fast as somebody likes: a few a minute are written down one by one, the rest
//! are counted (semantics 7.23).
//!
//! The audit log forgets nothing, so nobody may fill it with what is refused: neither who has no more than a name, a key or
//! a dead credential to try, nor an account. Each has its own minutes, so that nobody's attempts hide another's.
//! Not here: entries of what was done (see `change`).

use std::{
    collections::BTreeMap,
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    Backend, accounts,
    actor::{Actor, Entry},
    store::StoreError,
};
use crate::domain::{Instant, Span};

/// Written down of one actor and one action in a minute, by one process.
const ROWS: u64 = 20;

const MINUTE: Duration = Duration::from_mins(1);

/// What was tried lately, by customer, actor and action. Customers and actors are known ones and actions a handful: it does
/// not grow with attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<BTreeMap<(String, Actor, &'static str), Minute>>);

#[derive(Debug)]
struct Minute {
    began: Instant,
    tried: u64,
}

impl Attempts {
    /// Whether this one is written down.
    fn counts(&self, entry: &Entry, now: Instant) -> bool {
        let Entry { customer_id, actor, action, .. } = entry;
        let mut minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Minute { began: now, tried: 0 };
        let minute = minutes.entry((customer_id.clone(), actor.clone(), action)).or_insert(new);
        minute.tried = minute.tried.saturating_add(1);
        minute.tried <= ROWS
    }

    /// Ends minutes that began before `until`; what was left out in them.
    fn end(&self, until: Instant) -> Vec<Entry> {
        let mut minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, left) =
            mem::take(&mut *minutes).into_iter().partition(|(_, minute)| minute.began <= until);
        *minutes = left;
        let ended: BTreeMap<_, Minute> = ended;
        let left_out = |((customer_id, actor, action), minute): ((String, Actor, _), Minute)| {
            let count = minute.tried.checked_sub(ROWS).filter(|count| 0 < *count)?;
            let by = actor.name;
            let why = format!("{count} more attempts by {by} within a minute, not written down one by one");
            Some(Actor::backend().failed(&customer_id, action, "", why))
        };
        ended.into_iter().filter_map(left_out).collect()
    }
}

impl Backend {
    /// Adds an entry about an attempt that whoever made it can make again at once, unless there were too many of them.
    pub(super) async fn attempted(&self, entry: Entry) {
        let now = self.clock.now();
        let mut entries = self.attempts.end(now - Span::from(MINUTE));
        if self.attempts.counts(&entry, now) {
            entries.push(entry);
        }
        self.write(entries).await;
    }

    /// The same of an attempt that concerns no customer: it is written down with the backend's own.
    pub(super) async fn attempted_by_nobody(&self, action: &'static str, target: &str, why: &str) {
        match self.own_customer().await {
            Ok(own) => self.attempted(Actor::nobody().failed(&own, action, target, why)).await,
            Err(error) => tracing::error!(action, "an attempt was not written to the audit log: {error}"),
        }
    }

    /// Writes down what was left out, should nobody try again, until it stops.
    pub(super) async fn count_attempts(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(MINUTE)).await.is_some() {
            self.write(self.attempts.end(self.clock.now() - Span::from(MINUTE))).await;
        }
        self.write(self.attempts.end(self.clock.now())).await;
    }

    pub(super) async fn own_customer(&self) -> Result<String, StoreError> {
        use sqlx::Row as _;
        let row = sqlx::query("SELECT customer_id FROM customers WHERE name = $1");
        let row = row.bind(accounts::FIRST_CUSTOMER).fetch_one(self.store.reads()).await?;
        Ok(row.try_get("customer_id")?)
    }
}

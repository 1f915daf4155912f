//! Refused attempts that are made again as fast as somebody likes: a few of a time are written down one by one, the rest
//! are counted (semantics 7.23).
//!
//! The audit log forgets nothing, so nobody may fill it with what is refused: neither who has no more than a name, a key or
//! a dead credential to try, nor an account. Each has its own count, so that nobody's attempts hide another's.
//! Not here: entries of what was done (see `change`).

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    Backend, accounts,
    actor::{Actor, ActorKind, Entry},
    store::StoreError,
};
use crate::domain::{Instant, Span};

/// Written down of one actor and one action in a time, by one process.
const ROWS: u64 = 20;

const MINUTE: Duration = Duration::from_mins(1);

/// Whoever has a license key has shown nothing else, and goes on for as long as the key opens anything.
const OF_A_KEY: (Span, &str) = (Span::days(1), "a day");
const OF_OTHERS: (Span, &str) = (Span::from_nanos(60 * Span::SECOND.nanos()), "a minute");

/// What was tried lately. Customers and actors are known ones and actions a handful: it does not grow with attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    of: HashMap<Tried, Count>,
    /// When each of them ends, in that order; the number tells those apart that end at once.
    ends: BTreeMap<(Instant, u64), Tried>,
    number: u64,
}

/// Who tries what with whom: an account with all of its sessions and API credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tried {
    customer_id: String,
    kind: ActorKind,
    name: String,
    action: &'static str,
}

#[derive(Debug)]
struct Count {
    within: &'static str,
    tried: u64,
}

impl Attempts {
    /// Whether this one is written down.
    fn counts(&self, entry: &Entry, now: Instant) -> bool {
        let Entry { customer_id, actor: Actor { kind, name, .. }, action, .. } = entry;
        let tried = Tried { customer_id: customer_id.clone(), kind: *kind, name: name.clone(), action };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { of, ends, number } = &mut *counts;
        let count = of.entry(tried).or_insert_with_key(|tried| {
            let (span, within) = if tried.kind == ActorKind::LicenseKey { OF_A_KEY } else { OF_OTHERS };
            *number += 1;
            ends.insert((now + span, *number), tried.clone());
            Count { within, tried: 0 }
        });
        count.tried = count.tried.saturating_add(1);
        count.tried <= ROWS
    }

    /// Ends counts whose time is over; what was left out in them. Of others nothing is looked at.
    fn end(&self, now: Instant) -> Vec<Entry> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = Vec::new();
        while let Some(first) = counts.ends.first_entry().filter(|first| first.key().0 <= now) {
            let tried = first.remove();
            let count = counts.of.remove(&tried);
            ended.extend(count.and_then(|count| left_out(tried, &count)));
        }
        ended
    }

    /// Ends all of them.
    fn end_all(&self) -> Vec<Entry> {
        let counts = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        counts.of.into_iter().filter_map(|(tried, count)| left_out(tried, &count)).collect()
    }
}

fn left_out(tried: Tried, count: &Count) -> Option<Entry> {
    let more = count.tried.checked_sub(ROWS).filter(|more| 0 < *more)?;
    let (Tried { customer_id, name, action, .. }, within) = (tried, count.within);
    let why = format!("{more} more attempts by {name} within {within}, not written down one by one");
    Some(Actor::backend().failed(&customer_id, action, "", why))
}

impl Backend {
    /// Adds an entry about an attempt that whoever made it can make again at once, unless there were too many of them.
    pub(super) async fn attempted(&self, entry: Entry) {
        let now = self.clock.now();
        let mut entries = self.attempts.end(now);
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
            self.write(self.attempts.end(self.clock.now())).await;
        }
        self.write(self.attempts.end_all()).await;
    }

    /// The backend's own customer. It is made once and stays, so that attempts of nobody known read nothing.
    pub(super) async fn own_customer(&self) -> Result<String, StoreError> {
        use sqlx::Row as _;
        let read = async || {
            let row = sqlx::query("SELECT customer_id FROM customers WHERE name = $1");
            let row = row.bind(accounts::FIRST_CUSTOMER).fetch_one(self.store.reads()).await?;
            Ok(row.try_get("customer_id")?)
        };
        self.own_customer.get_or_try_init(read).await.cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(actor: Actor) -> Entry {
        actor.failed("customer", "unit.activate", "", "")
    }

    #[test]
    fn of_what_a_license_key_is_refused_twenty_are_written_down_in_a_day() {
        let (attempts, start) = (Attempts::default(), Instant::from_unix_seconds(0));
        let at = |minute: i128| start + Span::from_nanos(minute * OF_OTHERS.0.nanos());
        let written = (0..1_440).filter(|minute| {
            assert!(attempts.end(at(*minute)).is_empty());
            attempts.counts(&refused(Actor::license_key("AAA")), at(*minute))
        });
        assert_eq!(written.count(), 20);
        let left_out = attempts.end(at(1_440));
        assert!(left_out[0].detail.starts_with("1420 more attempts"), "{left_out:?}");
        assert!(attempts.counts(&refused(Actor::license_key("AAA")), at(1_440)));
    }

    #[test]
    fn an_attempt_looks_at_no_count_but_its_own_and_those_that_end() {
        let (attempts, start) = (Attempts::default(), Instant::from_unix_seconds(0));
        for account in 0..1_000 {
            let now = start + Span::from_nanos(account);
            assert!(attempts.counts(&refused(Actor::session(&account.to_string())), now));
        }
        // As many as have ended are gone, the first to begin first, and nothing else was touched.
        attempts.end(start + OF_OTHERS.0 + Span::from_nanos(9));
        let counts = attempts.0.lock().unwrap();
        assert_eq!((counts.of.len(), counts.ends.len()), (990, 990));
        assert_eq!(counts.ends.first_key_value().unwrap().0.1, 11);
    }
}

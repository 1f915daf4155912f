//! The writer's book: what each subscription was told last, and what is published of it.
//!
//! Not here: when to ask the source and what to do when it is away (see the parent). Readers never see the book;
//! they see the snapshots it publishes.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    persist::{Persisted, PersistedRecord},
    sms::CountedSms,
};
use crate::{
    cache::{Snapshot, Writer},
    domain::{Facts, Instant, SubscriptionId, Timeline, facts::SmsCredits},
    source::Origin,
};

/// What was told and what is published.
#[derive(Debug)]
pub struct Book {
    writer: Writer,
    records: BTreeMap<SubscriptionId, Record>,
    /// Subscriptions that went: should one come back, its overuse began when it began and its SMS are still spent.
    gone: BTreeMap<SubscriptionId, Record>,
    /// The last number given to facts. It grows with every change, whichever subscription it is of, and is kept
    /// across restarts, so that a subscription that leaves and comes back never gets an older one.
    revision: u64,
    counted_sms: CountedSms,
}

/// When and by whom facts were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telling {
    /// As of when they are.
    pub as_of: Instant,
    /// Where they came from.
    pub origin: Origin,
    /// The present.
    pub now: Instant,
    /// Whether the backend's signature vouches that the present is not far ahead.
    pub vouched: bool,
}

/// An SMS an authentication server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmsSent {
    /// Its id, which counts once.
    pub id: String,
    /// What it cost.
    pub credits: u32,
}

/// What became of a report of SMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmsReport {
    /// How many counted.
    pub counted: u32,
    /// How many had been counted before.
    pub repeated: u32,
    /// Credits that remain, if credits are bought.
    pub credits: Option<u64>,
}

/// The book holds nothing under this ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInBook;

#[derive(Debug)]
struct Record {
    told: Facts,
    revision: u64,
    /// When the overuse was seen here first, if nobody told (semantics 2.9).
    overuse_seen: Option<Instant>,
    /// SMS credits reported spent since the source told how many there are.
    sms_spent: u64,
    /// Shared with the cache.
    published: Arc<Snapshot>,
}

impl Book {
    /// An empty book that publishes through `writer`.
    #[must_use]
    pub fn new(writer: Writer, remembered_sms: usize) -> Self {
        Self {
            writer,
            records: BTreeMap::new(),
            gone: BTreeMap::new(),
            revision: 0,
            counted_sms: CountedSms::remembering(remembered_sms),
        }
    }

    /// Takes facts of every subscription in place of what was told before, and publishes what follows. Whether
    /// anything changed.
    pub fn tell(&mut self, facts: Vec<Facts>, telling: Telling) -> bool {
        let next = self.revision.saturating_add(1);
        let mut before = std::mem::take(&mut self.records);
        let mut changed = false;
        for told in facts {
            let last = before.remove(&told.subscription_id);
            let same = last.as_ref().is_some_and(|last| last.told == told);
            changed |= !same;
            let last = last.or_else(|| self.gone.remove(&told.subscription_id));
            let record = Record::told(told, last, if same { None } else { Some(next) }, telling);
            self.records.insert(record.told.subscription_id, record);
        }
        changed |= !before.is_empty();
        self.gone.append(&mut before);
        if changed {
            self.revision = next;
        }
        self.publish_all();
        changed
    }

    /// The source has told the same as before: it is as of now.
    pub fn confirm(&mut self, telling: Telling) {
        for record in self.records.values_mut() {
            record.derive(telling);
        }
        self.publish_all();
    }

    /// Takes what was kept from an earlier run into an empty book.
    pub fn restore(&mut self, persisted: Persisted, now: Instant) {
        let telling = Telling { as_of: persisted.as_of, origin: Origin::Persisted, now, vouched: false };
        self.revision = persisted.revision;
        for PersistedRecord { facts, revision, overuse_seen } in persisted.records {
            let mut record = Record::told(facts, None, Some(revision), telling);
            if overuse_seen.is_some() {
                record.overuse_seen = overuse_seen;
                record.derive(telling);
            }
            self.records.insert(record.told.subscription_id, record);
        }
        self.publish_all();
    }

    /// Carries on the numbering of an earlier run whose facts are not taken.
    pub fn number_after(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// Subtracts SMS that were sent, so that depletion shows at once (semantics 6.9).
    pub fn count_sms(
        &mut self,
        subscription_id: SubscriptionId,
        sent: &[SmsSent],
        now: Instant,
    ) -> Result<SmsReport, NotInBook> {
        let record = self.records.get_mut(&subscription_id).ok_or(NotInBook)?;
        let (mut counted, mut repeated) = (0, 0);
        for sms in sent {
            if self.counted_sms.counts(subscription_id, &sms.id) {
                record.sms_spent = record.sms_spent.saturating_add(u64::from(sms.credits));
                counted += 1;
            } else {
                repeated += 1;
            }
        }
        if 0 < counted {
            let Snapshot { as_of, origin, .. } = *record.published;
            record.derive(Telling { as_of, origin, now, vouched: false });
            self.writer.replace(Arc::clone(&record.published));
        }
        let credits = record.published.facts.sms_credits.map(|SmsCredits(remaining)| remaining);
        Ok(SmsReport { counted, repeated, credits })
    }

    /// How many subscriptions are held, and the last number given to facts.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        (self.records.len(), self.revision)
    }

    /// What to keep on disk, if anything was told.
    #[must_use]
    pub fn to_persist(&self, source: String, as_of: Instant, issued_at: Option<Instant>) -> Persisted {
        let records = self.records.values().map(|record| PersistedRecord {
            facts: record.told.clone(),
            revision: record.revision,
            overuse_seen: record.overuse_seen,
        });
        Persisted { source, as_of, issued_at, revision: self.revision, records: records.collect() }
    }

    fn publish_all(&mut self) {
        self.writer.replace_all(self.records.values().map(|record| Arc::clone(&record.published)));
    }
}

impl Record {
    /// What was told now, on top of what was told last; `number` when it differs.
    fn told(told: Facts, last: Option<Self>, number: Option<u64>, telling: Telling) -> Self {
        let Telling { as_of, origin, .. } = telling;
        // What was published last spares its timeline where the facts are the same.
        let published = last.as_ref().map(|last| Arc::clone(&last.published)).unwrap_or_else(|| {
            Arc::new(Snapshot {
                timeline: Timeline::of(&told),
                facts: told.clone(),
                as_of,
                revision: 0,
                origin,
            })
        });
        let mut record = Self { told, revision: 0, overuse_seen: None, sms_spent: 0, published };
        if let Some(last) = last {
            record.revision = last.revision;
            // An overuse that goes on began when it began, even if the source stops telling.
            record.overuse_seen =
                last.published.facts.users.excess().and(last.published.facts.users.overused_since);
            // The source tells another number of credits: it knows what was spent.
            if last.told.sms_credits == record.told.sms_credits {
                record.sms_spent = last.sms_spent;
            }
        }
        record.revision = number.unwrap_or(record.revision);
        record.derive(telling);
        record
    }

    /// Works out what to publish.
    fn derive(&mut self, telling: Telling) {
        let Telling { as_of, origin, now, vouched } = telling;
        let clock_needed = self.told.users.excess().is_some() && self.told.users.overused_since.is_none();
        self.overuse_seen = clock_needed.then(|| match self.overuse_seen {
            // Noted while the clock was far ahead, which a signed time has set right: that must not grant grace.
            Some(seen) if vouched => seen.min(now),
            // Without a signature it may as well be the present that is wrong, as on a machine that starts before it
            // has asked for the time: what was noted stays.
            Some(seen) => seen,
            None => now,
        });
        let mut facts = self.told.clone();
        if let Some(seen) = self.overuse_seen {
            facts = facts.with_overuse_seen(seen);
        }
        facts.sms_credits =
            facts.sms_credits.map(|SmsCredits(told)| SmsCredits(told.saturating_sub(self.sms_spent)));
        let timeline = if facts == self.published.facts {
            self.published.timeline.clone()
        } else {
            Timeline::of(&facts)
        };
        self.published = Arc::new(Snapshot { facts, timeline, as_of, revision: self.revision, origin });
    }
}

#[cfg(test)]
mod tests;

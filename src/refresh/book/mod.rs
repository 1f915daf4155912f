//! The writer's book: what each subscription was told last, and what is published of it.
//!
//! Not here: when to ask the source and what to do when it is away (see the parent). Readers never see the book;
//! they see the snapshots it publishes.

mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::record::{Record, Telling};
use super::{
    AsOf,
    outbox::Outbox,
    persist::{Persisted, PersistedRecord},
};
use crate::{
    cache::Writer,
    clock::{CLOCKS_AGREE, Clock},
    domain::{Instant, SubscriptionId, facts::SmsCredits},
    signing::Refused,
    source::{Fetched, Origin, SourceError, Told, usage::UsageAnswer},
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
    /// What was reported and the source does not know of yet.
    outbox: Outbox,
    /// What was taken and waits to be published: it is to be on disk before anybody is answered from it.
    unpublished: bool,
}

/// What became of what was fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Whether anything differs.
    pub changed: bool,
    /// Whether a signature vouches for any of it.
    pub signed: bool,
    /// What was refused, and what could not be asked for.
    pub failure: Option<SourceError>,
    /// Whether all there is was asked for.
    pub is_all: bool,
    /// The subscriptions whose facts were taken.
    pub told_of: BTreeSet<SubscriptionId>,
}

/// What was told, less what is refused.
#[derive(Debug, Default)]
struct Sifted {
    accepted: BTreeMap<SubscriptionId, Told>,
    refused: BTreeMap<SubscriptionId, Refused>,
}

/// The book holds nothing under this ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInBook;

impl Book {
    /// An empty book that publishes through `writer`.
    #[must_use]
    pub fn new(writer: Writer, outbox: Outbox) -> Self {
        Self {
            writer,
            records: BTreeMap::new(),
            gone: BTreeMap::new(),
            revision: 0,
            outbox,
            unpublished: false,
        }
    }

    /// Takes what was fetched when it was `asked_at`; what is refused changes nothing (semantics 5.5). Nobody is
    /// answered from it before it is published. It knows of the usage of `usage_taken`.
    pub fn take(
        &mut self,
        fetched: Fetched,
        usage_taken: &BTreeMap<SubscriptionId, UsageAnswer>,
        asked_at: Instant,
        origin: Origin,
        clock: &dyn Clock,
    ) -> Taken {
        let (told, and_no_others, failure) = match fetched {
            Fetched::Unchanged => {
                self.confirm(Telling { asked_at, origin, now: clock.now() });
                return Taken { is_all: true, ..Taken::default() };
            }
            Fetched::All(told) => (told, true, None),
            Fetched::Some { told, failure } => (told, false, failure),
        };
        let sifted = self.sift(told);
        let issued = sifted.accepted.values().filter_map(|told| told.proof.as_ref());
        let newest = issued.map(|proof| proof.issued_at).max();
        // Only what is accepted sets the clock (semantics 5.2): an old signature must not.
        if let Some(issued_at) = newest {
            // A later number that was issued long before shows that the backend's clock was ahead until then.
            if self.is_set_right(&sifted) { clock.set_right(issued_at) } else { clock.heard(issued_at) }
        }
        let telling = Telling { asked_at, origin, now: clock.now() };
        let failure = with_refused(failure, &sifted.refused);
        let some_left = and_no_others && self.let_go_of_others(&sifted);
        let told_of = sifted.accepted.keys().copied().collect();
        let changed = self.tell(sifted.accepted, usage_taken, telling) || some_left;
        if changed {
            self.revision = self.revision.saturating_add(1);
        }
        self.unpublished = true;
        Taken { changed, signed: newest.is_some(), failure, is_all: and_no_others, told_of }
    }

    /// Publishes what was taken. As of when what is held is, if anything is.
    pub fn publish(&mut self) -> Option<AsOf> {
        self.unpublished = false;
        self.writer.replace_all(self.records.values().map(|record| Arc::clone(&record.published)));
        let as_of = self.records.values().map(|record| record.published.as_of);
        Some(AsOf { oldest: as_of.clone().min()?, newest: as_of.max()? })
    }

    /// Whether what was accepted of a subscription was issued before what is held of it by more than clocks are apart.
    fn is_set_right(&self, sifted: &Sifted) -> bool {
        let issued_at = |told: &Told| told.proof.as_ref().map(|proof| proof.issued_at);
        sifted.accepted.iter().any(|(id, told)| {
            let held =
                self.records.get(id).or_else(|| self.gone.get(id)).and_then(|held| issued_at(&held.told));
            held.zip(issued_at(told)).is_some_and(|(held, told)| told + CLOCKS_AGREE < held)
        })
    }

    /// What is older than what is held is refused, even if the source let it through (semantics 5.5).
    fn sift(&self, told: Vec<Told>) -> Sifted {
        let mut sifted = Sifted::default();
        for told in told {
            let id = told.facts.subscription_id;
            let held = self.records.get(&id).or_else(|| self.gone.get(&id)).map(|record| &record.told);
            let held = sifted.accepted.get(&id).or(held);
            match held.map_or(Ok(()), |held| record::not_older(held, &told)) {
                Ok(()) => drop(sifted.accepted.insert(id, told)),
                Err(refused) => drop(sifted.refused.insert(id, refused)),
            }
        }
        sifted
    }

    /// Whether any went.
    fn let_go_of_others(&mut self, sifted: &Sifted) -> bool {
        let Sifted { accepted, refused } = sifted;
        let named = |id: &SubscriptionId| accepted.contains_key(id) || refused.contains_key(id);
        let before = self.records.len();
        self.gone.extend(self.records.extract_if(.., |id, _| !named(id)));
        self.records.len() < before
    }

    /// Whether any differs.
    fn tell(
        &mut self,
        accepted: BTreeMap<SubscriptionId, Told>,
        usage_taken: &BTreeMap<SubscriptionId, UsageAnswer>,
        telling: Telling,
    ) -> bool {
        let next = self.revision.saturating_add(1);
        let mut changed = false;
        for (id, told) in accepted {
            let last = self.records.remove(&id);
            let same = last.as_ref().is_some_and(|last| last.told.facts == told.facts);
            changed |= !same;
            let last = last.or_else(|| self.gone.remove(&id));
            if let Some(answer) = usage_taken.get(&id) {
                self.outbox.take(id, answer, telling.now);
            } else if last.as_ref().is_some_and(|last| last.told.facts.sms_credits != told.facts.sms_credits)
            {
                self.outbox.forget_spent(id);
            }
            let spent = self.outbox.unknown_to_source(id);
            let number = if same { None } else { Some(next) };
            self.records.insert(id, Record::told(told, last, number, spent, telling));
        }
        changed
    }

    /// The source has told the same as before: it is as of now, unless a signature says as of when.
    fn confirm(&mut self, telling: Telling) {
        for record in self.records.values_mut() {
            record.confirm(telling);
        }
        self.unpublished = true;
    }

    /// Takes what was kept from an earlier run into an empty book.
    pub fn restore(&mut self, persisted: Persisted, now: Instant) {
        self.revision = persisted.revision;
        for PersistedRecord { told, as_of, revision, overuse_seen } in persisted.records {
            let id = told.facts.subscription_id;
            let mut record = Record::restored(told, as_of, revision, overuse_seen, now);
            record.spend(self.outbox.unknown_to_source(id), now);
            self.records.insert(id, record);
        }
        self.unpublished = true;
    }

    /// Carries on the numbering of an earlier run whose facts are not taken.
    pub fn number_after(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// Subtracts what was reported, so that depletion shows at once (semantics 6.9). The credits that remain, if
    /// credits are bought.
    pub fn subtract_reported(
        &mut self,
        subscription_id: SubscriptionId,
        now: Instant,
    ) -> Result<Option<u64>, NotInBook> {
        let record = self.records.get_mut(&subscription_id).ok_or(NotInBook)?;
        // What waits for the disk is published with it.
        if record.spend(self.outbox.unknown_to_source(subscription_id), now) && !self.unpublished {
            self.writer.replace(Arc::clone(&record.published));
        }
        Ok(record.published.facts.sms_credits.map(|SmsCredits(remaining)| remaining))
    }

    /// The numbers of facts that are held signed.
    #[must_use]
    pub fn numbers(&self) -> BTreeMap<SubscriptionId, u64> {
        let number = |record: &Record| record.told.proof.as_ref().map(|proof| proof.sequence);
        self.records.iter().filter_map(|(id, record)| Some((*id, number(record)?))).collect()
    }

    /// How many subscriptions are held, and the last number given to facts.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        (self.records.len(), self.revision)
    }

    /// What to keep on disk.
    #[must_use]
    pub fn to_persist(&self, source: String) -> Persisted {
        let records = self.records.values().map(|record| PersistedRecord {
            told: record.told.clone(),
            as_of: record.published.as_of,
            revision: record.revision,
            overuse_seen: record.overuse_seen,
        });
        Persisted { source, revision: self.revision, records: records.collect() }
    }
}

/// Why something was not told, with why something was refused.
fn with_refused(
    failure: Option<SourceError>,
    refused: &BTreeMap<SubscriptionId, Refused>,
) -> Option<SourceError> {
    let refused =
        refused.iter().map(|(id, refused)| SourceError::Refused(format!("`{id}`: {refused}")).of(*id));
    failure.into_iter().chain(refused).reduce(SourceError::and)
}

#[cfg(test)]
mod tests;

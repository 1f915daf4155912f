//! One subscription in the book: what was told last, and what is published of it.
//!
//! Not here: which of what is told is taken (see the parent), but for what is older.

use std::sync::Arc;

use crate::{
    cache::Snapshot,
    domain::{Instant, Timeline, facts::SmsCredits},
    signing::{self, Refused},
    source::{Origin, Proof, Told},
};

/// When and by whom facts were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Telling {
    /// When the source was asked: what nobody signed is as of then.
    pub(super) asked_at: Instant,
    /// Where they came from.
    pub(super) origin: Origin,
    /// The present.
    pub(super) now: Instant,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) told: Told,
    pub(super) revision: u64,
    /// When the overuse was seen here first, if nobody told (semantics 2.9).
    pub(super) overuse_seen: Option<Instant>,
    /// SMS credits that were reported spent and the source does not know of.
    pub(super) sms_spent: u64,
    /// Shared with the cache.
    pub(super) published: Arc<Snapshot>,
}

/// Whether what is told is no older than what is held, and signed if that was.
pub(super) fn not_older(held: &Told, told: &Told) -> Result<(), Refused> {
    let number = |proof: &Proof| (proof.sequence, proof.issued_at);
    match (&held.proof, &told.proof) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Refused::Unsigned),
        (Some(held), Some(told)) => signing::not_older(number(held), number(told)),
    }
}

impl Record {
    /// What was told now, on top of what was told last; `number` when it differs.
    pub(super) fn told(
        told: Told,
        last: Option<Self>,
        number: Option<u64>,
        sms_spent: u64,
        telling: Telling,
    ) -> Self {
        let Telling { asked_at, origin, now } = telling;
        let issued_at = told.proof.as_ref().map(|proof| proof.issued_at);
        let (as_of, vouched) = (issued_at.unwrap_or(asked_at), issued_at.is_some());
        // What was published last spares its timeline where the facts are the same.
        let published = last.as_ref().map(|last| Arc::clone(&last.published));
        let published = published.unwrap_or_else(|| unnumbered(&told, as_of, origin));
        let mut record = Self { told, revision: 0, overuse_seen: None, sms_spent, published };
        if let Some(last) = last {
            record.revision = last.revision;
            // An overuse that goes on began when it began, even if the source stops telling.
            record.overuse_seen =
                last.published.facts.users.excess().and(last.published.facts.users.overused_since);
        }
        record.revision = number.unwrap_or(record.revision);
        record.derive(as_of, origin, now, vouched);
        record
    }

    /// What an earlier run kept.
    pub(super) fn restored(
        told: Told,
        as_of: Instant,
        revision: u64,
        overuse_seen: Option<Instant>,
        now: Instant,
    ) -> Self {
        let published = unnumbered(&told, as_of, Origin::Persisted);
        let mut record = Self { told, revision, overuse_seen, sms_spent: 0, published };
        // A signature read back says nothing of the present.
        record.derive(as_of, Origin::Persisted, now, false);
        record
    }

    /// The same was told again: as of now, unless a signature says as of when.
    pub(super) fn confirm(&mut self, telling: Telling) {
        let Telling { asked_at, origin, now } = telling;
        let as_of = self.told.proof.as_ref().map_or(asked_at, |proof| proof.issued_at);
        self.derive(as_of, origin, now, false);
    }

    /// Nothing was told, but so many credits have been reported spent; whether that is news.
    pub(super) fn spend(&mut self, sms_spent: u64, now: Instant) -> bool {
        let is_news = self.sms_spent != sms_spent;
        if is_news {
            self.sms_spent = sms_spent;
            let Snapshot { as_of, origin, .. } = *self.published;
            self.derive(as_of, origin, now, false);
        }
        is_news
    }

    /// Works out what to publish. `vouched`: a signature has just said that the present is not far ahead.
    fn derive(&mut self, as_of: Instant, origin: Origin, now: Instant, vouched: bool) {
        let users = self.told.facts.users;
        let clock_needed = users.excess().is_some() && users.overused_since.is_none();
        self.overuse_seen = clock_needed.then(|| match self.overuse_seen {
            // Noted while the clock was far ahead, which a signed time has set right: that must not grant grace.
            Some(seen) if vouched => seen.min(now),
            // Without a signature it may as well be the present that is wrong, as on a machine that starts before it
            // has asked for the time: what was noted stays.
            Some(seen) => seen,
            None => now,
        });
        let mut facts = self.told.facts.clone();
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

/// A first snapshot, whose timeline the real one may share.
fn unnumbered(told: &Told, as_of: Instant, origin: Origin) -> Arc<Snapshot> {
    let (facts, timeline) = (told.facts.clone(), Timeline::of(&told.facts));
    Arc::new(Snapshot { facts, timeline, as_of, revision: 0, origin })
}

//! What is remembered of each unit between fetches: what was told last, and what was pushed since.
//!
//! Not here: where it comes from (see the parent and `watch`).

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Activation, Instant, SubscriptionId},
    folder::Marks,
    signing::TrustedKeys,
    source::{Proof, Told, units::Unit},
};

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The marks of the units file when it was read last; none when there was none.
    pub(super) read: Option<Marks>,
    units: BTreeMap<String, Known>,
    /// The keys facts were refused by.
    pub(super) refused_by: Option<TrustedKeys>,
    /// Something was pushed that no fetch has seen.
    pub(super) news: bool,
}

/// One unit.
#[derive(Debug)]
struct Known {
    unit: Unit,
    /// The newest facts that were told: their number, and when they were issued.
    newest: Option<(u64, Instant)>,
    /// Facts that were pushed, until they are handed on.
    pushed: Option<Told>,
    /// It has to sync, because it is new or was told that it is deactivated.
    sync_wanted: bool,
    watch: Option<CancellationToken>,
}

impl Memory {
    /// These are the units now; the watches of others end. Whether any came or went.
    pub(super) fn hold(&mut self, units: Vec<Unit>) -> bool {
        let mut before = std::mem::take(&mut self.units);
        let mut changed = false;
        for unit in units {
            let known = before.remove(&unit.unit_id);
            // With another secret it watches anew.
            known.iter().filter(|known| known.unit != unit).for_each(Known::end_watch);
            let known = known.filter(|known| known.unit == unit);
            changed |= known.is_none();
            self.units.insert(unit.unit_id.clone(), known.unwrap_or_else(|| Known::of(unit)));
        }
        for gone in before.into_values() {
            changed = true;
            gone.end_watch();
        }
        changed
    }

    pub(super) fn units(&self) -> Vec<Unit> {
        self.units.values().map(|known| known.unit.clone()).collect()
    }

    /// The units that have to sync; from now on they are as good as asked.
    pub(super) fn take_sync_wanted(&mut self) -> Vec<Unit> {
        let wanted = self
            .units
            .values_mut()
            .filter_map(|known| std::mem::take(&mut known.sync_wanted).then(|| known.unit.clone()));
        wanted.collect()
    }

    /// Whether a unit belongs to this subscription.
    pub(super) fn has_unit_of(&self, id: SubscriptionId) -> bool {
        self.units.values().any(|known| known.unit.subscription_id == id)
    }

    pub(super) fn newest(&self, unit_id: &str) -> Option<(u64, Instant)> {
        self.units.get(unit_id)?.newest
    }

    /// Facts came with a sync. What was pushed meanwhile is handed on in their place if it is newer.
    pub(super) fn synced(&mut self, unit_id: &str, told: Told) -> Told {
        let Some(known) = self.units.get_mut(unit_id) else { return told };
        let told = match known.pushed.take() {
            Some(pushed) if number(&told) < number(&pushed) => pushed,
            Some(_) | None => told,
        };
        known.note(&told);
        told
    }

    /// Facts were pushed; whether they are news.
    pub(super) fn push(&mut self, unit_id: &str, told: Told) -> bool {
        let Some(known) = self.units.get_mut(unit_id) else { return false };
        let is_news =
            known.newest.is_none_or(|(newest, _)| number(&told).is_some_and(|(told, _)| newest < told));
        if is_news {
            known.note(&told);
            // The backend has to hear that the unit knows (semantics 6.6).
            known.sync_wanted = matches!(told.facts.activation, Activation::Deactivated { .. });
            known.pushed = Some(told);
            self.news = true;
        }
        is_news
    }

    /// What was pushed and not handed on.
    pub(super) fn take_pushed(&mut self) -> Vec<Told> {
        self.units.values_mut().filter_map(|known| known.pushed.take()).collect()
    }

    /// The units that are to be watched and are not, each with the token that ends its watch.
    pub(super) fn unwatched(&mut self, end: &CancellationToken) -> Vec<(Unit, CancellationToken)> {
        let mut unwatched = Vec::new();
        for known in self.units.values_mut() {
            if known.watch.as_ref().is_none_or(CancellationToken::is_cancelled) {
                let token = end.child_token();
                known.watch = Some(token.clone());
                unwatched.push((known.unit.clone(), token));
            }
        }
        unwatched
    }
}

impl Known {
    const fn of(unit: Unit) -> Self {
        Self { unit, newest: None, pushed: None, sync_wanted: true, watch: None }
    }

    fn note(&mut self, told: &Told) {
        self.newest = number(told).or(self.newest);
    }

    fn end_watch(&self) {
        self.watch.iter().for_each(CancellationToken::cancel);
    }
}

fn number(told: &Told) -> Option<(u64, Instant)> {
    told.proof.as_ref().map(|Proof { sequence, issued_at, .. }| (*sequence, *issued_at))
}

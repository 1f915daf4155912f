//! What each client has open, in lines, and which client has most.
//!
//! Not here: what makes room (see `gate`).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::peer::Origin;

/// What each client has, by number.
#[derive(Debug)]
pub(super) struct ByClient<T> {
    of: HashMap<Origin, BTreeMap<u64, Arc<T>>>,
    ranks: BTreeMap<Rank, Origin>,
}

/// How many a client has, and its first number: the last rank is that of who has most, and of those of who came first.
type Rank = (usize, Reverse<u64>);

impl<T> ByClient<T> {
    /// How many a client has.
    pub(super) fn count(&self, client: Origin) -> usize {
        self.of.get(&client).map_or(0, BTreeMap::len)
    }

    /// The first that a client has.
    pub(super) fn first(&self, client: Origin) -> Option<&Arc<T>> {
        self.of.get(&client)?.first_key_value().map(|(_, first)| first)
    }

    /// Those who have any, who has most first.
    pub(super) fn largest(&self) -> impl Iterator<Item = Origin> + '_ {
        self.ranks.values().rev().copied()
    }

    /// One more, with a number of its own.
    pub(super) fn insert(&mut self, client: Origin, number: u64, one: Arc<T>) {
        self.change(client, |line| line.insert(number, one));
    }

    /// One less, if it is there.
    pub(super) fn remove(&mut self, client: Origin, number: u64) -> Option<Arc<T>> {
        self.change(client, |line| line.remove(&number))
    }

    /// Changes the line of a client.
    pub(super) fn change<R>(
        &mut self,
        client: Origin,
        change: impl FnOnce(&mut BTreeMap<u64, Arc<T>>) -> R,
    ) -> R {
        let line = self.of.entry(client).or_default();
        let before = rank(line);
        let changed = change(line);
        let after = rank(line);
        if line.is_empty() {
            self.of.remove(&client);
        }
        if before != after {
            before.map(|before| self.ranks.remove(&before));
            after.map(|after| self.ranks.insert(after, client));
        }
        changed
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.ranks.is_empty()
    }
}

impl<T> Default for ByClient<T> {
    fn default() -> Self {
        Self { of: HashMap::new(), ranks: BTreeMap::new() }
    }
}

fn rank<T>(line: &BTreeMap<u64, Arc<T>>) -> Option<Rank> {
    line.first_key_value().map(|(first, _)| (line.len(), Reverse(*first)))
}

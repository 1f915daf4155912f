//! Places of units that watch: so many in all, and few for each unit, so that one credential does not take them all.
//!
//! Not here: what a watch tells (see the parent).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use tokio_util::sync::CancellationToken;

use super::hub::lock;

/// Watches of one unit; one more ends the oldest. The second is for a connection that was lost and is not missed yet, and
/// for two servers that share a credential (one was cloned), which would otherwise end each other's watch for ever.
const MOST_OF_A_UNIT: usize = 2;

/// The places, and who has them.
#[derive(Debug)]
pub(in crate::licensing) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    next: u64,
    /// Of each unit, the oldest first.
    of: HashMap<String, VecDeque<(u64, CancellationToken)>>,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    unit_id: String,
    number: u64,
    left: CancellationToken,
}

impl Places {
    pub(in crate::licensing) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for a watch of this unit, which ends with `stop`; none where other units have them all.
    pub(super) fn take(self: &Arc<Self>, unit_id: &str, stop: &CancellationToken) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let of_unit = taken.of.get(unit_id).map_or(0, VecDeque::len);
        if MOST_OF_A_UNIT <= of_unit || (self.most <= taken.count && 0 < of_unit) {
            taken.end_oldest(unit_id);
        } else if self.most <= taken.count {
            return None;
        }
        let (number, left) = (taken.next, stop.child_token());
        taken.next += 1;
        taken.count += 1;
        taken.of.entry(unit_id.to_owned()).or_default().push_back((number, left.clone()));
        Some(Place { places: Arc::clone(self), unit_id: unit_id.to_owned(), number, left })
    }
}

impl Taken {
    fn end_oldest(&mut self, unit_id: &str) {
        let oldest = self.of.get(unit_id).and_then(VecDeque::front).cloned();
        if let Some((number, left)) = oldest {
            left.cancel();
            self.free(unit_id, number);
        }
    }

    fn free(&mut self, unit_id: &str, number: u64) {
        let Some(of_unit) = self.of.get_mut(unit_id) else { return };
        let before = of_unit.len();
        of_unit.retain(|(other, _)| *other != number);
        self.count -= before - of_unit.len();
        if of_unit.is_empty() {
            self.of.remove(unit_id);
        }
    }
}

impl Place {
    /// Cancelled when the place is another's, or everybody's watch ends.
    pub(super) fn left(&self) -> &CancellationToken {
        &self.left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.taken).free(&self.unit_id, self.number);
    }
}

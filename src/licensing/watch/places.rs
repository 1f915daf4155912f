//! Places of units that watch: so many in all, few for each unit, and for each customer its share of what is scarce, so
//! that neither one credential nor one customer takes them all.
//!
//! Not here: what a watch tells (see the parent).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
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
    next: u64,
    count: usize,
    of: HashMap<String, OfCustomer>,
}

/// What the units of one customer have.
#[derive(Debug, Default)]
struct OfCustomer {
    /// The oldest first.
    watches: BTreeMap<u64, (String, CancellationToken)>,
    /// Of each unit, the oldest first.
    of_unit: HashMap<String, VecDeque<u64>>,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    customer_id: String,
    number: u64,
    left: CancellationToken,
}

impl Places {
    pub(in crate::licensing) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for a watch of this unit, which ends with `stop`. While any is free everybody may have it. Once all are
    /// taken, a customer that has less than its even share takes one of the customer that has the most; none where it has
    /// its share.
    pub(super) fn take(
        self: &Arc<Self>,
        customer_id: &str,
        unit_id: &str,
        stop: &CancellationToken,
    ) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let of_unit = taken.of.get(customer_id).and_then(|own| own.of_unit.get(unit_id));
        let oldest = of_unit.and_then(VecDeque::front).copied();
        let is_many = of_unit.is_some_and(|of_unit| MOST_OF_A_UNIT <= of_unit.len());
        let is_full = self.most <= taken.count;
        if let Some(oldest) = oldest.filter(|_| is_many || is_full) {
            taken.end(customer_id, oldest);
        } else if is_full {
            let (other, newest) = taken.spared_for(customer_id, self.most)?;
            taken.end(&other, newest);
        }
        let (number, left) = (taken.next, stop.child_token());
        taken.next += 1;
        taken.count += 1;
        let own = taken.of.entry(customer_id.to_owned()).or_default();
        own.watches.insert(number, (unit_id.to_owned(), left.clone()));
        own.of_unit.entry(unit_id.to_owned()).or_default().push_back(number);
        Some(Place { places: Arc::clone(self), customer_id: customer_id.to_owned(), number, left })
    }
}

impl Taken {
    /// The newest watch of the customer that has the most, if `customer_id` has less than its even share of `most`.
    fn spared_for(&self, customer_id: &str, most: usize) -> Option<(String, u64)> {
        let own = self.of.get(customer_id).map_or(0, |own| own.watches.len());
        let customers = self.of.len() + usize::from(own == 0);
        let (other, of_other) = self.of.iter().max_by_key(|(_, other)| other.watches.len())?;
        // Where there are more customers than places, whoever has one keeps it.
        let is_spared = own < most / customers && own + 1 < of_other.watches.len();
        let (newest, _) = of_other.watches.last_key_value().filter(|_| is_spared)?;
        Some((other.clone(), *newest))
    }

    fn end(&mut self, customer_id: &str, number: u64) {
        if let Some(left) = self.free(customer_id, number) {
            left.cancel();
        }
    }

    fn free(&mut self, customer_id: &str, number: u64) -> Option<CancellationToken> {
        let own = self.of.get_mut(customer_id)?;
        let (unit_id, left) = own.watches.remove(&number)?;
        self.count -= 1;
        if let Some(of_unit) = own.of_unit.get_mut(&unit_id) {
            of_unit.retain(|other| *other != number);
            if of_unit.is_empty() {
                own.of_unit.remove(&unit_id);
            }
        }
        if own.watches.is_empty() {
            self.of.remove(customer_id);
        }
        Some(left)
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
        lock(&self.places.taken).free(&self.customer_id, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_has_all_places_until_another_one_comes_and_its_even_share_from_then_on() {
        let (places, stop) = (Places::new(6), CancellationToken::new());
        let take = |customer: &str, unit: usize| places.take(customer, &format!("{customer} {unit}"), &stop);
        let mut acme: Vec<_> = (0..6).filter_map(|unit| take("acme", unit)).collect();
        assert_eq!(acme.len(), 6, "nobody else wants one");
        assert!(take("acme", 6).is_none());
        let mut brand: Vec<_> = (0..6).filter_map(|unit| take("brand", unit)).collect();
        assert_eq!(brand.len(), 3, "half of them");
        let ended: Vec<_> = acme.iter().map(|place| place.left().is_cancelled()).collect();
        assert_eq!(ended, [false, false, false, true, true, true], "the newest make room");
        acme.truncate(3);
        assert!(take("acme", 6).is_none(), "it has its share");
        let core: Vec<_> = (0..6).filter_map(|unit| take("core", unit)).collect();
        assert_eq!(core.len(), 2, "a third of them");
        let left = |places: &[Place]| places.iter().filter(|place| !place.left().is_cancelled()).count();
        assert_eq!((left(&acme), left(&brand)), (2, 2));
        // A unit takes the place of its own watch.
        let again = take("acme", 0).unwrap();
        assert!(acme[0].left().is_cancelled() && !again.left().is_cancelled());
        drop((acme, core, again));
        brand.extend((6..20).filter_map(|unit| take("brand", unit)));
        assert_eq!(left(&brand), 6, "what is free is anybody's again");
        drop(brand);
        let taken = lock(&places.taken);
        assert_eq!((taken.count, taken.of.len()), (0, 0));
    }

    #[test]
    fn where_there_are_more_customers_than_places_whoever_has_one_keeps_it() {
        let (places, stop) = (Places::new(2), CancellationToken::new());
        let take = |customer: &str| places.take(customer, "unit", &stop);
        let first = (take("acme").unwrap(), take("brand").unwrap());
        assert!(take("core").is_none());
        assert!(!first.0.left().is_cancelled() && !first.1.left().is_cancelled());
    }
}

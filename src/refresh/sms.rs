//! Which SMS have been counted: each id counts once (semantics 6.9).
//!
//! Not the credits themselves (see `book`). Only the latest ids are remembered; how many is configured.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use crate::domain::SubscriptionId;

/// The ids counted last.
#[derive(Debug)]
pub(super) struct CountedSms {
    known: HashSet<(SubscriptionId, Arc<str>)>,
    oldest_first: VecDeque<(SubscriptionId, Arc<str>)>,
    most: usize,
}

impl CountedSms {
    /// Remembers at most so many ids.
    #[must_use]
    pub(super) fn remembering(most: usize) -> Self {
        Self { known: HashSet::new(), oldest_first: VecDeque::new(), most }
    }

    /// Whether this id counts, which it does once.
    pub(super) fn counts(&mut self, subscription_id: SubscriptionId, sms_id: &str) -> bool {
        let key = (subscription_id, Arc::from(sms_id));
        if !self.known.insert(key.clone()) {
            return false;
        }
        self.oldest_first.push_back(key);
        if self.most < self.oldest_first.len()
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_counts_once_for_each_subscription_while_it_is_remembered()
    -> Result<(), crate::domain::facts::NotASubscriptionId> {
        let (one, other) = ("AAA-AAA-AAA".parse()?, "BBB-BBB-BBB".parse()?);
        let mut counted = CountedSms::remembering(2);
        assert!(counted.counts(one, "1"));
        assert!(!counted.counts(one, "1"));
        assert!(counted.counts(other, "1"));
        assert!(counted.counts(one, "2"), "the third id pushes out the first");
        assert!(!counted.counts(other, "1"));
        assert!(counted.counts(one, "1"), "forgotten, so it counts again");
        Ok(())
    }
}

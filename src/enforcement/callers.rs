//! Which caller is at the other end of a connection.
//!
//! The table may change while connections are open: each question is looked up in the table of its instant, so a right
//! that is taken away is gone at once. Not here: what a caller may ask.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::caller::{Caller, CallerRefusals};
use crate::{
    config::{self, Identity},
    edge::peer::{Origin, Peer},
};

/// All callers, by what they are known by.
#[derive(Debug)]
pub struct Callers {
    by_name: HashMap<String, Caller, RandomState>,
    by_user: HashMap<u32, Caller, RandomState>,
    loopback: Option<Caller>,
    other: Caller,
    nobody: Caller,
}

impl Callers {
    /// The callers of a table; without one, whoever reaches the listener may ask anything.
    #[must_use]
    pub fn of(table: Option<&[config::Caller]>) -> Self {
        let mut callers = Self {
            by_name: HashMap::default(),
            by_user: HashMap::default(),
            loopback: None,
            other: if table.is_some() { Caller::unknown() } else { Caller::trusted() },
            nobody: Caller::unknown(),
        };
        for row in table.unwrap_or_default() {
            let caller = Caller::of_row(row);
            match &row.identity {
                Identity::Certificate(name) => drop(callers.by_name.insert(name.clone(), caller)),
                Identity::User(user) => drop(callers.by_user.insert(*user, caller)),
                Identity::Loopback => callers.loopback = Some(caller),
            }
        }
        callers
    }

    /// The same, each having asked what it has asked by `earlier`: a table that is read again gives nobody a quota anew.
    #[must_use]
    pub fn having_asked(mut self, earlier: &Self) -> Self {
        let named = self.by_name.iter_mut().map(|(name, caller)| (caller, earlier.by_name.get(name)));
        let users = self.by_user.iter_mut().map(|(user, caller)| (caller, earlier.by_user.get(user)));
        let loopback = self.loopback.iter_mut().map(|caller| (caller, earlier.loopback.as_ref()));
        let others = [(&mut self.other, Some(&earlier.other)), (&mut self.nobody, Some(&earlier.nobody))];
        for (caller, earlier) in named.chain(users).chain(loopback).chain(others) {
            if let Some(earlier) = earlier {
                caller.go_on_from(earlier);
            }
        }
        self
    }

    /// Who this is. A certificate says more than the address it is shown from.
    #[must_use]
    pub fn find(&self, peer: &Peer) -> &Caller {
        if peer.is_outdated() {
            return &self.nobody;
        }
        let found = match (peer.names(), peer.origin()) {
            (Some(names), _) => names.0.iter().find_map(|name| self.by_name.get(name)),
            (None, Origin::User(user)) => self.by_user.get(&user),
            (None, Origin::Address(ip)) if ip.is_loopback() => self.loopback.as_ref(),
            (None, Origin::Address(_)) => None,
        };
        found.unwrap_or(&self.other)
    }

    /// How often each was refused, by what it is called.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<String, CallerRefusals> {
        let Self { by_name, by_user, loopback, other, nobody } = self;
        let mut refusals: BTreeMap<_, CallerRefusals> = BTreeMap::new();
        for caller in by_name.values().chain(by_user.values()).chain(loopback).chain([other, nobody]) {
            let (name, CallerRefusals { not_entitled, over_quota }) = caller.refusals();
            let all = refusals.entry(name.to_owned()).or_default();
            all.not_entitled += not_entitled;
            all.over_quota += over_quota;
        }
        refusals
    }

    /// Who asks within this process.
    #[must_use]
    pub const fn ourselves(&self) -> &Caller {
        &self.other
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::Quota;

    /// A program on this machine with a quota.
    fn table(per_second: u32, burst: u32) -> Callers {
        let [per_second, burst] = [per_second, burst].map(|number| NonZeroU32::new(number).unwrap());
        let row = config::Caller {
            name: "it".to_owned(),
            identity: Identity::Loopback,
            operations: std::collections::BTreeSet::new(),
            subscriptions: None,
            vouches_for_administrators: false,
            reads: true,
            reports_usage: false,
            refreshes: false,
            quota: Some(Quota { per_second, burst }),
        };
        Callers::of(Some(&[row]))
    }

    #[test]
    fn what_was_refused_is_counted_by_name_and_outlives_the_table() {
        let first = table(1, 3);
        let [spent, refused] = [3, 1].map(|count| first.loopback.as_ref().unwrap().spend(count).is_ok());
        assert!(spent && !refused && first.ourselves().may_ask_anything().is_err());
        let refusals = table(2, 9).having_asked(&first).refusals();
        let counted = |name: &str| (refusals[name].not_entitled, refusals[name].over_quota);
        assert_eq!((counted("it"), counted("unknown")), ((0, 1), (1, 0)));
    }

    #[test]
    fn a_table_that_is_read_again_gives_nobody_its_quota_anew() {
        let first = table(1, 3);
        let spends = |callers: &Callers, count| callers.loopback.as_ref().unwrap().spend(count).is_ok();
        assert!(spends(&first, 3));
        let again = table(1, 3).having_asked(&first);
        assert!(!spends(&again, 3));
        // Another quota is a new one.
        assert!(spends(&table(2, 3).having_asked(&again), 3));
    }
}

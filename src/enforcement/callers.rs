//! Which caller is at the other end of a connection.
//!
//! The table may change while connections are open: each question is looked up in the table of its instant, so a right
//! that is taken away is gone at once. Not here: what a caller may ask.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::caller::{Caller, CallerRefusals};
use crate::{
    config::{self, Identity},
    edge::{
        peer::{ClientKey, Origin, Peer},
        tls::{DnsName, Names},
    },
};

/// All callers, by what they are known by.
#[derive(Debug)]
pub struct Callers {
    /// Those of the table, in its order.
    rows: Vec<Caller>,
    by_dns: HashMap<DnsName, usize, RandomState>,
    by_uri: HashMap<String, usize, RandomState>,
    by_user: HashMap<u32, usize, RandomState>,
    loopback: Option<usize>,
    other: Caller,
    nobody: Caller,
    /// Whether there is a table.
    tells_apart: bool,
}

impl Callers {
    /// The callers of a table; without one, whoever reaches the listener may ask anything.
    #[must_use]
    pub fn of(table: Option<&[config::Caller]>) -> Self {
        let mut callers = Self {
            rows: Vec::new(),
            by_dns: HashMap::default(),
            by_uri: HashMap::default(),
            by_user: HashMap::default(),
            loopback: None,
            other: if table.is_some() { Caller::unknown() } else { Caller::trusted() },
            nobody: Caller::unknown(),
            tells_apart: table.is_some(),
        };
        for (position, row) in table.unwrap_or_default().iter().enumerate() {
            match &row.identity {
                Identity::Dns(name) => drop(callers.by_dns.insert(name.clone(), position)),
                Identity::Uri(uri) => drop(callers.by_uri.insert(uri.clone(), position)),
                Identity::User(user) => drop(callers.by_user.insert(*user, position)),
                Identity::Loopback => callers.loopback = Some(position),
            }
            callers.rows.push(Caller::of_row(row));
        }
        callers
    }

    /// The same, each having asked what it has asked by `earlier`: a table that is read again gives nobody a quota anew.
    #[must_use]
    pub fn having_asked(mut self, earlier: &Self) -> Self {
        let before: HashMap<_, _> = earlier.rows.iter().map(|caller| (caller.name(), caller)).collect();
        for caller in &mut self.rows {
            if let Some(earlier) = before.get(caller.name()) {
                caller.go_on_from(earlier);
            }
        }
        self.other.go_on_from(&earlier.other);
        self.nobody.go_on_from(&earlier.nobody);
        self
    }

    /// Who this is. A certificate says more than the address it is shown from.
    #[must_use]
    pub fn find(&self, peer: &Peer) -> &Caller {
        if peer.is_outdated() { &self.nobody } else { self.row(peer).unwrap_or(&self.other) }
    }

    /// Whether it is in the table, or there is none.
    #[must_use]
    pub fn knows(&self, peer: &Peer) -> bool {
        !self.tells_apart || (!peer.is_outdated() && self.row(peer).is_some())
    }

    /// Which client this is where each has a share. What tells callers apart tells shares apart: one that is not in the
    /// table has no other share for each name in its certificates.
    #[must_use]
    pub fn client_key(&self, peer: &Peer) -> ClientKey {
        match self.row(peer) {
            Some(caller) => ClientKey::Caller(caller.name().to_owned()),
            None if self.tells_apart => peer.place(),
            None => peer.client_key(),
        }
    }

    /// Its row. Where its names are those of several, the first in the table counts, whichever comes first in its
    /// certificate.
    fn row(&self, peer: &Peer) -> Option<&Caller> {
        let position = match (peer.names(), peer.origin()) {
            (Some(Names { dns, uris }), _) => {
                let dns = dns.iter().filter_map(|name| self.by_dns.get(name));
                dns.chain(uris.iter().filter_map(|uri| self.by_uri.get(uri))).min().copied()
            }
            (None, Origin::User(user)) => self.by_user.get(&user).copied(),
            (None, Origin::Address(ip)) if ip.is_loopback() => self.loopback,
            (None, Origin::Address(_)) => None,
        };
        self.rows.get(position?)
    }

    /// How often each was refused, by what it is called.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<String, CallerRefusals> {
        let mut refusals: BTreeMap<_, CallerRefusals> = BTreeMap::new();
        for caller in self.rows.iter().chain([&self.other, &self.nobody]) {
            let CallerRefusals { not_entitled, over_quota } = caller.refusals();
            let all = refusals.entry(caller.name().to_owned()).or_default();
            all.not_entitled += not_entitled;
            all.over_quota += over_quota;
        }
        refusals
    }

    /// Whether there is a table.
    pub(super) const fn tells_apart(&self) -> bool {
        self.tells_apart
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
        let [spent, refused] = [3, 1].map(|count| first.rows[0].spend(count).is_ok());
        assert!(spent && !refused && first.ourselves().may_ask_anything().is_err());
        let refusals = table(2, 9).having_asked(&first).refusals();
        let counted = |name: &str| (refusals[name].not_entitled, refusals[name].over_quota);
        assert_eq!((counted("it"), counted("unknown")), ((0, 1), (1, 0)));
    }

    #[test]
    fn a_table_that_is_read_again_gives_nobody_its_quota_anew() {
        let first = table(1, 3);
        let spends = |callers: &Callers, count| callers.rows[0].spend(count).is_ok();
        assert!(spends(&first, 3));
        let again = table(1, 3).having_asked(&first);
        assert!(!spends(&again, 3));
        // Another quota is a new one.
        assert!(spends(&table(2, 3).having_asked(&again), 3));
    }
}

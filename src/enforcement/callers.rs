//! Which caller is at the other end of a connection.
//!
//! The table may change while connections are open: each question is looked up in the table of its instant, so a right
//! that is taken away is gone at once. Not here: what a caller may ask.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::caller::Caller;
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

    /// Who asks within this process.
    #[must_use]
    pub const fn ourselves(&self) -> &Caller {
        &self.other
    }
}

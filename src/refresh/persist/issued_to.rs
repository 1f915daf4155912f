//! Whom facts on disk may have been issued to: the units of this server.
//!
//! A signature says that the backend issued them, and not to whom: those of another server, or of a unit that this server
//! has no more, would hold here for as long as nobody can be asked as that unit (semantics 5.5).

use std::collections::BTreeMap;

use crate::{
    domain::SubscriptionId,
    signing::{Refused, VerifiedFacts},
};

/// The units of this server, and the subscription it asks for where it has none.
#[derive(Clone, Debug, Default)]
pub struct IssuedTo {
    units: BTreeMap<String, SubscriptionId>,
    subscription: Option<SubscriptionId>,
}

impl IssuedTo {
    /// These units, each with its subscription, and a server that is not activated and asks for `subscription`.
    pub fn these(
        units: impl IntoIterator<Item = (String, SubscriptionId)>,
        subscription: Option<SubscriptionId>,
    ) -> Self {
        Self { units: units.into_iter().collect(), subscription }
    }

    /// Refuses facts that were issued to somebody else.
    pub(super) fn check(&self, told: &VerifiedFacts) -> Result<(), Refused> {
        let subscription = told.facts.subscription_id;
        let expected =
            if told.unit_id.is_empty() { self.subscription.as_ref() } else { self.units.get(&told.unit_id) };
        if expected == Some(&subscription) {
            return Ok(());
        }
        Err(Refused::NotOurs { unit_id: told.unit_id.clone(), subscription })
    }
}

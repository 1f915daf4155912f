//! The units sync: each hands over its usage and brings its facts.
//!
//! Not here: how a single question is asked (see `ask`).

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};

use super::{
    Shared,
    ask::{Asker, joined},
};
use crate::{
    domain::SubscriptionId,
    proto::licensing::SyncRequest,
    source::{Answer, Ask, Fetched, SourceError, Told, units::Unit, usage::UsageAnswer},
};

/// What became of several syncs.
#[derive(Default)]
struct AllSynced {
    told: Vec<Told>,
    failure: Option<SourceError>,
    usage_taken: BTreeMap<SubscriptionId, UsageAnswer>,
}

/// Units that sync at a time.
const SYNCS_AT_A_TIME: usize = 16;

impl Shared {
    /// Hands on what was pushed; only a unit that was told it is deactivated, or is new, syncs.
    pub(super) async fn catch_up(&self, ask: &Ask) -> Answer {
        let wanted = self.memory().take_sync_wanted();
        let synced = self.sync_each(wanted, ask).await;
        let AllSynced { mut told, failure, usage_taken } = synced;
        told.extend(self.memory().take_pushed());
        Answer { fetched: Ok(Fetched::Some { told, failure }), usage_taken }
    }

    /// Every unit syncs; a server without any asks what there is to say of its subscription.
    pub(super) async fn sync_all(&self, ask: &Ask) -> Answer {
        self.memory().refused_by = None;
        let units = self.memory().units();
        if units.is_empty() {
            return self.sync_unactivated().await.map(|told| Fetched::All(vec![told])).into();
        }
        drop(self.memory().take_sync_wanted());
        let meant_for = self.settings.subscription;
        let is_activated = units.iter().any(|unit| Some(unit.subscription_id) == meant_for);
        let AllSynced { mut told, mut failure, usage_taken } = self.sync_each(units, ask).await;
        if meant_for.is_some() && !is_activated {
            match self.sync_unactivated().await {
                Ok(not_activated) => told.push(not_activated),
                Err(error) => failure = Some(joined(failure.take(), error)),
            }
        }
        told.extend(self.memory().take_pushed());
        let fetched = match failure {
            None => Ok(Fetched::All(told)),
            Some(failure) if told.is_empty() => Err(failure),
            // One unit's failure hides no other's facts.
            failure => Ok(Fetched::Some { told, failure }),
        };
        Answer { fetched, usage_taken }
    }

    async fn sync_each(&self, units: Vec<Unit>, ask: &Ask) -> AllSynced {
        let syncs = units.into_iter().map(async |unit| {
            let synced = self.sync_renewed(&unit, ask).await;
            (unit.subscription_id, synced)
        });
        let mut syncs = stream::iter(syncs).buffer_unordered(SYNCS_AT_A_TIME);
        let mut all = AllSynced::default();
        while let Some((id, synced)) = syncs.next().await {
            match synced {
                Ok((told, answer)) => {
                    all.told.push(told);
                    // Only what it was given: what was handed over before may not have come through.
                    if ask.usage.contains_key(&id) {
                        all.usage_taken.insert(id, answer);
                    }
                }
                Err(error) => all.failure = Some(joined(all.failure.take(), error.of(id))),
            }
        }
        all
    }

    async fn sync_unactivated(&self) -> Result<Told, SourceError> {
        let subscription_id = self.settings.subscription.ok_or_else(|| {
            SourceError::Refused(
                "this server is not activated; activate it with `esa-sidecar activate`".to_owned(),
            )
        })?;
        let asker = Asker {
            unit_id: String::new(),
            subscription_id,
            name: format!("this server, which is not activated, for `{subscription_id}`"),
        };
        let request = SyncRequest { subscription_id: subscription_id.to_string(), ..SyncRequest::default() };
        let asked = self.ask(request, None, &asker).await;
        Ok(asked.map_err(|failure| SourceError::from(failure).of(subscription_id))?.told)
    }
}

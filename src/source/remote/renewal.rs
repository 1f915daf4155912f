//! A unit renews its secret: it stores the new one, tells its hash under the old one, and then uses it (semantics 7.28).
//!
//! Both are on disk until the new one has been used, so that a crash at any step leaves one that opens. Not here: how the
//! backend takes it.

use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{Shared, ask::Failure, usage};
use crate::{
    domain::{Instant, Span},
    source::{
        Ask, SourceError, Told,
        units::{Unit, Units},
        usage::UsageAnswer,
    },
};

impl Shared {
    /// A unit's sync, with its secret renewed when that is old, or when that had begun.
    pub(super) async fn sync_renewed(
        &self,
        unit: &Unit,
        ask: &Ask,
    ) -> Result<(Told, UsageAnswer), SourceError> {
        let usage = ask.usage.get(&unit.subscription_id);
        let held = ask.held.get(&unit.subscription_id).copied().unwrap_or_default();
        let (told, answer) = match (usage::sync(self, unit, usage, held).await, unit.renewed()) {
            (Ok(synced), _) => synced,
            // The new one was used before a crash.
            (Err(Failure { unauthenticated: true, .. }), Some(renewed)) => {
                let (told, answer) = usage::sync(self, &renewed, usage, held).await?;
                self.has_renewed(&renewed, &told).await;
                return Ok((told, answer));
            }
            (Err(failure), _) => return Err(failure.into()),
        };
        let begun = match &unit.next_secret {
            Some(_) => Some(unit.clone()),
            None if self.is_old(unit, &told) => self.begin_renewal(unit).await,
            None => None,
        };
        let Some((begun, renewed)) = begun.and_then(|begun| Some((begun.clone(), begun.renewed()?))) else {
            return Ok((told, answer));
        };
        if unit.next_secret.is_none() && usage::sync(self, &begun, None, held).await.is_err() {
            return Ok((told, answer));
        }
        // Who does not take it has not heard of it yet, or never will: the old one opens.
        let Ok((newer, _)) = usage::sync(self, &renewed, None, held).await else { return Ok((told, answer)) };
        self.has_renewed(&renewed, &newer).await;
        Ok((newer, answer))
    }

    fn is_old(&self, unit: &Unit, told: &Told) -> bool {
        let age = Span::from(self.settings.secret_age);
        // Units that were activated before secrets were renewed do not know since when they have theirs.
        issued_at(told).is_some_and(|now| unit.secret_since.is_none_or(|since| since + age <= now))
    }

    /// The unit with another secret on disk, which nobody knows yet.
    async fn begin_renewal(&self, unit: &Unit) -> Option<Unit> {
        let id = unit.unit_id.clone();
        self.change_unit(id, |unit| unit.begin_renewal().is_ok()).await
    }

    /// The new secret was used: the old one opens no more.
    async fn has_renewed(&self, renewed: &Unit, told: &Told) {
        let (id, secret, since) = (renewed.unit_id.clone(), renewed.secret.clone(), issued_at(told));
        let finish = move |unit: &mut Unit| unit.finish_renewal(&secret, since);
        if self.change_unit(id, finish).await.is_some() {
            info!(unit = renewed.unit_id, "the secret of this server was renewed");
        }
    }

    async fn change_unit(
        &self,
        id: String,
        change: impl FnOnce(&mut Unit) -> bool + Send + 'static,
    ) -> Option<Unit> {
        let file = self.units_file.clone();
        let change = move |units: &mut Units| {
            let unit = units.units.iter_mut().find(|unit| unit.unit_id == id)?;
            change(unit).then(|| unit.clone())
        };
        let changed = match spawn_blocking(move || file.change(change)).await {
            Ok(Ok(changed)) => changed,
            Ok(Err(error)) => {
                warn!("the secret of this server is not renewed: {error}");
                None
            }
            // The runtime is stopping.
            Err(_) => None,
        };
        if let Err(error) = self.read_units().await {
            warn!("the units were not read again: {error}");
        }
        changed
    }
}

fn issued_at(told: &Told) -> Option<Instant> {
    told.proof.as_ref().map(|proof| proof.issued_at)
}

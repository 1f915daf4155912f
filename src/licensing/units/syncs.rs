//! What is remembered of the syncs of a unit: its next secret, its SMS of a day, where it syncs from, what it held.
//!
//! Not here: the unit itself (see the parent), and what a sync does (see `licensing::sync`).

use sqlx::{Any, Executor, Row as _, any::AnyRow};

use crate::{
    domain::{Instant, Span},
    licensing::{
        actor::Actor,
        change::Change,
        store::{StoreError, instant, nanos},
    },
};

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::licensing) struct Syncs {
    /// Empty if it has none.
    pub(in crate::licensing) next_secret_sha256: String,
    pub(in crate::licensing) day_began: Instant,
    pub(in crate::licensing) sms_in_day: i64,
    pub(in crate::licensing) alarmed_at: Instant,
    pub(in crate::licensing) sms_since: i64,
    pub(in crate::licensing) credits_since: i64,
    pub(in crate::licensing) summed_at: Instant,
    pub(in crate::licensing) instances: String,
    pub(in crate::licensing) two_places_at: Option<Instant>,
    pub(in crate::licensing) held_sequence: i64,
    pub(in crate::licensing) went_back_at: Instant,
    /// When its renewals were last told of.
    pub(in crate::licensing) renewed_at: Instant,
    /// When it was last told of that a report of it went beyond the seats.
    pub(in crate::licensing) exceeded_at: Instant,
}

/// Sums of SMS stand in the audit log no more often than this.
pub(in crate::licensing) const SUMMED: Span = Span::from_nanos(3_600 * Span::SECOND.nanos());

/// Places a unit synced from that are remembered: it restarts less often than it syncs.
const PLACES: usize = 8;

/// A place that is not told; those that are have letters and digits.
const SILENT: &str = "-";

const COLUMNS: &str =
    "SELECT next_secret_sha256, day_began, sms_in_day, alarmed_at, sms_since, credits_since,
    summed_at, instances, two_places_at, held_sequence, went_back_at, renewed_at,
    exceeded_at FROM unit_syncs WHERE unit_id = $1";

impl Default for Syncs {
    fn default() -> Self {
        let never = instant(0);
        Self {
            next_secret_sha256: String::new(),
            day_began: never,
            sms_in_day: 0,
            alarmed_at: never,
            sms_since: 0,
            credits_since: 0,
            summed_at: never,
            instances: String::new(),
            two_places_at: None,
            held_sequence: 0,
            went_back_at: never,
            renewed_at: never,
            exceeded_at: never,
        }
    }
}

impl Syncs {
    /// What is remembered of a unit; nothing yet if it never synced.
    pub(in crate::licensing) async fn of<'e>(
        from: impl Executor<'e, Database = Any>,
        unit_id: &str,
    ) -> Result<Self, StoreError> {
        let row = sqlx::query(COLUMNS).bind(unit_id.to_owned()).fetch_optional(from).await?;
        Ok(row.as_ref().map(read).transpose()?.unwrap_or_default())
    }

    /// Keeps it.
    pub(in crate::licensing) async fn write(
        &self,
        change: &mut Change,
        unit_id: &str,
    ) -> Result<(), StoreError> {
        let write = sqlx::query(
            "INSERT INTO unit_syncs (unit_id, next_secret_sha256, day_began, sms_in_day, alarmed_at, sms_since,
                 credits_since, summed_at, instances, two_places_at, held_sequence, went_back_at, renewed_at,
                 exceeded_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             ON CONFLICT (unit_id) DO UPDATE SET next_secret_sha256 = $2, day_began = $3, sms_in_day = $4,
                 alarmed_at = $5, sms_since = $6, credits_since = $7, summed_at = $8, instances = $9,
                 two_places_at = $10, held_sequence = $11, went_back_at = $12, renewed_at = $13,
                 exceeded_at = $14",
        );
        let write = write.bind(unit_id.to_owned()).bind(self.next_secret_sha256.clone());
        let write = write.bind(nanos(self.day_began)).bind(self.sms_in_day).bind(nanos(self.alarmed_at));
        let write = write.bind(self.sms_since).bind(self.credits_since).bind(nanos(self.summed_at));
        let write = write.bind(self.instances.clone()).bind(self.two_places_at.map(nanos));
        let write =
            write.bind(self.held_sequence).bind(nanos(self.went_back_at)).bind(nanos(self.renewed_at));
        write.bind(nanos(self.exceeded_at)).execute(&mut *change.tx).await?;
        Ok(())
    }

    /// Adds what was counted to the sum, which is written to the audit log if the last one is old enough.
    pub(in crate::licensing) fn sum(
        &mut self,
        change: &mut Change,
        customer_id: &str,
        unit_id: &str,
        sms: i64,
        credits: i64,
    ) {
        self.sms_since = self.sms_since.saturating_add(sms);
        self.credits_since = self.credits_since.saturating_add(credits);
        if self.sms_since == 0 || change.at < self.summed_at + SUMMED {
            return;
        }
        let detail = format!("{} SMS, {} credits since the last sum", self.sms_since, self.credits_since);
        change.audit(Actor::unit(unit_id).did(customer_id, "unit.sms_sent", unit_id, detail));
        (self.sms_since, self.credits_since, self.summed_at) = (0, 0, change.at);
    }

    /// Whether a sync from `instance` with facts of number `held` is something to be noted at once.
    pub(in crate::licensing) fn differs(&self, instance: Option<&str>, held: Option<i64>) -> bool {
        let place = self.place(instance);
        let is_elsewhere = place.is_some() && self.instances.split(' ').next() != place;
        is_elsewhere || held.is_some_and(|held| held < self.held_sequence)
    }

    /// Where a sync came from that names `instance`. Silence is a place of its own once any was told: a copy must not go
    /// unseen by saying less.
    fn place<'a>(&self, instance: Option<&'a str>) -> Option<&'a str> {
        match instance? {
            "" if self.instances.is_empty() => None,
            "" => Some(SILENT),
            instance => Some(instance),
        }
    }

    /// Notes that the unit syncs from `instance`; whether it does from another one at the same time: one that another has
    /// taken the place of has come again.
    pub(in crate::licensing) fn seen_at(&mut self, instance: Option<&str>, at: Instant) -> bool {
        let Some(instance) = self.place(instance) else { return false };
        if self.instances.split(' ').next() == Some(instance) {
            return false;
        }
        let comes_again = self.instances.split(' ').any(|known| known == instance);
        let others = self.instances.split(' ').filter(|known| *known != instance && !known.is_empty());
        let places: Vec<&str> = std::iter::once(instance).chain(others).take(PLACES).collect();
        self.instances = places.join(" ");
        if comes_again {
            self.two_places_at = Some(at);
        }
        comes_again
    }
}

fn read(row: &AnyRow) -> Result<Syncs, StoreError> {
    let at = |column: &str| row.try_get::<i64, _>(column).map(instant);
    Ok(Syncs {
        next_secret_sha256: row.try_get("next_secret_sha256")?,
        day_began: at("day_began")?,
        sms_in_day: row.try_get("sms_in_day")?,
        alarmed_at: at("alarmed_at")?,
        sms_since: row.try_get("sms_since")?,
        credits_since: row.try_get("credits_since")?,
        summed_at: at("summed_at")?,
        instances: row.try_get("instances")?,
        two_places_at: row.try_get::<Option<i64>, _>("two_places_at")?.map(instant),
        held_sequence: row.try_get("held_sequence")?,
        went_back_at: at("went_back_at")?,
        renewed_at: at("renewed_at")?,
        exceeded_at: at("exceeded_at")?,
    })
}

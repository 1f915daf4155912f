//! Subscriptions: the facts that follow from licences and usage, kept so that they are read in one row.
//!
//! They are worked out anew at every change, and when time alone changes them: the overuse clock starts, holds and
//! clears here (semantics 2.9). Not here: how facts follow (see `domain::license`).

use std::{collections::BTreeSet, time::Duration};

use sqlx::{Any, Executor, Row as _, any::AnyRow};
use tokio_util::sync::CancellationToken;

use super::{
    Backend,
    authority::Agreement,
    change::Change,
    licenses,
    refusal::Refusal,
    store::{Store, StoreError, count, instant, nanos},
};
use crate::{
    domain::{
        Facts, Instant, Span, SubscriptionId,
        license::{self, License, Used},
    },
    proto::licensing::SeatKind,
    source::facts_json::{self, FactsJson, Object},
};

/// A subscription as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) id: SubscriptionId,
    pub(super) customer_id: String,
    pub(super) product: String,
    pub(super) seat_kind: SeatKind,
    /// Grows with every change of the facts or of a unit, and never goes back.
    pub(super) sequence: i64,
    /// The sequence it was raised to, facts or no facts (see `authority`).
    pub(super) raised_in: i64,
    /// As they are told to an active unit.
    pub(super) facts: Facts,
    /// When time alone changes them next.
    pub(super) turns_at: Instant,
    pub(super) totals: Totals,
}

/// What is used of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) active_units: i64,
    pub(super) active_users: i64,
    pub(super) all_users: i64,
    pub(super) components: i64,
}

const COLUMNS: &str = "SELECT subscription_id, customer_id, product, seat_kind, sequence, raised_in, facts,
    turns_at, active_units, active_users, all_users, components FROM subscriptions WHERE subscription_id = $1";

impl Subscription {
    /// One that has no licence yet; the first gives it its ID.
    pub(super) fn new(
        id: SubscriptionId,
        customer_id: &str,
        product: &str,
        seat_kind: SeatKind,
        at: Instant,
    ) -> Self {
        Self {
            id,
            customer_id: customer_id.to_owned(),
            product: product.to_owned(),
            seat_kind,
            sequence: 0,
            raised_in: 0,
            facts: license::pool(id, &[], Used::default(), None, at),
            turns_at: instant(i64::MAX),
            totals: Totals::default(),
        }
    }

    /// Reads it as it is kept.
    pub(super) async fn read<'e>(
        from: impl Executor<'e, Database = Any>,
        id: &str,
    ) -> Result<Option<Self>, StoreError> {
        let row = sqlx::query(COLUMNS).bind(id.to_owned()).fetch_optional(from).await?;
        row.as_ref().map(read).transpose()
    }

    /// Reads it for a change: nobody else changes it, its licences or its units until this change is whole. What time
    /// has changed since is caught up with first, each turn at its own instant.
    pub(super) async fn hold(change: &mut Change, id: &str) -> Result<Option<Self>, Refusal> {
        Ok(Self::hold_all(change, [id]).await?.pop())
    }

    /// The same of several, in the order of their IDs: those that there are.
    pub(super) async fn hold_all(
        change: &mut Change,
        ids: impl IntoIterator<Item = &str>,
    ) -> Result<Vec<Self>, Refusal> {
        let ids: BTreeSet<&str> = ids.into_iter().collect();
        let mut rows = Vec::new();
        for id in ids {
            let sql = change.holding(COLUMNS);
            rows.extend(sqlx::query(sql).bind(id.to_owned()).fetch_optional(&mut *change.tx).await?);
        }
        // Only now, so that no instant passes between one that is caught up and the change.
        change.locked();
        let mut subscriptions = Vec::new();
        for row in rows {
            subscriptions.push(Self::caught_up(change, &row).await?);
        }
        Ok(subscriptions)
    }

    async fn caught_up(change: &mut Change, row: &AnyRow) -> Result<Self, Refusal> {
        let mut subscription = read(row)?;
        if subscription.turns_at <= change.at {
            let licenses = licenses::of_subscription(change, &subscription.id).await?;
            while subscription.turns_at <= change.at {
                let turn = subscription.turns_at;
                if subscription.derive(&licenses, turn) {
                    subscription.sequence += 1;
                    change.touches(subscription.id.as_str());
                }
            }
            subscription.write(change).await?;
        }
        Ok(subscription)
    }

    /// Works its facts out anew from what is kept now, and keeps it. `unit_changed`: the state of a unit changed in
    /// sequence `self.sequence + 1`, which its watcher has to hear of.
    pub(super) async fn settle(&mut self, change: &mut Change, unit_changed: bool) -> Result<(), Refusal> {
        let licenses = licenses::of_subscription(change, &self.id).await?;
        if self.derive(&licenses, change.at) || unit_changed {
            self.sequence += 1;
            change.touches(self.id.as_str());
        }
        Ok(self.write(change).await?)
    }

    /// Whether the facts at `t` differ from those before.
    fn derive(&mut self, licenses: &[License], t: Instant) -> bool {
        // An overuse that began after the present began while our clock was ahead.
        let since = self.facts.users.overused_since.map(|since| since.min(t));
        let facts = license::pool(self.id, licenses, self.used(), since, t);
        self.turns_at = license::next_turn(licenses, t).unwrap_or(instant(i64::MAX));
        let changed = facts != self.facts;
        self.facts = facts;
        changed
    }

    fn used(&self) -> Used {
        let Totals { active_units, active_users, all_users, components } = self.totals;
        let seats = match self.seat_kind {
            SeatKind::Units => active_units,
            SeatKind::Users | SeatKind::Unspecified => active_users,
        };
        Used { seats: count(seats), all_users: count(all_users), components: count(components) }
    }

    /// Keeps it for the first time.
    pub(super) async fn insert(&self, change: &mut Change) -> Result<(), StoreError> {
        let insert = sqlx::query(
            "INSERT INTO subscriptions (subscription_id, customer_id, product, seat_kind, sequence, facts, turns_at,
                 active_units, active_users, all_users, components)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, 0)",
        );
        let insert = insert.bind(self.id.to_string()).bind(&self.customer_id).bind(&self.product);
        let insert = insert.bind(i64::from(i32::from(self.seat_kind))).bind(self.sequence);
        insert.bind(written(&self.facts)).bind(nanos(self.turns_at)).execute(&mut *change.tx).await?;
        Ok(())
    }

    async fn write(&self, change: &mut Change) -> Result<(), StoreError> {
        let update = sqlx::query(
            "UPDATE subscriptions SET sequence = $2, facts = $3, turns_at = $4,
                 active_units = $5, active_users = $6, all_users = $7, components = $8
             WHERE subscription_id = $1",
        );
        let Totals { active_units, active_users, all_users, components } = self.totals;
        let update = update.bind(self.id.to_string()).bind(self.sequence).bind(written(&self.facts));
        let update = update.bind(nanos(self.turns_at)).bind(active_units).bind(active_users);
        update.bind(all_users).bind(components).execute(&mut *change.tx).await?;
        Ok(())
    }
}

impl Backend {
    /// Brings about what time alone changes, until `stop`, and forgets answers nobody will ask for again.
    pub(super) async fn turn(self, stop: CancellationToken) {
        let mut agreement = Agreement::default();
        // By a clock that is not set back: one that once was far ahead must not keep answers for so long.
        let mut purge_at = tokio::time::Instant::now();
        let mut sms_at = purge_at;
        loop {
            let due = async {
                if let Err(error) = self.agree(&mut agreement).await {
                    tracing::warn!("the replicas' agreement was not looked at, tried again: {error}");
                }
                if let Err(refusal) = Store::retrying(|| self.turn_due()).await {
                    tracing::warn!("licences that ended were not looked at, tried again: {refusal}");
                }
                if purge_at <= tokio::time::Instant::now() {
                    purge_at = tokio::time::Instant::now() + self.settings.requests_kept.min(PURGED_EVERY);
                    if let Err(error) = self.purge().await {
                        tracing::warn!("old answers and sessions were not forgotten: {error}");
                    }
                }
                if sms_at <= tokio::time::Instant::now() {
                    sms_at = tokio::time::Instant::now() + SMS_LOOKED_AT_EVERY;
                    if let Err(error) = self.forget_sms().await {
                        tracing::warn!("old SMS were not forgotten, tried again: {error}");
                    }
                    if let Err(refusal) = Store::retrying(|| self.sum_sms()).await {
                        tracing::warn!(
                            "sums of SMS were not written to the audit log, tried again: {refusal}"
                        );
                    }
                }
                tokio::time::sleep(TURNS_LOOKED_AT_EVERY).await;
            };
            if stop.run_until_cancelled(due).await.is_none() {
                return;
            }
        }
    }

    async fn turn_due(&self) -> Result<(), Refusal> {
        let at = self.clock.now();
        let due = sqlx::query("SELECT subscription_id FROM subscriptions WHERE turns_at <= $1 LIMIT 1000");
        let due = due.bind(nanos(at)).fetch_all(self.store.reads()).await?;
        for row in due {
            let mut change = Change::begin(self).await?;
            Subscription::hold(&mut change, row.try_get("subscription_id")?).await?;
            self.told(change.keep().await?);
        }
        Ok(())
    }

    async fn purge(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let requests = sqlx::query("DELETE FROM requests WHERE made_at < $1");
        requests.bind(nanos(now - Span::from(self.settings.requests_kept))).execute(&mut *tx).await?;
        let sessions = sqlx::query("DELETE FROM sessions WHERE expires_at < $1 OR last_used_at < $2");
        let (now, used_after) = self.last_uses();
        sessions.bind(nanos(now)).bind(nanos(used_after)).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}

/// How often what has ended is forgotten.
const PURGED_EVERY: Duration = Duration::from_hours(1);

/// How often old SMS are forgotten, and sums are written.
const SMS_LOOKED_AT_EVERY: Duration = Duration::from_mins(10);

/// How often subscriptions are looked for that time has changed.
const TURNS_LOOKED_AT_EVERY: Duration = Duration::from_millis(500);

fn read(row: &AnyRow) -> Result<Subscription, StoreError> {
    let id: String = row.try_get("subscription_id")?;
    let facts: String = row.try_get("facts")?;
    let unreadable =
        |what: &dyn std::fmt::Display| StoreError::Unreadable(format!("subscription `{id}`: {what}"));
    let Object(facts): Object<FactsJson> =
        facts_json::read(facts.as_bytes()).map_err(|error| unreadable(&error))?;
    let seat_kind = i32::try_from(row.try_get::<i64, _>("seat_kind")?).unwrap_or_default();
    Ok(Subscription {
        id: id.parse().map_err(|_| unreadable(&"its ID"))?,
        customer_id: row.try_get("customer_id")?,
        product: row.try_get("product")?,
        seat_kind: SeatKind::try_from(seat_kind).map_err(|_| unreadable(&"seat_kind"))?,
        sequence: row.try_get("sequence")?,
        raised_in: row.try_get("raised_in")?,
        facts: facts.into(),
        turns_at: instant(row.try_get("turns_at")?),
        totals: Totals {
            active_units: row.try_get("active_units")?,
            active_users: row.try_get("active_users")?,
            all_users: row.try_get("all_users")?,
            components: row.try_get("components")?,
        },
    })
}

fn written(facts: &Facts) -> String {
    // Facts are numbers, texts and instants: there is no way to fail.
    serde_json::to_string(&FactsJson::from(facts)).unwrap_or_default()
}

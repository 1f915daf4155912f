//! Watches: units that wait for changes hear of them within a second, whichever replica made them.
//!
//! A change marks its subscription; what follows is read once for all watchers of it. Other replicas' changes are heard
//! from the database, and a poll finds whatever was not heard. A replica that cannot ask its database any more ends its
//! watches, so that units go to another one. Not here: what is told at a sync.

mod hub;
mod places;

use std::{sync::Arc, time::Duration};

use futures_core::Stream;
use futures_util::stream;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

pub(super) use self::{hub::Hub, places::Places};
use self::{
    hub::{State, Topic},
    places::Place,
};
use super::{
    Backend,
    change::Changed,
    proven::Proven,
    refusal::Refusal,
    store::StoreError,
    sync,
    turns::Asks,
    units::{self, Unit, list},
};
use crate::{
    domain::{Facts, Instant},
    proto::licensing::{SignedFacts, WatchResponse},
};

/// One watch: the unit, and what it was told last.
struct Watching {
    backend: Backend,
    unit: Unit,
    /// The hash of the secret it was opened with: it ends once that opens nothing any more.
    secret_sha256: String,
    nonce: Vec<u8>,
    state: watch::Receiver<State>,
    told: Option<News>,
    hearing: CancellationToken,
    ended: bool,
    place: Place,
    _topic: Arc<Topic>,
}

/// What a unit is told: the facts, since when it is deactivated if it is, and to which sequence it was raised.
type News = (Arc<Facts>, Option<Instant>, i64);

/// Subscriptions in one statement.
const CHUNK: usize = 500;

/// Polls that fail in a row until watches end.
const FAILED_POLLS: u32 = 3;

/// A poll that takes longer has failed: a database that is silent is as good as gone.
const LONGEST_POLL: Duration = Duration::from_secs(10);

impl Backend {
    /// What was changed is told to watchers.
    pub(super) fn told(&self, Changed(subscriptions): Changed) {
        self.hub.mark(subscriptions);
    }

    /// The facts as they are, and again at every change that concerns the unit.
    pub(super) async fn watch(
        &self,
        Proven { unit, customer_id }: Proven,
        secret_sha256: String,
        nonce: Vec<u8>,
    ) -> Result<impl Stream<Item = Result<WatchResponse, Status>> + use<>, Refusal> {
        let hearing = self.hub.hearing();
        if hearing.is_cancelled() {
            return Err(Refusal::Deaf);
        }
        let _turn = self.turn_to_read(Asks::Syncs, &unit.id, &customer_id).await?;
        let place = self.places.take(&customer_id, &unit.id, &self.stop).ok_or_else(|| {
            let most = self.settings.watches;
            let what = format!(
                "as many units watch as may ({most}), and this customer's have their share; sync at an interval, or raise \
                 `backend.watches`"
            );
            Refusal::TooMany(what)
        })?;
        let topic = self.hub.topic(&unit.subscription_id);
        let state = topic.state(&self.store).await?.subscribe();
        // What was answered before this watch began may not have been told to the topic yet.
        topic.refresh(&self.store).await?;
        // Read once the topic is joined: from here on nothing that happens to the unit is missed.
        let unit = units::by_id(self.store.syncs(), &unit.id).await?.unwrap_or(unit);
        if unit.secret_sha256 != secret_sha256 {
            return Err(Refusal::Unauthenticated(sync::REVOKED));
        }
        let watching = Watching {
            backend: self.clone(),
            unit,
            secret_sha256,
            nonce,
            state,
            told: None,
            hearing,
            ended: false,
            place,
            _topic: topic,
        };
        Ok(stream::unfold(watching, |mut watching| async {
            let told = watching.next().await?;
            Some((told, watching))
        }))
    }

    /// Tells watchers what changes until `stop`.
    pub(super) async fn tell_watchers(self, stop: CancellationToken) {
        let poll = async {
            let mut failed = 0;
            loop {
                tokio::time::sleep(self.settings.poll_interval).await;
                match timeout(LONGEST_POLL, self.poll()).await {
                    Ok(Ok(())) => failed = 0,
                    Ok(Err(error)) => {
                        failed += 1;
                        tracing::warn!("the database was not asked what changed, tried again: {error}");
                    }
                    Err(_) => {
                        failed += 1;
                        tracing::warn!("the database did not say what changed, tried again");
                    }
                }
                self.hub.hears(failed < FAILED_POLLS);
            }
        };
        let tell = async {
            loop {
                self.hub.mark.notified().await;
                for id in self.hub.take_marked() {
                    self.tell(id).await;
                }
            }
        };
        let all = async { tokio::join!(poll, tell, self.hear()) };
        stop.run_until_cancelled(all).await;
    }

    async fn tell(&self, id: String) {
        let Some(topic) = self.hub.watched(&id) else { return };
        if let Err(error) = topic.refresh(&self.store).await {
            tracing::warn!(subscription = id, "watchers were not told of a change, tried again: {error}");
            // The poll finds it again, for the sequence still differs.
        }
    }

    /// Marks what other replicas changed.
    async fn hear(&self) {
        if !self.store.notifies() {
            return;
        }
        loop {
            if let Err(error) = self.hear_until_lost().await {
                tracing::warn!("not hearing of other replicas' changes, polling until then: {error}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn hear_until_lost(&self) -> Result<(), StoreError> {
        let Some(mut listener) = self.store.listen().await? else { return Ok(()) };
        loop {
            match listener.try_recv().await? {
                Some(heard) => self.hub.mark([heard.payload().to_owned()]),
                // What was told while the connection was lost is not told again.
                None => self.hub.mark(self.hub.all()),
            }
        }
    }

    /// Marks what differs from what watchers were told.
    async fn poll(&self) -> Result<(), StoreError> {
        let topics = self.hub.all();
        if topics.is_empty() {
            // Whoever wants to watch is to know whether changes are heard.
            sqlx::query("SELECT 1").execute(self.store.syncs()).await?;
        }
        for ids in topics.chunks(CHUNK) {
            let sql = format!(
                "SELECT subscription_id, sequence FROM subscriptions WHERE subscription_id IN ({})",
                list(1, ids.len())
            );
            let query = ids.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, id| query.bind(id.clone()));
            for row in query.fetch_all(self.store.syncs()).await? {
                let (id, sequence): (String, i64) =
                    (row.try_get("subscription_id")?, row.try_get("sequence")?);
                let told = self.hub.watched(&id).and_then(|topic| topic.sequence());
                if told != Some(sequence) {
                    self.hub.mark([id]);
                }
            }
        }
        Ok(())
    }
}

impl Watching {
    /// Waits for the next change that concerns the unit; nothing once the backend stops, or the unit watches anew.
    async fn next(&mut self) -> Option<Result<WatchResponse, Status>> {
        loop {
            if self.ended || self.place.left().is_cancelled() {
                return None;
            }
            if self.hearing.is_cancelled() {
                self.ended = true;
                return Some(Err(Refusal::Deaf.into()));
            }
            let State { sequence, raised_in, facts, gone, secrets } = self.state.borrow_and_update().clone();
            if secrets.get(&self.unit.id).is_some_and(|secret| *secret != self.secret_sha256) {
                self.ended = true;
                return Some(Err(Refusal::Unauthenticated(sync::REVOKED).into()));
            }
            let since = gone.get(&self.unit.id).copied().or(self.unit.deactivated_at);
            let news: News = (facts, since, raised_in);
            // Facts are nothing that a deactivated unit is told.
            let is_old = self.told.as_ref().is_some_and(|told| {
                let same = since.is_some() || Arc::ptr_eq(&told.0, &news.0);
                same && told.1 == news.1 && told.2 == news.2
            });
            if !is_old {
                let told = self.signed(sequence, &news.0, since);
                self.told = Some(news);
                return Some(told.map(|facts| WatchResponse { facts: Some(facts) }).map_err(Status::from));
            }
            tokio::select! {
                // No sender is left only when the backend is gone.
                changed = self.state.changed() => changed.ok()?,
                () = self.place.left().cancelled() => {}
                () = self.hearing.cancelled() => {}
            }
        }
    }

    fn signed(&self, sequence: i64, facts: &Facts, since: Option<Instant>) -> Result<SignedFacts, Refusal> {
        let facts = since.map_or_else(|| facts.into(), |since| sync::deactivated(facts, since));
        self.backend.signed(sequence, facts, &self.unit.id, &self.nonce)
    }
}

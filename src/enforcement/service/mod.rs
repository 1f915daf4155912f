//! The nine calls of `EnforcementService`, each a few lines: read, load, hand on, wrap.
//!
//! Each call that comes by a connection has counted for its caller's quota as one question before it was read.
//! Not here: any rule, and any status (see `refusal`).

mod alike;
mod batch;
mod rights;
mod usage;

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt as _, stream::Map};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use self::batch::Batch;
use super::{
    answer::{Asked, is_exception},
    caller::{Caller, CallerRefusals, Right},
    callers::Callers,
    convert::{self, Unreadable},
    describe::describe,
    refusal::Refusal,
    simulate, table,
    tallied::{Outcome, Tallied},
    watch::{SubscriptionWatch, Told},
};
use crate::{
    cache::{Cache, Held, Missing, Snapshot},
    clock::Clock,
    config,
    domain::{SubscriptionId, Timeline},
    edge::{clients::Places, peer::Peer},
    freshness::Freshness,
    proto::enforcement::{self as api, enforcement_service_server::EnforcementService},
    refresh,
    source::{Origin, SourceError},
};

/// Answers from the cache. Cloning it is cheap and shares everything.
#[derive(Clone)]
pub struct Enforcement(Arc<Inner>);

struct Inner {
    cache: Arc<Cache>,
    clock: Arc<dyn Clock>,
    freshness: Arc<Freshness>,
    callers: ArcSwap<Callers>,
    /// Says that the callers are others.
    recognized: watch::Sender<()>,
    limits: config::Limits,
    refresh: refresh::Handle,
    watches: Places,
    /// Calls that wait for a refresh.
    refreshes: Places,
    drain: CancellationToken,
    tallied: Tallied,
}

type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Enforcement {
    /// Answers from `cache` by `clock`; open streams end with `drain`.
    #[must_use]
    pub fn new(
        cache: Arc<Cache>,
        clock: Arc<dyn Clock>,
        freshness: Freshness,
        callers: Callers,
        limits: config::Limits,
        refresh: refresh::Handle,
        drain: CancellationToken,
    ) -> Self {
        let places = |most| Places::new(most, limits.share(most));
        let (watches, refreshes) = (places(limits.watches), places(refresh.most_waiting()));
        let freshness = Arc::new(freshness);
        let callers = ArcSwap::from_pointee(callers);
        Self(Arc::new(Inner {
            cache,
            clock,
            freshness,
            callers,
            recognized: watch::Sender::new(()),
            limits,
            refresh,
            watches,
            refreshes,
            drain,
            tallied: Tallied::default(),
        }))
    }

    /// The answer to one question of `peer`.
    pub fn answer(
        &self,
        request: &api::AuthorizeRequest,
        peer: &Peer,
    ) -> Result<api::AuthorizeResponse, Status> {
        let callers = self.0.callers.load();
        Ok(self.0.answer(request, callers.find(peer))?)
    }

    /// How often what was answered.
    #[must_use]
    pub fn tallied(&self) -> &Tallied {
        &self.0.tallied
    }

    /// How often each caller was refused, by what it is called.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<String, CallerRefusals> {
        self.0.callers.load().refusals()
    }

    /// How many watches are open.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.0.watches.taken()
    }

    /// How much is taken.
    #[must_use]
    pub fn limits(&self) -> &config::Limits {
        &self.0.limits
    }
}

impl Inner {
    /// One question, one load, one instant.
    fn answer(
        &self,
        request: &api::AuthorizeRequest,
        caller: &Caller,
    ) -> Result<api::AuthorizeResponse, Refusal> {
        self.answer_paid(request, caller, caller.spend(1))
    }

    /// The same of one that counts for the caller's quota already, or is over it.
    fn answer_paid(
        &self,
        request: &api::AuthorizeRequest,
        caller: &Caller,
        paid: Result<(), Refusal>,
    ) -> Result<api::AuthorizeResponse, Refusal> {
        let answered = paid.and_then(|()| {
            let asked = Asked::read(request, caller)?;
            let held = self.cache.load(asked.subscription_id.as_ref());
            let held = held.as_deref().map_err(|missing| *missing);
            let answer = asked.answer(held, &self.freshness, self.clock.now())?;
            if is_exception(&answer) {
                asked.log_exception(held);
            }
            Ok(answer)
        });
        self.tallied.add(Outcome::of(request, &answered), 1);
        answered
    }

    fn held(&self, subscription_id: &str) -> Result<Held, Refusal> {
        let id = convert::subscription_id(subscription_id)?;
        Ok(self.cache.load(id.as_ref())?)
    }

    fn answer_streamed(
        &self,
        request: &api::StreamAuthorizeRequest,
        caller: &Caller,
        is_paid: bool,
    ) -> api::StreamAuthorizeResponse {
        let missing = || Refusal::from(Unreadable::new("question", "missing"));
        let paid = if is_paid { Ok(()) } else { caller.spend(1) };
        let answered = match &request.question {
            Some(question) => self.answer_paid(question, caller, paid),
            // It costs as much as one.
            None => {
                let refused = Err(paid.err().unwrap_or_else(missing));
                self.tallied.add(Outcome::of(&api::AuthorizeRequest::default(), &refused), 1);
                refused
            }
        };
        let result = match answered {
            Ok(answer) => api::stream_authorize_response::Result::Response(answer),
            Err(refusal) => api::stream_authorize_response::Result::Error(refusal.into_question_error()),
        };
        api::StreamAuthorizeResponse { result: Some(result) }
    }

    fn simulated(&self, request: &api::SimulateRequest) -> Result<api::Subscription, Refusal> {
        let api::SimulateRequest { subscription_id, facts, changes, change_mask, at } = request;
        let now = self.clock.now();
        let at = at.as_ref().map_or(Ok(now), |at| convert::instant(at, "at"))?;
        let (base, as_of, revision, origin) = match facts {
            Some(given) => (given.clone(), now, 0, Origin::Live),
            None => {
                let held = self.held(subscription_id)?;
                ((&held.facts).into(), held.as_of, held.revision, held.origin)
            }
        };
        let facts = simulate::changed(base, changes.as_ref(), change_mask.as_ref())?.with_overuse_seen(at);
        let timeline = Timeline::of(&facts);
        Ok(describe(&Snapshot { facts, timeline, as_of, revision, origin }, &self.freshness, None, None, at))
    }

    /// Refreshes; `hears` says what is told of a failure about a subscription.
    async fn refreshed(
        &self,
        subscription_id: &str,
        hears: impl Fn(&SourceError, Option<&SubscriptionId>) -> Option<String>,
    ) -> Result<api::RefreshSubscriptionResponse, Refusal> {
        let id = convert::subscription_id(subscription_id)?;
        if let (Some(id), Err(Missing::NotHeld(_))) = (id, self.cache.load(id.as_ref())) {
            return Err(Refusal::SubscriptionNotHeld(id));
        }
        let before = self.cache.load(id.as_ref()).ok().map(|held| held.revision);
        let outcome = self.refresh.refresh().await?;
        let held = self.cache.load(id.as_ref()).ok();
        let id = id.or(held.as_ref().map(|held| held.facts.subscription_id));
        let failed = match &outcome {
            refresh::Outcome::Failed(error) => hears(error, id.as_ref()),
            refresh::Outcome::Updated | refresh::Outcome::Unchanged => None,
        };
        let is_updated = match (id, &outcome) {
            // What became of others is not what was asked.
            (Some(_), _) => before != held.as_ref().map(|held| held.revision),
            (None, outcome) => *outcome == refresh::Outcome::Updated,
        };
        let (outcome, detail) = match failed {
            Some(detail) => (api::RefreshOutcome::Failed, detail),
            None if is_updated => (api::RefreshOutcome::Updated, String::new()),
            None => (api::RefreshOutcome::Unchanged, String::new()),
        };
        Ok(api::RefreshSubscriptionResponse {
            outcome: outcome.into(),
            detail,
            revision: held.as_ref().map_or(0, |held| held.revision),
            as_of: held.and_then(|held| convert::timestamp(held.as_of)),
        })
    }
}

#[tonic::async_trait]
impl EnforcementService for Enforcement {
    async fn authorize(
        &self,
        request: Request<api::AuthorizeRequest>,
    ) -> Result<Response<api::AuthorizeResponse>, Status> {
        let answer = |caller: &Caller| self.0.answer_paid(request.get_ref(), caller, Ok(()));
        let answer = self.with_caller(&request, answer);
        Ok(Response::new(answer?))
    }

    async fn batch_authorize(
        &self,
        request: Request<api::BatchAuthorizeRequest>,
    ) -> Result<Response<api::BatchAuthorizeResponse>, Status> {
        let questions = &request.get_ref().questions;
        let results = self.with_caller(&request, |caller| {
            caller.may_ask_anything()?;
            self.0.admit(caller, questions.len())?;
            let mut batch = Batch::of(&self.0, caller);
            Ok::<_, Refusal>(questions.iter().map(|question| batch.answer(question)).collect())
        });
        Ok(Response::new(api::BatchAuthorizeResponse { results: results? }))
    }

    type StreamAuthorizeStream = Answers<api::StreamAuthorizeResponse>;

    async fn stream_authorize(
        &self,
        request: Request<Streaming<api::StreamAuthorizeRequest>>,
    ) -> Result<Response<Self::StreamAuthorizeStream>, Status> {
        self.with_caller(&request, Caller::may_ask_anything)?;
        // A stream that asks nothing costs as much as one question.
        let mut is_paid = true;
        let service = self.clone();
        let drained = self.streams_end(&request).cancelled_owned();
        let peer = request.extensions().get::<Peer>().cloned();
        let questions = request.into_inner();
        // Each answer is made as its question is read, so they come in order and no more is held than the caller
        // takes. At drain the stream ends between two answers.
        let answers = questions.map(move |question| {
            let is_paid = std::mem::take(&mut is_paid);
            let answer = |question| {
                let answer = |caller: &Caller| service.0.answer_streamed(&question, caller, is_paid);
                service.with_peer(peer.as_ref(), answer)
            };
            question.map(answer)
        });
        Ok(Response::new(Box::pin(answers.take_until(drained))))
    }

    async fn get_subscription(
        &self,
        request: Request<api::GetSubscriptionRequest>,
    ) -> Result<Response<api::GetSubscriptionResponse>, Status> {
        self.require(&request, Right::Read, &request.get_ref().subscription_id)?;
        let held = self.0.held(&request.get_ref().subscription_id)?;
        let Inner { freshness, clock, refresh, .. } = &*self.0;
        let pending = refresh.pending(held.facts.subscription_id);
        let failure = refresh.failure().and_then(|failure| {
            self.with_caller(&request, |caller| caller.hears(&failure, &held.facts.subscription_id))
        });
        let subscription = Some(describe(&held, freshness, failure, Some(pending), clock.now()));
        Ok(Response::new(api::GetSubscriptionResponse { subscription }))
    }

    type WatchSubscriptionStream =
        Map<ReceiverStream<Told>, fn(Told) -> Result<api::WatchSubscriptionResponse, Status>>;

    async fn watch_subscription(
        &self,
        request: Request<api::WatchSubscriptionRequest>,
    ) -> Result<Response<Self::WatchSubscriptionStream>, Status> {
        self.require(&request, Right::Read, &request.get_ref().subscription_id)?;
        let id = convert::subscription_id(&request.get_ref().subscription_id).map_err(Refusal::from)?;
        let place = self.0.watches.take(self.client_of(&request));
        let watch = SubscriptionWatch {
            watch: self.0.cache.watch(id.as_ref()).map_err(Refusal::from)?,
            clock: Arc::clone(&self.0.clock),
            freshness: Arc::clone(&self.0.freshness),
            sync: self.0.refresh.sync(),
            refresh: self.0.refresh.clone(),
            drain: self.streams_end(&request),
            enforcement: self.clone(),
            peer: request.extensions().get::<Peer>().cloned(),
            recognized: self.recognized(),
            _place: place.map_err(Refusal::TooManyWatches)?,
        };
        let (caller, descriptions) = mpsc::channel(1);
        tokio::spawn(watch.run(caller));
        let told: fn(Told) -> _ = |told| *told;
        Ok(Response::new(ReceiverStream::new(descriptions).map(told)))
    }

    async fn report_usage(
        &self,
        request: Request<api::ReportUsageRequest>,
    ) -> Result<Response<api::ReportUsageResponse>, Status> {
        self.require(&request, Right::ReportUsage, &request.get_ref().subscription_id)?;
        Ok(Response::new(self.0.report(request.into_inner()).await?))
    }

    async fn refresh_subscription(
        &self,
        request: Request<api::RefreshSubscriptionRequest>,
    ) -> Result<Response<api::RefreshSubscriptionResponse>, Status> {
        self.require(&request, Right::Refresh, &request.get_ref().subscription_id)?;
        let place = self.0.refreshes.take(self.client_of(&request));
        let _place = place.map_err(|_| Refusal::TooManyRefreshes)?;
        let hears = |failure: &SourceError, id: Option<&SubscriptionId>| {
            self.with_caller(&request, |caller| match id {
                Some(id) => caller.hears(failure, id),
                None => Some(caller.hears_of_all(failure)),
            })
        };
        Ok(Response::new(self.0.refreshed(&request.get_ref().subscription_id, hears).await?))
    }

    async fn get_restriction_table(
        &self,
        _request: Request<api::GetRestrictionTableRequest>,
    ) -> Result<Response<api::GetRestrictionTableResponse>, Status> {
        Ok(Response::new(table::response()))
    }

    async fn simulate(
        &self,
        request: Request<api::SimulateRequest>,
    ) -> Result<Response<api::SimulateResponse>, Status> {
        self.require(&request, Right::Read, &request.get_ref().subscription_id)?;
        let subscription = Some(self.0.simulated(request.get_ref())?);
        Ok(Response::new(api::SimulateResponse { subscription }))
    }
}

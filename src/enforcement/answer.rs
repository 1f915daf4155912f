//! One question to one answer: read it, load once, decide, say how old the facts are.
//!
//! Not here: the transport. The same code answers `Authorize`, a batch and a stream.

use std::time::Duration;

use tracing::info;

use crate::{
    cache::{Missing, Snapshot},
    config,
    domain::{Instant, Operation, Question, Span, SubscriptionId, decision},
    enforcement::{
        caller::{Caller, VouchedRole},
        convert::{self, Unreadable},
        refusal::Refusal,
    },
    names::Named as _,
    proto::enforcement as api,
};

/// Longest id of an actor, in bytes: it goes into the log.
const LONGEST_ACTOR_ID: usize = 256;

/// A question that reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) subscription_id: Option<SubscriptionId>,
    question: Question,
    role_not_vouched: bool,
    actor_id: &'a str,
}

/// How old facts may be, in the shape the decision path needs (semantics 5.3).
#[derive(Clone, Debug)]
pub(super) struct Freshness {
    stale_after: Duration,
    unavailable_after: Option<Duration>,
    /// In the order of `Operation::ALL`.
    operations: [Option<Duration>; 12],
}

impl<'a> Asked<'a> {
    /// Reads a question of `caller`.
    pub(super) fn read(request: &'a api::AuthorizeRequest, caller: Caller) -> Result<Self, Unreadable> {
        let api::AuthorizeRequest { subscription_id, operation, actor, sms_delivery } = request;
        let (role, actor_id) = actor.as_ref().map_or((0, ""), |api::Actor { role, id }| (*role, id.as_str()));
        if LONGEST_ACTOR_ID < actor_id.len() {
            let what = format!("{} bytes; at most {LONGEST_ACTOR_ID} are taken", actor_id.len());
            return Err(Unreadable::new("actor.id", what));
        }
        let VouchedRole { role, not_vouched } = caller.vouch(convert::role(role)?);
        Ok(Self {
            subscription_id: convert::subscription_id(subscription_id)?,
            question: Question {
                operation: convert::operation(*operation)?,
                role,
                sms_delivery: convert::sms_delivery(*sms_delivery)?,
            },
            role_not_vouched: not_vouched,
            actor_id,
        })
    }

    /// Answers from a snapshot, or from none where the answer is the same in every state (semantics 4.5).
    pub(super) fn answer(
        &self,
        held: Result<&Snapshot, Missing>,
        freshness: &Freshness,
        now: Instant,
    ) -> Result<api::AuthorizeResponse, Refusal> {
        let answer = match held {
            Ok(snapshot) => self.by_snapshot(snapshot, freshness, now)?,
            Err(Missing::NoFacts) => self.without_facts().ok_or(Refusal::NoFacts)?,
            Err(missing @ (Missing::NotHeld(_) | Missing::Ambiguous { .. })) => return Err(missing.into()),
        };
        if answer.reason == i32::from(api::Reason::AdministratorException) {
            self.log_exception(held.ok());
        }
        Ok(answer)
    }

    fn by_snapshot(
        &self,
        snapshot: &Snapshot,
        freshness: &Freshness,
        now: Instant,
    ) -> Result<api::AuthorizeResponse, Refusal> {
        let age = age(snapshot.as_of, now);
        if let Some(most) = freshness.unavailable_after(self.question.operation)
            && most < age
            && decision::without_facts(self.question).is_none()
        {
            return Err(Refusal::FactsTooOld { age, most });
        }
        let decision = decision::decide(&snapshot.timeline, self.question, now);
        Ok(api::AuthorizeResponse {
            access: api::Access::from(decision.access()).into(),
            state: api::SubscriptionState::from(decision.state).into(),
            reason: api::Reason::from(decision.reason).into(),
            until: decision.until.and_then(convert::timestamp),
            as_of: convert::timestamp(snapshot.as_of),
            revision: snapshot.revision,
            stale: freshness.is_stale(age),
            role_not_vouched: self.role_not_vouched,
        })
    }

    fn without_facts(&self) -> Option<api::AuthorizeResponse> {
        decision::without_facts(self.question).map(|reason| api::AuthorizeResponse {
            access: api::Access::from(reason.access()).into(),
            state: api::SubscriptionState::Unspecified.into(),
            reason: api::Reason::from(reason).into(),
            until: None,
            as_of: None,
            revision: 0,
            stale: true,
            role_not_vouched: self.role_not_vouched,
        })
    }

    /// Always logged, whatever the level (semantics 4.3).
    fn log_exception(&self, snapshot: Option<&Snapshot>) {
        info!(
            target: crate::telemetry::ADMINISTRATOR_EXCEPTION,
            subscription_id = snapshot.map_or("", |snapshot| snapshot.facts.subscription_id.as_str()),
            operation = self.question.operation.name(),
            actor_id = self.actor_id,
            "allowed to an administrator by footnote 3"
        );
    }
}

impl Freshness {
    pub(super) fn new(staleness: &config::Staleness) -> Self {
        let config::Staleness { stale_after, unavailable_after, operations } = staleness;
        Self {
            stale_after: *stale_after,
            unavailable_after: *unavailable_after,
            operations: Operation::ALL.map(|operation| operations.get(operation.name()).copied()),
        }
    }

    pub(super) fn is_stale(&self, age: Duration) -> bool {
        self.stale_after < age
    }

    /// The instant from which facts of `as_of` are stale.
    pub(super) fn stale_from(&self, as_of: Instant) -> Instant {
        (as_of + Span::from(self.stale_after)).next()
    }

    fn unavailable_after(&self, operation: Operation) -> Option<Duration> {
        let own = self.operations.get(operation as usize).copied().flatten();
        own.into_iter().chain(self.unavailable_after).min()
    }
}

/// How old facts of `as_of` are at `now`.
pub(super) fn age(as_of: Instant, now: Instant) -> Duration {
    u64::try_from((now - as_of).nanos().max(0)).map_or(Duration::MAX, Duration::from_nanos)
}

#[cfg(test)]
mod tests;

//! One question to one answer: read it, load once, decide, say how old the facts are.
//!
//! Not here: the transport. The same code answers `Authorize`, a batch and a stream.

use tracing::info;

use crate::{
    cache::{Missing, Snapshot},
    domain::{Instant, Question, SubscriptionId, decision},
    enforcement::{
        caller::{Caller, VouchedRole},
        convert::{self, Unreadable},
        refusal::Refusal,
    },
    freshness::{self, Freshness},
    names::Named as _,
    proto::enforcement as api,
};

/// Longest id of an actor, in bytes: it goes into the log.
pub(super) const LONGEST_ACTOR_ID: usize = 256;

/// A question that reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    caller: &'a Caller,
    pub(super) subscription_id: Option<SubscriptionId>,
    question: Question,
    role_not_vouched: bool,
    actor_id: &'a str,
}

impl<'a> Asked<'a> {
    /// Reads a question of `caller`.
    pub(super) fn read(request: &'a api::AuthorizeRequest, caller: &'a Caller) -> Result<Self, Refusal> {
        let api::AuthorizeRequest { subscription_id, operation, actor, sms_delivery } = request;
        let (role, actor_id) = actor.as_ref().map_or((0, ""), |api::Actor { role, id }| (*role, id.as_str()));
        if LONGEST_ACTOR_ID < actor_id.len() {
            let what = format!("{} bytes; at most {LONGEST_ACTOR_ID} are taken", actor_id.len());
            return Err(Unreadable::new("actor.id", what).into());
        }
        let VouchedRole { role, not_vouched } = caller.vouch(convert::role(role)?);
        let subscription_id = convert::subscription_id(subscription_id)?;
        let question = Question {
            operation: convert::operation(*operation)?,
            role,
            sms_delivery: convert::sms_delivery(*sms_delivery)?,
        };
        caller.may_ask(question.operation)?;
        // Refused whether it is held or not: what is held is not a stranger's business.
        subscription_id.as_ref().map_or(Ok(()), |id| caller.may_name(id))?;
        Ok(Self { caller, subscription_id, question, role_not_vouched: not_vouched, actor_id })
    }

    /// Answers from a snapshot, or from none where the answer is the same in every state (semantics 4.5).
    pub(super) fn answer(
        &self,
        held: Result<&Snapshot, Missing>,
        freshness: &Freshness,
        now: Instant,
    ) -> Result<api::AuthorizeResponse, Refusal> {
        match held {
            Ok(snapshot) => {
                if self.subscription_id.is_none() {
                    self.caller.may_hear_of(&snapshot.facts.subscription_id)?;
                }
                self.by_snapshot(snapshot, freshness, now)
            }
            Err(Missing::NoFacts) => self.without_facts().ok_or(Refusal::NoFacts),
            Err(missing @ Missing::NotHeld(_)) => Err(missing.into()),
            Err(missing @ Missing::Ambiguous { .. }) => {
                self.caller.may_hear_of_all()?;
                Err(missing.into())
            }
        }
    }

    fn by_snapshot(
        &self,
        snapshot: &Snapshot,
        freshness: &Freshness,
        now: Instant,
    ) -> Result<api::AuthorizeResponse, Refusal> {
        let Question { operation, .. } = self.question;
        // What is the same in every state needs no facts, so none are too old for it (semantics 4.5).
        let needs_facts = decision::without_facts(self.question).is_none();
        if let Some(most) = freshness.refuses(operation, snapshot.as_of, now).filter(|_| needs_facts) {
            return Err(Refusal::FactsTooOld { age: freshness::age(snapshot.as_of, now), most });
        }
        let decision = decision::decide(&snapshot.timeline, self.question, now);
        // An answer that may be remembered must not outlive the facts it may be given from.
        let refused_from = freshness.refused_from(operation, snapshot.as_of).filter(|_| needs_facts);
        let until = decision.until.into_iter().chain(refused_from).min();
        Ok(api::AuthorizeResponse {
            access: api::Access::from(decision.access()).into(),
            state: api::SubscriptionState::from(decision.state).into(),
            reason: api::Reason::from(decision.reason).into(),
            until: until.and_then(convert::timestamp),
            as_of: convert::timestamp(snapshot.as_of),
            revision: snapshot.revision,
            stale: freshness.is_stale(snapshot.as_of, now),
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

    /// Logs that it was answered by footnote 3, whatever the level (semantics 4.3).
    pub(super) fn log_exception(&self, held: Result<&Snapshot, Missing>) {
        info!(
            target: crate::telemetry::ADMINISTRATOR_EXCEPTION,
            subscription_id = held.map_or("", |snapshot| snapshot.facts.subscription_id.as_str()),
            operation = self.question.operation.name(),
            caller = self.caller.name(),
            actor_id = self.actor_id,
            "allowed to an administrator by footnote 3"
        );
    }
}

/// Whether somebody was allowed by footnote 3 what its state denies.
pub(super) fn is_exception(answer: &api::AuthorizeResponse) -> bool {
    answer.reason == i32::from(api::Reason::AdministratorException)
}

#[cfg(test)]
mod tests;

//! A batch: all its questions are put to one snapshot of each subscription, at one instant.
//!
//! A batch of many is asked by whoever draws a page, and most of its questions are the same few over and over, each of
//! another actor: what is alike has the same answer, which is decided on and written once. Not here: one question (see
//! `answer`).

use std::{collections::HashMap, ops::Range};

use bytes::Bytes;
use foldhash::fast::RandomState;
use prost::{DecodeError, Message};
use tonic::Status;

use super::{
    Enforcement, Inner,
    alike::{self, Likeness},
};
use crate::{
    cache::{Held, Missing},
    domain::{Instant, SubscriptionId},
    edge::peer::Peer,
    enforcement::{
        answer::{Asked, is_exception},
        caller::Caller,
        refusal::Refusal,
        tallied::Outcome,
    },
    proto::enforcement::{self as api, batch_authorize_result::Result as Answered},
};

/// What is held while a batch is answered.
pub(super) struct Batch<'a> {
    inner: &'a Inner,
    caller: &'a Caller,
    now: Instant,
    loaded: HashMap<SubscriptionId, Result<Held, Missing>, RandomState>,
    /// What is held where a question names nothing.
    unnamed: Option<Result<SubscriptionId, Missing>>,
}

/// An answer that other questions share.
struct Shared {
    written: Range<usize>,
    outcome: Outcome,
    /// How many have it.
    times: u64,
}

/// `BatchAuthorizeRequest`, its questions as they came.
#[derive(Clone, PartialEq, Message)]
struct Questions {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    questions: Vec<Bytes>,
}

/// `BatchAuthorizeResponse` with one answer: many of them, one after the other, are one with many answers.
#[derive(Clone, PartialEq, Message)]
struct OneAnswer {
    #[prost(message, optional, tag = "1")]
    results: Option<api::BatchAuthorizeResult>,
}

/// What an answer takes as a rule.
const ANSWER_BYTES: usize = 64;

impl Enforcement {
    /// Appends the answer to a batch of `peer` to `written`; both are messages as they are sent.
    pub fn answer_batch(&self, request: Bytes, peer: &Peer, written: &mut Vec<u8>) -> Result<(), Status> {
        let callers = self.0.callers.load();
        let caller = callers.find(peer);
        // One that asks nothing, or does not read, costs as much as one question.
        caller.spend(1)?;
        // Refused one by one its questions would cost more than answers.
        caller.may_ask_anything()?;
        let unreadable =
            |what: String, error| Status::invalid_argument(format!("{what} does not read: {error}"));
        let mut read = Questions::default();
        let questions =
            taken_apart(&request, &mut read).map_err(|error| unreadable("the message".to_owned(), error))?;
        self.0.admit(caller, questions.len())?;
        let mut batch = Batch::of(&self.0, caller);
        written.reserve(questions.len().saturating_mul(ANSWER_BYTES));
        let mut answered: HashMap<Likeness<'_>, Shared, RandomState> = HashMap::default();
        let (mut alone, mut exceptions) = (Vec::new(), Vec::new());
        let mut question = api::AuthorizeRequest::default();
        for (position, asked) in questions.into_iter().enumerate() {
            let likeness = Likeness::of(asked);
            if let Some(shared) = likeness.and_then(|likeness| answered.get_mut(&likeness)) {
                written.extend_from_within(shared.written.clone());
                shared.times += 1;
                continue;
            }
            question.clear();
            question.merge(asked).map_err(|error| unreadable(format!("questions[{position}]"), error))?;
            let answer = batch.decided(&question);
            let outcome = Outcome::of(&question, &answer);
            // Each use of footnote 3 is logged (semantics 4.3), and each refusal is its caller's.
            let is_shared = match &answer {
                Ok(answer) if is_exception(answer) => {
                    exceptions.push(question.clone());
                    false
                }
                Ok(_) => true,
                Err(refusal) => !matches!(refusal, Refusal::NotEntitled { .. }),
            };
            let begin = written.len();
            OneAnswer { results: Some(in_batch(answer)) }.encode_raw(written);
            match likeness.filter(|_| is_shared) {
                Some(likeness) => {
                    let shared = Shared { written: begin..written.len(), outcome, times: 1 };
                    answered.insert(likeness, shared);
                }
                None => alone.push(outcome),
            }
        }
        // Only now: a batch of which one question does not read is refused as a whole, and nobody was allowed anything.
        exceptions.iter().for_each(|question| batch.log_exception(question));
        alone.into_iter().for_each(|outcome| self.0.tallied.add(outcome, 1));
        answered.into_values().for_each(|Shared { outcome, times, .. }| self.0.tallied.add(outcome, times));
        Ok(())
    }
}

/// The questions of `request`, where they arrived if it is as usual, and else from what is `read` of it.
fn taken_apart<'a>(request: &'a Bytes, read: &'a mut Questions) -> Result<Vec<&'a [u8]>, DecodeError> {
    if let Some(questions) = alike::questions(request) {
        return Ok(questions);
    }
    *read = Questions::decode(request.clone())?;
    Ok(read.questions.iter().map(AsRef::as_ref).collect())
}

fn in_batch(answer: Result<api::AuthorizeResponse, Refusal>) -> api::BatchAuthorizeResult {
    let result = match answer {
        Ok(answer) => Answered::Response(answer),
        Err(refusal) => Answered::Error(refusal.into_question_error()),
    };
    api::BatchAuthorizeResult { result: Some(result) }
}

impl Inner {
    /// Whether a batch of so many questions is answered; all but one, which its call was, count for the caller's quota.
    pub(super) fn admit(&self, caller: &Caller, count: usize) -> Result<(), Refusal> {
        let most = self.limits.batch_questions;
        if most < count {
            return Err(Refusal::TooMany { field: "questions", count, most });
        }
        caller.spend_rest(count)
    }
}

impl<'a> Batch<'a> {
    /// A batch of `caller`, of this instant.
    pub(super) fn of(inner: &'a Inner, caller: &'a Caller) -> Self {
        Self { inner, caller, now: inner.clock.now(), loaded: HashMap::default(), unnamed: None }
    }

    /// The answer to one of its questions.
    pub(super) fn answer(&mut self, question: &api::AuthorizeRequest) -> api::BatchAuthorizeResult {
        let answer = self.decided(question);
        if answer.as_ref().is_ok_and(is_exception) {
            self.log_exception(question);
        }
        self.inner.tallied.add(Outcome::of(question, &answer), 1);
        in_batch(answer)
    }

    fn decided(&mut self, question: &api::AuthorizeRequest) -> Result<api::AuthorizeResponse, Refusal> {
        let asked = Asked::read(question, self.caller)?;
        let (inner, now) = (self.inner, self.now);
        asked.answer(self.held(asked.subscription_id).map(|held| &**held), &inner.freshness, now)
    }

    /// Logs that `question` was answered by footnote 3.
    fn log_exception(&mut self, question: &api::AuthorizeRequest) {
        if let Ok(asked) = Asked::read(question, self.caller) {
            asked.log_exception(self.held(asked.subscription_id).map(|held| &**held));
        }
    }

    /// The snapshot this batch has of a subscription; the same whether it is named or the only one.
    fn held(&mut self, named: Option<SubscriptionId>) -> Result<&Held, Missing> {
        let cache = &self.inner.cache;
        let id = match (named, self.unnamed) {
            (Some(id), _) => id,
            (None, Some(known)) => known?,
            (None, None) => {
                let known = cache.load(None).map(|held| held.facts.subscription_id);
                *self.unnamed.insert(known)
            }?,
        };
        self.loaded.entry(id).or_insert_with(|| cache.load(Some(&id))).as_ref().map_err(|missing| *missing)
    }
}

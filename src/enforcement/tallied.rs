//! How often what was answered, and how often there was no answer.
//!
//! Not here: who is shown this (see `server::metrics`).

use crate::{
    domain::{Operation, Reason},
    enforcement::refusal::Refusal,
    names::Named,
    proto::enforcement as api,
    tally::{Tallies, Tally},
};

/// Of questions since the start, whether they came one by one, in a batch or on a stream.
#[derive(Debug, Default)]
pub struct Tallied {
    decisions: Tallies<{ Operation::ALL.len() * REASONS }>,
    stale: Tally,
    not_vouched: Tally,
    refused: Tallies<{ Refusal::OF_QUESTIONS.len() }>,
}

const REASONS: usize = <Reason as Named>::ALL.len();

/// What an answer counts as, or that there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A decision, by its place among them.
    Answered { decision: usize, stale: bool, not_vouched: bool },
    /// A refusal, by the place of its reason.
    Refused(usize),
}

impl Outcome {
    /// What came of `question`.
    pub(super) fn of(
        question: &api::AuthorizeRequest,
        answered: &Result<api::AuthorizeResponse, Refusal>,
    ) -> Self {
        // The protocol's numbers begin with one: zero is unspecified, and never answered.
        let place = |number: i32| {
            usize::try_from(number).ok().and_then(|number| number.checked_sub(1)).unwrap_or(usize::MAX)
        };
        match answered {
            Ok(answer) => Self::Answered {
                decision: place(question.operation)
                    .saturating_mul(REASONS)
                    .saturating_add(place(answer.reason)),
                stale: answer.stale,
                not_vouched: answer.role_not_vouched,
            },
            Err(refusal) => Self::Refused(refusal.of_question().unwrap_or(usize::MAX)),
        }
    }
}

impl Tallied {
    /// So many questions came to this.
    pub(super) fn add(&self, outcome: Outcome, times: u64) {
        match outcome {
            Outcome::Answered { decision, stale, not_vouched } => {
                self.decisions.add(decision, times);
                if stale {
                    self.stale.add(0, times);
                }
                if not_vouched {
                    self.not_vouched.add(0, times);
                }
            }
            Outcome::Refused(reason) => self.refused.add(reason, times),
        }
    }

    /// How often each operation was answered for each reason, where that happened.
    pub fn decisions(&self) -> impl Iterator<Item = (Operation, Reason, u64)> + '_ {
        let pairs = Operation::ALL.into_iter().flat_map(|operation| {
            Reason::ALL.iter().enumerate().map(move |(number, reason)| (operation, number, *reason))
        });
        pairs
            .map(|(operation, number, reason)| {
                (operation, reason, self.decisions.sum(operation as usize * REASONS + number))
            })
            .filter(|(.., times)| 0 < *times)
    }

    /// How many answers were given from stale facts (semantics 5.3).
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.stale.total()
    }

    /// How many answers were given to a role that the caller may not vouch for (semantics 4.4).
    #[must_use]
    pub fn not_vouched(&self) -> u64 {
        self.not_vouched.total()
    }

    /// How many questions had no answer, for each reason of `google.rpc.ErrorInfo`.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Refusal::OF_QUESTIONS.into_iter().enumerate().map(|(which, reason)| (reason, self.refused.sum(which)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache::Missing, domain::SubscriptionId};

    #[test]
    fn a_refusal_counts_for_its_own_reason() {
        let id: SubscriptionId = "3A8-WN7-7TD".parse().unwrap();
        let over = Refusal::OverQuota { caller: String::new(), per_second: 1, burst: 1, retry_after: None };
        let missing = [Missing::NoFacts, Missing::NotHeld(id), Missing::Ambiguous { held: 2 }];
        for refusal in missing
            .map(Refusal::from)
            .into_iter()
            .chain([over, Refusal::FactsTooOld { age: None, most: std::time::Duration::ZERO }])
        {
            let (tallied, reason) = (Tallied::default(), refusal.reason());
            tallied.add(Outcome::of(&api::AuthorizeRequest::default(), &Err(refusal)), 3);
            let counted: Vec<_> = tallied.refusals().filter(|(_, times)| 0 < *times).collect();
            assert_eq!(counted, [(reason, 3)]);
        }
    }
}

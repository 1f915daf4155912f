//! From one set of facts, every instant at which time alone changes what holds (semantics 5.1).
//!
//! Not here: any rule. The timeline is built by asking `rules` at each instant where one of them can turn.

use super::{
    decision::Reasons,
    facts::Facts,
    instant::Instant,
    rules,
    state::{Conditions, SubscriptionState},
};

/// What holds from when, for all time; computed once from facts, read for every question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    first: Turn,
    later: Box<[Turn]>,
}

/// What holds from one instant on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// From when.
    pub from: Instant,
    /// The conditions that hold from then on.
    pub conditions: Conditions,
    /// The state from then on.
    pub state: SubscriptionState,
    pub(super) reasons: Reasons,
}

impl Timeline {
    /// Asks the rules at every instant where one of them can turn, and keeps those at which the answer differs.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let mut instants: Vec<Instant> = rules::turns(facts).collect();
        instants.sort_unstable();
        let first = Turn::at(facts, Instant::BEGINNING);
        let mut later = Vec::new();
        let mut current = first.conditions;
        for instant in instants {
            let turn = Turn::at(facts, instant);
            if turn.conditions != current {
                current = turn.conditions;
                later.push(turn);
            }
        }
        Self { first, later: later.into() }
    }

    /// What holds at `t`.
    #[must_use]
    pub fn at(&self, t: Instant) -> &Turn {
        self.at_and_after(t).0
    }

    /// What will change after `t`, soonest first.
    #[must_use]
    pub fn after(&self, t: Instant) -> &[Turn] {
        self.at_and_after(t).1
    }

    /// What holds at `t`, and what will change after it.
    pub(super) fn at_and_after(&self, t: Instant) -> (&Turn, &[Turn]) {
        // A handful of turns: walking them beats a search.
        let mut current = &self.first;
        let mut later: &[Turn] = &self.later;
        while let [next, rest @ ..] = later
            && next.from <= t
        {
            current = next;
            later = rest;
        }
        (current, later)
    }
}

impl Turn {
    fn at(facts: &Facts, t: Instant) -> Self {
        let conditions = rules::conditions(facts, t);
        Self { from: t, conditions, state: conditions.headline(), reasons: Reasons::under(&conditions) }
    }
}

#[cfg(test)]
mod tests;

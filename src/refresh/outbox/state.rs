//! What was reported and nobody has taken yet, and which SMS have been counted: each id counts once (semantics 6.9).
//!
//! It changes by lines alone, whether they have just been put on disk or are read back. Not here: the disk (see
//! `journal`).

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant as Tick;

use super::{
    Bounds, Pending,
    held::{Held, Mark, ranges},
    set_aside::{self, SetAside, Total, What},
};
use crate::{
    domain::{Instant, SubscriptionId},
    source::{
        facts_json::{IdJson, InstantJson},
        usage::{CountKind, Counted, Counts, MOST_SMS, SmsSent, UsageAnswer, UsageBySubscription},
    },
    wire::usage::Count,
};

/// One change.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    /// Usage somebody takes later.
    Reported { id: IdJson, counts: Option<CountsLine>, sms: Vec<SmsLine> },
    /// SMS that are subtracted here until the source tells another number of credits.
    Spent { id: IdJson, credits: u64, sms: Vec<String> },
    /// Usage that was taken: counts and SMS up to these numbers, without the SMS in the ranges `left`; and credits that are
    /// not subtracted any more.
    Taken {
        id: IdJson,
        counts: u64,
        sms: u64,
        spent: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left: Vec<(u64, u64)>,
    },
    /// SMS that were counted and taken.
    Remembered { id: IdJson, sms: Vec<String> },
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CountsLine {
    number: u64,
    active_users: Option<u64>,
    all_users: Option<u64>,
    components: Option<u64>,
    at: InstantJson,
}

/// Number, id and credits.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct SmsLine(u64, String, u32);

/// All of it.
#[derive(Debug)]
pub(super) struct State {
    held: BTreeMap<SubscriptionId, Held>,
    remembered: Remembered,
    /// The number of what is reported next.
    next: u64,
    /// SMS in all of `held`, and how many there may be.
    waiting: usize,
    most_waiting: usize,
    /// It was told of that they pile up.
    is_backlog: bool,
    /// What is to be set aside and is not on disk yet.
    aside: Vec<SetAside>,
    /// What was set aside, since somebody emptied the file.
    totals: BTreeMap<SubscriptionId, Total>,
}

/// What has become of SMS that pile up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backlog {
    /// Half of those that may wait do.
    Grown,
    /// Fewer than a quarter do again.
    Gone,
}

/// The SMS that are known: those not taken yet, and so many of those that were.
#[derive(Debug)]
struct Remembered {
    known: HashSet<(SubscriptionId, Arc<str>)>,
    taken: VecDeque<(SubscriptionId, Arc<str>)>,
    most: usize,
}

impl State {
    pub(super) fn within(Bounds { remembered, waiting }: Bounds) -> Self {
        let remembered = Remembered { known: HashSet::new(), taken: VecDeque::new(), most: remembered };
        Self {
            held: BTreeMap::new(),
            remembered,
            next: 1,
            waiting: 0,
            most_waiting: waiting,
            is_backlog: false,
            aside: Vec::new(),
            totals: BTreeMap::new(),
        }
    }

    /// SMS that wait to be taken.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether so many more of this subscription may, where `together` are about to wait of any. One has no more than it
    /// leaves free for others, so that a report of one that says little is taken beside any that says much.
    pub(super) fn takes(&self, id: SubscriptionId, more: usize, together: usize) -> bool {
        let of_own = self.held.get(&id).map_or(0, |held| held.sms.len()).saturating_add(more);
        let all = self.waiting.saturating_add(together);
        all.saturating_add(of_own) <= self.most_waiting
    }

    /// What has become of SMS that pile up, if that is news.
    pub(super) const fn backlog_becomes(&mut self) -> Option<Backlog> {
        let (grown, gone) = (self.most_waiting / 2 <= self.waiting, self.waiting <= self.most_waiting / 4);
        match self.is_backlog {
            false if grown && !gone => {
                self.is_backlog = true;
                Some(Backlog::Grown)
            }
            true if gone => {
                self.is_backlog = false;
                Some(Backlog::Gone)
            }
            _ => None,
        }
    }

    pub(super) fn knows(&self, id: SubscriptionId, sms_id: &str) -> bool {
        self.remembered.known.contains(&(id, Arc::from(sms_id)))
    }

    /// The line of usage that somebody takes.
    pub(super) fn reported(
        &mut self,
        id: SubscriptionId,
        counts: Option<Counted>,
        sms: Vec<SmsSent>,
    ) -> Line {
        let mut number = || {
            let number = self.next;
            self.next += 1;
            number
        };
        let counts = counts.map(|counted| CountsLine::of(number(), counted));
        let sms =
            sms.into_iter().map(|sms| SmsLine(number(), sms.id.to_string(), sms.cost.credits())).collect();
        Line::Reported { id: IdJson(id), counts, sms }
    }

    /// Makes the change.
    pub(super) fn apply(&mut self, line: Line) {
        match line {
            Line::Reported { id: IdJson(id), counts, sms } => {
                let held = self.held.entry(id).or_default();
                if let Some(counts) = counts {
                    self.next = self.next.max(counts.number.saturating_add(1));
                    let number = counts.number;
                    let (counted, invalid) = counts.counted(id);
                    held.count(number, counted);
                    self.aside.extend(invalid);
                }
                for SmsLine(number, sms_id, credits) in sms {
                    self.next = self.next.max(number.saturating_add(1));
                    // Another version may have kept what this one would not.
                    let sms = match SmsSent::new(&sms_id, credits) {
                        Ok(sms) => sms,
                        Err(why) => {
                            let what = What::Sms { sms_id, credits };
                            self.aside.push(SetAside::new(id, None, what, &why.to_string()));
                            continue;
                        }
                    };
                    if self.remembered.known.insert((id, Arc::from(sms_id))) {
                        held.credits = held.credits.saturating_add(u64::from(sms.cost.credits()));
                        held.sms.push_back((number, sms));
                        self.waiting += 1;
                    }
                }
            }
            Line::Spent { id: IdJson(id), credits, sms } => {
                let held = self.held.entry(id).or_default();
                held.spent = held.spent.saturating_add(credits);
                sms.into_iter().for_each(|sms_id| self.remembered.remember(id, sms_id.into()));
            }
            Line::Taken { id: IdJson(id), counts, sms, spent, left } => {
                let held = self.held.entry(id).or_default();
                held.counts = held.counts.filter(|(number, _)| counts < *number);
                let is_left = |number: u64| {
                    let position = left.partition_point(|(_, last)| *last < number);
                    left.get(position).is_some_and(|(first, _)| *first <= number)
                };
                let mut stay = Vec::new();
                while let Some((number, taken)) = held.sms.pop_front_if(|(number, _)| *number <= sms) {
                    if is_left(number) {
                        stay.push((number, taken));
                        continue;
                    }
                    held.credits = held.credits.saturating_sub(u64::from(taken.cost.credits()));
                    self.waiting -= 1;
                    self.remembered.remember(id, taken.id.as_str().into());
                }
                stay.into_iter().rev().for_each(|sms| held.sms.push_front(sms));
                held.spent = held.spent.saturating_sub(spent);
                held.taken = Mark::default();
            }
            Line::Remembered { id: IdJson(id), sms } => {
                sms.into_iter().for_each(|sms_id| self.remembered.remember(id, sms_id.into()));
            }
        }
    }

    /// Lines that make this state of none.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for (id, sms_id) in &self.remembered.taken {
            match lines.last_mut() {
                Some(Line::Remembered { id: last, sms }) if last.0 == *id && sms.len() < MOST_SMS => {
                    sms.push(sms_id.to_string());
                }
                _ => lines.push(Line::Remembered { id: IdJson(*id), sms: vec![sms_id.to_string()] }),
            }
        }
        for (id, held) in &self.held {
            let id = IdJson(*id);
            if 0 < held.spent {
                lines.push(Line::Spent { id, credits: held.spent, sms: Vec::new() });
            }
            if let Some((number, counted)) = held.counts {
                let counts = Some(CountsLine::of(number, counted));
                lines.push(Line::Reported { id, counts, sms: Vec::new() });
            }
            let sms: Vec<SmsLine> = held
                .sms
                .iter()
                .map(|(number, sms)| SmsLine(*number, sms.id.to_string(), sms.cost.credits()))
                .collect();
            let chunks = sms.chunks(MOST_SMS);
            lines.extend(chunks.map(|sms| Line::Reported { id, counts: None, sms: sms.to_vec() }));
        }
        lines
    }

    /// What nobody has taken yet and is to be handed over by `now`, and notes that it is.
    pub(super) fn hand_over(&mut self, now: Tick) -> UsageBySubscription {
        let handed = self.held.iter_mut().filter_map(|(id, held)| {
            let usage = held.hand_over(now);
            let is_empty = usage.counts.is_none() && usage.sms.is_empty();
            (!is_empty).then_some((*id, usage))
        });
        handed.collect()
    }

    /// What was handed over of a subscription was answered at `at`, which is `now`.
    pub(super) fn take(&mut self, id: SubscriptionId, answer: &UsageAnswer, at: Instant, now: Tick) {
        if let Some(held) = self.held.get_mut(&id) {
            self.aside.extend(held.take(id, answer, at, now));
        }
    }

    /// From when on what was not taken is handed over again, if any was not.
    pub(super) fn left_until(&self, id: SubscriptionId) -> Option<Tick> {
        self.held.get(&id).and_then(|held| held.left.values().min().copied())
    }

    /// What is to be set aside, to be put on disk.
    pub(super) fn take_aside(&mut self) -> Vec<SetAside> {
        let aside = std::mem::take(&mut self.aside);
        aside.iter().for_each(|item| set_aside::note(&mut self.totals, item));
        aside
    }

    /// What earlier runs have set aside.
    pub(super) fn was_set_aside(&mut self, totals: BTreeMap<SubscriptionId, Total>) {
        self.totals = totals;
    }

    /// Whether something is to be set aside.
    pub(super) const fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    /// What was reported of a subscription and not taken.
    pub(super) fn pending(&self, id: SubscriptionId) -> Pending {
        let held = self.held.get(&id);
        let total = self.totals.get(&id);
        let why_deferred =
            held.filter(|held| !held.deferred.is_empty()).map(|held| held.why_deferred.clone());
        Pending {
            sms_waiting: held.map_or(0, Held::waiting),
            sms_deferred: held.map_or(0, |held| held.deferred.len()),
            set_aside: total.map_or(0, |total| total.count),
            reason: why_deferred.or_else(|| total.map(|total| total.last_reason.clone())).unwrap_or_default(),
        }
    }

    /// How many SMS the backend deferred.
    pub(super) fn deferred(&self) -> usize {
        self.held.values().map(|held| held.deferred.len()).sum()
    }

    /// The source tells another number of credits: it knows what was spent where nobody takes it.
    pub(super) fn forget_spent(&mut self, id: SubscriptionId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.taken.spent = held.spent;
        }
    }

    /// Credits that were reported and the source does not know of.
    pub(super) fn unknown_to_source(&self, id: SubscriptionId) -> u64 {
        self.held.get(&id).map_or(0, |held| {
            let Mark { credits, spent, .. } = held.taken;
            held.credits.saturating_sub(credits).saturating_add(held.spent.saturating_sub(spent))
        })
    }

    /// The lines of what was taken and the disk does not know.
    pub(super) fn unsettled(&self) -> Vec<Line> {
        let unsettled = self.held.iter().filter(|(_, held)| held.taken != Mark::default());
        unsettled
            .map(|(id, Held { taken: Mark { counts, sms, spent, .. }, left, .. })| Line::Taken {
                id: IdJson(*id),
                counts: *counts,
                sms: *sms,
                spent: *spent,
                left: ranges(left.keys().copied().filter(|number| number <= sms)),
            })
            .collect()
    }

    /// Whether there were more SMS than could be handed over at a time.
    pub(super) fn has_more(&self, id: SubscriptionId) -> bool {
        self.held.get(&id).is_some_and(|held| held.has_more)
    }
}

impl Remembered {
    fn remember(&mut self, id: SubscriptionId, sms_id: Arc<str>) {
        let key = (id, sms_id);
        self.known.insert(key.clone());
        self.taken.push_back(key);
        if self.most < self.taken.len()
            && let Some(oldest) = self.taken.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl CountsLine {
    fn of(number: u64, Counted { counts, at }: Counted) -> Self {
        let of = |kind| counts.get(kind).map(Count::get);
        let active_users = of(CountKind::ActiveUsers);
        let (all_users, components) = (of(CountKind::AllUsers), of(CountKind::Components));
        Self { number, active_users, all_users, components, at: InstantJson(at) }
    }

    /// The counts, and those that cannot be: another version may have kept them.
    fn counted(self, id: SubscriptionId) -> (Counted, Vec<SetAside>) {
        let Self { number: _, active_users, all_users, components, at: InstantJson(at) } = self;
        let mut invalid = Vec::new();
        let mut count = |kind: CountKind, told: Option<u64>| {
            let value = told?;
            let why = match Count::new(value) {
                Ok(count) => return Some(count),
                Err(why) => why.to_string(),
            };
            let what = What::Count { count: kind.to_string(), value };
            invalid.push(SetAside::new(id, None, what, &why));
            None
        };
        let counts = Counts {
            active_users: count(CountKind::ActiveUsers, active_users),
            all_users: count(CountKind::AllUsers, all_users),
            components: count(CountKind::Components, components),
        };
        (Counted { counts, at }, invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sms_that_pile_up_are_told_of_once_at_half_and_once_when_they_have_gone() {
        let mut state = State::within(Bounds { remembered: 10, waiting: 8 });
        let seen = [3, 4, 5, 3, 4, 8, 2, 3, 4].map(|waiting| {
            state.waiting = waiting;
            state.backlog_becomes()
        });
        let (grown, gone) = (Some(Backlog::Grown), Some(Backlog::Gone));
        assert_eq!(seen, [None, grown, None, None, None, None, gone, None, grown]);
    }
}

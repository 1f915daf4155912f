//! What was reported and nobody has taken yet, and which SMS have been counted: each id counts once (semantics 6.9).
//!
//! It changes by lines alone, whether they have just been put on disk or are read back. Not here: the disk (see
//! `journal`).

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::Bounds;
use crate::{
    domain::SubscriptionId,
    source::{
        facts_json::{IdJson, InstantJson},
        usage::{Counted, Counts, MOST_SMS, SmsSent, Usage, UsageBySubscription},
    },
};

/// One change.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    /// Usage somebody takes later.
    Reported { id: IdJson, counts: Option<CountsLine>, sms: Vec<SmsLine> },
    /// SMS that are subtracted here until the source tells another number of credits.
    Spent { id: IdJson, credits: u64, sms: Vec<String> },
    /// Usage that was taken, and credits that are not subtracted any more.
    Taken { id: IdJson, counts: u64, sms: u64, spent: u64 },
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
}

/// What has become of SMS that pile up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backlog {
    /// Half of those that may wait do.
    Grown,
    /// Fewer than a quarter do again.
    Gone,
}

/// What was reported of one subscription.
#[derive(Debug, Default)]
struct Held {
    counts: Option<(u64, Counted)>,
    sms: VecDeque<(u64, SmsSent)>,
    /// What `sms` cost.
    credits: u64,
    /// Credits nobody takes.
    spent: u64,
    /// What was handed over last.
    handed: Mark,
    has_more: bool,
    /// What of it was taken: it is not subtracted any more, and goes once the disk knows.
    taken: Mark,
}

/// How far something has come: numbers of the last counts and of the last SMS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    counts: u64,
    sms: u64,
    /// Credits of the SMS up to there.
    credits: u64,
    spent: u64,
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
        }
    }

    /// SMS that wait to be taken.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether so many more may.
    pub(super) const fn takes(&self, more: usize) -> bool {
        self.waiting.saturating_add(more) <= self.most_waiting
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

    pub(super) fn knows(&self, id: SubscriptionId, sms_id: &Arc<str>) -> bool {
        self.remembered.known.contains(&(id, Arc::clone(sms_id)))
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
        let sms = sms.into_iter().map(|sms| SmsLine(number(), sms.id.to_string(), sms.credits)).collect();
        Line::Reported { id: IdJson(id), counts, sms }
    }

    /// Makes the change.
    pub(super) fn apply(&mut self, line: Line) {
        match line {
            Line::Reported { id: IdJson(id), counts, sms } => {
                let held = self.held.entry(id).or_default();
                if let Some(counts) = counts {
                    self.next = self.next.max(counts.number + 1);
                    held.count(counts);
                }
                for SmsLine(number, sms_id, credits) in sms {
                    self.next = self.next.max(number + 1);
                    let sms_id: Arc<str> = sms_id.into();
                    if self.remembered.known.insert((id, Arc::clone(&sms_id))) {
                        held.credits = held.credits.saturating_add(u64::from(credits));
                        held.sms.push_back((number, SmsSent { id: sms_id, credits }));
                        self.waiting += 1;
                    }
                }
            }
            Line::Spent { id: IdJson(id), credits, sms } => {
                let held = self.held.entry(id).or_default();
                held.spent = held.spent.saturating_add(credits);
                sms.into_iter().for_each(|sms_id| self.remembered.remember(id, sms_id.into()));
            }
            Line::Taken { id: IdJson(id), counts, sms, spent } => {
                let held = self.held.entry(id).or_default();
                held.counts = held.counts.filter(|(number, _)| counts < *number);
                while let Some((_, gone)) = held.sms.pop_front_if(|(number, _)| *number <= sms) {
                    held.credits = held.credits.saturating_sub(u64::from(gone.credits));
                    self.waiting -= 1;
                    self.remembered.remember(id, gone.id);
                }
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
                .map(|(number, sms)| SmsLine(*number, sms.id.to_string(), sms.credits))
                .collect();
            let chunks = sms.chunks(MOST_SMS);
            lines.extend(chunks.map(|sms| Line::Reported { id, counts: None, sms: sms.to_vec() }));
        }
        lines
    }

    /// What nobody has taken yet, and notes that it is handed over.
    pub(super) fn hand_over(&mut self) -> UsageBySubscription {
        let handed = self.held.iter_mut().filter_map(|(id, held)| {
            let usage = held.hand_over();
            let is_empty = usage.counts.is_none() && usage.sms.is_empty();
            (!is_empty).then_some((*id, usage))
        });
        handed.collect()
    }

    /// What was handed over of a subscription was taken.
    pub(super) fn take(&mut self, id: SubscriptionId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.taken = Mark { spent: held.spent, ..held.handed };
        }
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
            .map(|(id, Held { taken: Mark { counts, sms, spent, .. }, .. })| Line::Taken {
                id: IdJson(*id),
                counts: *counts,
                sms: *sms,
                spent: *spent,
            })
            .collect()
    }

    /// Whether there were more SMS than could be handed over at a time.
    pub(super) fn has_more(&self, id: SubscriptionId) -> bool {
        self.held.get(&id).is_some_and(|held| held.has_more)
    }
}

impl Held {
    fn count(&mut self, counts: CountsLine) {
        let (number, mut counted) = counts.counted();
        if let Some((_, before)) = self.counts {
            // Where the newest are silent, the ones before are the newest.
            counted.counts = counted.counts.over(before.counts);
        }
        self.counts = Some((number, counted));
    }

    fn hand_over(&mut self) -> Usage {
        let counts = self.counts.filter(|(number, _)| self.taken.counts < *number);
        let first = self.sms.partition_point(|(number, _)| *number <= self.taken.sms);
        let sms: Vec<&(u64, SmsSent)> = self.sms.range(first..).take(MOST_SMS).collect();
        self.has_more = first + sms.len() < self.sms.len();
        self.handed = Mark {
            counts: counts.map_or(self.taken.counts, |(number, _)| number),
            sms: sms.last().map_or(self.taken.sms, |(number, _)| *number),
            credits: sms
                .iter()
                .map(|(_, sms)| u64::from(sms.credits))
                .fold(self.taken.credits, u64::saturating_add),
            spent: 0,
        };
        Usage {
            counts: counts.map(|(_, counted)| counted),
            sms: sms.into_iter().map(|(_, sms)| sms.clone()).collect(),
        }
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
        let Counts { active_users, all_users, components } = counts;
        Self { number, active_users, all_users, components, at: InstantJson(at) }
    }

    fn counted(self) -> (u64, Counted) {
        let Self { number, active_users, all_users, components, at: InstantJson(at) } = self;
        (number, Counted { counts: Counts { active_users, all_users, components }, at })
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

//! What was reported of one subscription: handed over, taken, deferred, or refused.
//!
//! Not here: the disk (see `journal`), and which SMS are known (see `state`).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant as Tick;

use super::set_aside::{SetAside, What};
use crate::{
    domain::{Instant, SubscriptionId},
    source::usage::{Counted, Counts, MOST_SMS, NotTaken, SmsSent, Usage, UsageAnswer},
    wire::one_line,
};

/// What nobody has answered is handed over again after this.
pub(super) const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What was reported of one subscription.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) counts: Option<(u64, Counted)>,
    pub(super) sms: VecDeque<(u64, SmsSent)>,
    /// What `sms` cost.
    pub(super) credits: u64,
    /// Credits nobody takes.
    pub(super) spent: u64,
    /// What was handed over last: the number of the counts, and the SMS.
    pub(super) handed_counts: u64,
    pub(super) handed: Vec<(u64, SmsSent)>,
    pub(super) has_more: bool,
    /// What of it was taken: it is not subtracted any more, and goes once the disk knows.
    pub(super) taken: Mark,
    /// SMS up to that mark that were not taken, and from when on they are handed over again.
    pub(super) left: BTreeMap<u64, Tick>,
    /// Those of them that the backend deferred, and why the last of them was.
    pub(super) deferred: BTreeSet<u64>,
    pub(super) why_deferred: String,
}

/// How far something has come: numbers of the last counts and of the last SMS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) counts: u64,
    pub(super) sms: u64,
    /// Credits of the SMS that were taken.
    pub(super) credits: u64,
    pub(super) spent: u64,
}

impl Held {
    /// Counts are reported.
    pub(super) fn count(&mut self, number: u64, mut counted: Counted) {
        if counted.counts == Counts::default() {
            return;
        }
        if let Some((_, before)) = self.counts {
            // Where the newest are silent, the ones before are the newest.
            counted.counts = counted.counts.over(before.counts);
        }
        self.counts = Some((number, counted));
    }

    /// SMS that were not taken.
    pub(super) fn waiting(&self) -> usize {
        let up_to_mark = self.sms.partition_point(|(number, _)| *number <= self.taken.sms);
        let left = self.left.range(..=self.taken.sms).count();
        self.sms.len().saturating_sub(up_to_mark.saturating_sub(left))
    }

    pub(super) fn hand_over(&mut self, now: Tick) -> Usage {
        let counts = self.counts.filter(|(number, _)| self.taken.counts < *number);
        let Self { left, taken, .. } = self;
        let is_due = |(number, _): &&(u64, SmsSent)| {
            left.get(number).map_or(taken.sms < *number, |until| *until <= now)
        };
        let mut due = self.sms.iter().filter(is_due);
        let handed: Vec<(u64, SmsSent)> = due.by_ref().take(MOST_SMS).cloned().collect();
        self.has_more = due.next().is_some();
        self.handed_counts = counts.map_or(self.taken.counts, |(number, _)| number);
        let sms = handed.iter().map(|(_, sms)| sms.clone()).collect();
        self.handed = handed;
        Usage { counts: counts.map(|(_, counted)| counted), sms }
    }

    /// What is to be set aside of what was handed over.
    pub(super) fn take(
        &mut self,
        id: SubscriptionId,
        answer: &UsageAnswer,
        at: Instant,
        now: Tick,
    ) -> Vec<SetAside> {
        let mut aside = self.take_counts(id, answer, at);
        self.taken.spent = self.spent;
        let is_deferred = self.deferred.is_empty();
        for (position, (number, sms)) in std::mem::take(&mut self.handed).into_iter().enumerate() {
            self.taken.sms = self.taken.sms.max(number);
            self.left.remove(&number);
            self.deferred.remove(&number);
            match answer.sms.get(&position) {
                Some(NotTaken::Unanswered) => {
                    self.left.insert(number, now + AGAIN_AFTER);
                    continue;
                }
                Some(NotTaken::Deferred(why, wait)) => {
                    self.left.insert(number, now + *wait);
                    self.deferred.insert(number);
                    self.why_deferred = one_line(why, 200);
                    continue;
                }
                Some(NotTaken::Refused(why)) => {
                    let what = What::Sms { sms_id: sms.id.to_string(), credits: sms.cost.credits() };
                    aside.push(SetAside::new(id, Some(at), what, why));
                }
                None => {}
            }
            self.taken.credits = self.taken.credits.saturating_add(u64::from(sms.cost.credits()));
        }
        if is_deferred && !self.deferred.is_empty() {
            tracing::error!(
                subscription = %id,
                sms = self.deferred.len(),
                "the licensing backend takes no more SMS of this unit for now, they are kept and handed over again: {}",
                self.why_deferred
            );
        }
        aside
    }

    fn take_counts(&mut self, id: SubscriptionId, answer: &UsageAnswer, at: Instant) -> Vec<SetAside> {
        let mut aside = Vec::new();
        let mut again = false;
        if let Some((number, counted)) = &mut self.counts
            && *number == self.handed_counts
        {
            for (kind, why) in &answer.counts {
                match (why, counted.counts.get(*kind)) {
                    (NotTaken::Refused(why), Some(count)) => {
                        let what = What::Count { count: kind.to_string(), value: count.get() };
                        aside.push(SetAside::new(id, Some(at), what, why));
                        // It must not come again with the counts that follow.
                        counted.counts = counted.counts.without(*kind);
                    }
                    (NotTaken::Refused(_), None) => {}
                    (NotTaken::Deferred(..) | NotTaken::Unanswered, _) => again = true,
                }
            }
        }
        if !again {
            self.taken.counts = self.handed_counts;
        }
        aside
    }
}

/// Numbers that follow one another as one range each.
pub(super) fn ranges(numbers: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

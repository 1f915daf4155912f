//! Reports that wait for the disk: those that come together are written together.
//!
//! Not here: what becomes of them later (see `held`).

use std::collections::{HashMap, HashSet};

use tokio::sync::OwnedMutexGuard;

use super::{Inner, Medium, NotKept, Report, Reported, state::Line};
use crate::{
    domain::SubscriptionId,
    source::{facts_json::IdJson, usage::SmsSent},
    wire::usage::SmsId,
};

/// New SMS of the reports that are written together.
#[derive(Debug, Default)]
pub(super) struct Together {
    sms: HashMap<SubscriptionId, HashSet<SmsId>>,
    count: usize,
}

impl Inner {
    /// Writes every report that waits, together, and answers them.
    pub(super) fn write_waiting(&self, mut medium: OwnedMutexGuard<Medium>) {
        let mut waiting = std::mem::take(&mut *self.waiting());
        // Nobody was told that these are kept.
        waiting.retain(|(_, answer)| !answer.is_closed());
        if waiting.is_empty() {
            return;
        }
        let mut together = Together::default();
        let (mut lines, mut answers) = (Vec::new(), Vec::new());
        // Whether an id is known is only known once the disk was read.
        let mut written = self.read(&mut medium);
        for (report, answer) in waiting {
            let delay =
                report.delay.map(|delay| if report.counted.is_some() { delay.counts } else { delay.sms });
            let (line, reported) = match self.line(report, &mut together) {
                Ok((line, reported)) => (line, Ok(reported)),
                Err(too_many) => (None, Err(too_many)),
            };
            let delay = delay.filter(|_| line.is_some());
            lines.extend(line);
            answers.push((reported, delay, answer));
        }
        if written.is_ok() && !lines.is_empty() {
            written = self.change(&mut medium, lines);
        }
        drop(medium);
        let written = written.map_err(|error| NotKept(error.to_string()));
        for (reported, delay, answer) in answers {
            if let (Ok(()), Some(delay)) = (&written, delay) {
                self.due_in(delay);
            }
            // A caller that has gone needs no answer.
            let _ = answer.send(written.clone().and(reported));
        }
    }

    /// What to write of a report, if anything of it is new; `together` are the SMS of the reports before it. One with more
    /// SMS than may wait is refused whole: nothing of it may count before it is repeated.
    pub(super) fn line(
        &self,
        report: Report,
        together: &mut Together,
    ) -> Result<(Option<Line>, Reported), NotKept> {
        let Report { id, counted, sms, delay } = report;
        let mut state = self.state();
        let all = u32::try_from(sms.len()).unwrap_or(u32::MAX);
        let own = together.sms.entry(id).or_default();
        let is_new = |sms: &SmsSent| !state.knows(id, sms.id.as_str()) && own.insert(sms.id.clone());
        let sms: Vec<SmsSent> = sms.into_iter().filter(is_new).collect();
        let all_together = together.count + sms.len();
        if delay.is_some() && !sms.is_empty() && !state.takes(id, own.len(), all_together) {
            for sms in sms {
                own.remove(&sms.id);
            }
            return Err(NotKept::too_many(id, state.waiting()));
        }
        together.count = all_together;
        let new = u32::try_from(sms.len()).unwrap_or(u32::MAX);
        let reported = Reported { counted: new, repeated: all.saturating_sub(new) };
        let line = match delay {
            Some(_) if counted.is_some() || !sms.is_empty() => Some(state.reported(id, counted, sms)),
            None if !sms.is_empty() => {
                let credits =
                    sms.iter().map(|sms| u64::from(sms.cost.credits())).fold(0, u64::saturating_add);
                let sms = sms.into_iter().map(|sms| sms.id.to_string()).collect();
                Some(Line::Spent { id: IdJson(id), credits, sms })
            }
            Some(_) | None => None,
        };
        Ok((line, reported))
    }
}

//! Usage between the authentication server that reports it and the source that takes it (semantics 6.8, 6.9).
//!
//! What was reported is on disk before the report is answered, and stays until facts have come that know of it: nothing
//! is lost while the source is away or through a crash, and each SMS counts once. Reports that come together share one
//! write. Not here: when usage is handed over (see the parent), and what is published of it (see `book`).

mod journal;
mod state;

use std::{
    collections::HashSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard, oneshot, watch},
    task::spawn_blocking,
    time::Instant as Tick,
};
use tracing::{error, info, warn};

use self::{
    journal::{Journal, Read},
    state::{Backlog, Line, State},
};
use super::persist::Store;
use crate::{
    domain::SubscriptionId,
    folder::Lock,
    source::{
        facts_json::IdJson,
        usage::{Counted, SmsSent, UsageBySubscription, UsageDelay},
    },
};

/// What was reported and nobody has taken yet. Cloning it is cheap and shares everything.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    medium: Arc<AsyncMutex<Medium>>,
    waiting: Mutex<Vec<Waiting>>,
    due: watch::Sender<Option<Tick>>,
    /// Reports are taken for as long as this is there, and so long no other process may write to the folder.
    _held: Option<Arc<Lock>>,
}

/// How many SMS are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Ids that are remembered after they were taken.
    pub remembered: usize,
    /// SMS that may wait to be taken; a report with more is refused.
    pub waiting: usize,
}

/// A report that is not on disk yet, and who waits for it to be.
type Waiting = (Report, oneshot::Sender<Result<Reported, NotKept>>);

/// Where it is kept. Whoever holds it changes the state.
#[derive(Debug)]
enum Medium {
    /// In this process alone.
    Memory,
    /// In a data folder that has not been read: nothing may be written before.
    Unread(PathBuf),
    Disk(Journal),
}

/// A report of one authentication server.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it is about.
    pub id: SubscriptionId,
    /// What was counted, and when.
    pub counted: Option<Counted>,
    /// SMS that were sent.
    pub sms: Vec<SmsSent>,
    /// How soon it is to be handed over; none when nobody takes it: then counts are of no use, and SMS are subtracted
    /// until the source tells another number of credits.
    pub delay: Option<UsageDelay>,
}

/// What became of the SMS of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// How many counted.
    pub counted: u32,
    /// How many had been counted before.
    pub repeated: u32,
}

/// Usage could not be kept, and was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotKept(String);

impl NotKept {
    fn too_many(waiting: usize) -> Self {
        Self(format!(
            "{waiting} SMS wait to be taken by the licensing backend, and no more may (`refresh.usage_waiting`); \
             `esa-sidecar status` says why it takes none"
        ))
    }
}

impl Outbox {
    /// An outbox that forgets when this process ends.
    #[must_use]
    pub fn in_memory(bounds: Bounds) -> Self {
        Self::of(bounds, Medium::Memory, None)
    }

    /// The outbox of a data folder. One that cannot be read takes no reports until it can.
    #[must_use]
    pub fn open(folder: PathBuf, bounds: Bounds) -> Self {
        Self::of(bounds, Medium::Unread(folder), None).read()
    }

    /// The same in the folder of `store`, held for as long as anybody may report.
    pub(super) fn beside(store: &Store, bounds: Bounds) -> Self {
        Self::of(bounds, Medium::Unread(store.folder().to_owned()), store.held()).read()
    }

    fn read(self) -> Self {
        let outbox = self;
        if let Ok(mut medium) = outbox.0.medium.try_lock()
            && let Err(error) = outbox.0.read(&mut medium)
        {
            error!("usage kept by the last run cannot be read, and no more is taken until it can: {error}");
        }
        outbox
    }

    fn of(bounds: Bounds, medium: Medium, held: Option<Arc<Lock>>) -> Self {
        let (due, _) = watch::channel(None);
        let (state, medium) = (Mutex::new(State::within(bounds)), Arc::new(AsyncMutex::new(medium)));
        Self(Arc::new(Inner { state, medium, waiting: Mutex::default(), due, _held: held }))
    }

    /// Takes a report. It is on disk when this returns.
    pub async fn report(&self, report: Report) -> Result<Reported, NotKept> {
        let (answer, mut answered) = oneshot::channel();
        self.0.waiting().push((report, answer));
        let stopping = |_| NotKept("the sidecar is stopping".to_owned());
        tokio::select! {
            biased;
            answer = &mut answered => return answer.map_err(stopping)?,
            medium = Arc::clone(&self.0.medium).lock_owned() => {
                // Whoever holds the disk writes for all who wait, even if it has gone meanwhile.
                let inner = Arc::clone(&self.0);
                spawn_blocking(move || inner.write_waiting(medium));
            }
        }
        answered.await.map_err(stopping)?
    }

    /// What nobody has taken yet, to be handed over.
    #[must_use]
    pub fn hand_over(&self) -> UsageBySubscription {
        self.0.due.send_replace(None);
        self.0.state().hand_over()
    }

    /// What was handed over of a subscription last was taken; facts that know of it are about to be published.
    pub fn take(&self, id: SubscriptionId) {
        self.0.state().take(id);
    }

    /// Whether more was there than could be handed over at a time.
    #[must_use]
    pub fn has_more(&self, id: SubscriptionId) -> bool {
        self.0.state().has_more(id)
    }

    /// How many SMS nobody has taken yet.
    #[must_use]
    pub fn sms_waiting(&self) -> usize {
        self.0.state().waiting()
    }

    /// The source tells another number of credits: it knows what was spent, if nobody takes usage.
    pub fn forget_spent(&self, id: SubscriptionId) {
        self.0.state().forget_spent(id);
    }

    /// Credits that were reported here and the source does not know of.
    #[must_use]
    pub fn unknown_to_source(&self, id: SubscriptionId) -> u64 {
        self.0.state().unknown_to_source(id)
    }

    /// Notes on disk what was taken. Where the disk refuses, it is handed over once more after a restart, and counts
    /// once all the same.
    pub async fn settle(&self) {
        if self.0.state().unsettled().is_empty() {
            return;
        }
        let mut medium = Arc::clone(&self.0.medium).lock_owned().await;
        let inner = Arc::clone(&self.0);
        let settled = spawn_blocking(move || {
            let lines = inner.state().unsettled();
            inner.change(&mut medium, lines)
        });
        match settled.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!("usage that was taken stays on disk until the next time: {error}"),
            Err(failure) => error!("usage that was taken stays on disk until the next time: {failure}"),
        }
    }

    /// From when on usage is to be handed over, if any waits for that; now and at every change.
    #[must_use]
    pub fn due(&self) -> watch::Receiver<Option<Tick>> {
        self.0.due.subscribe()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due_in(&self, delay: Duration) {
        let then = Tick::now() + delay;
        self.due.send_if_modified(|due| {
            let is_sooner = due.is_none_or(|due| then < due);
            if is_sooner {
                *due = Some(then);
            }
            is_sooner
        });
    }

    /// Writes every report that waits, together, and answers them.
    fn write_waiting(&self, mut medium: OwnedMutexGuard<Medium>) {
        let waiting = std::mem::take(&mut *self.waiting());
        if waiting.is_empty() {
            return;
        }
        let mut together = HashSet::new();
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
    fn line(
        &self,
        report: Report,
        together: &mut HashSet<(SubscriptionId, Arc<str>)>,
    ) -> Result<(Option<Line>, Reported), NotKept> {
        let Report { id, counted, sms, delay } = report;
        let mut state = self.state();
        let all = u32::try_from(sms.len()).unwrap_or(u32::MAX);
        let is_new = |sms: &SmsSent| !state.knows(id, &sms.id) && together.insert((id, Arc::clone(&sms.id)));
        let sms: Vec<SmsSent> = sms.into_iter().filter(is_new).collect();
        if delay.is_some() && !sms.is_empty() && !state.takes(together.len()) {
            for sms in sms {
                together.remove(&(id, sms.id));
            }
            return Err(NotKept::too_many(state.waiting()));
        }
        let new = u32::try_from(sms.len()).unwrap_or(u32::MAX);
        let reported = Reported { counted: new, repeated: all.saturating_sub(new) };
        let line = match delay {
            Some(_) if counted.is_some() || !sms.is_empty() => Some(state.reported(id, counted, sms)),
            None if !sms.is_empty() => {
                let credits = sms.iter().map(|sms| u64::from(sms.credits)).fold(0, u64::saturating_add);
                let sms = sms.into_iter().map(|sms| sms.id.to_string()).collect();
                Some(Line::Spent { id: IdJson(id), credits, sms })
            }
            Some(_) | None => None,
        };
        Ok((line, reported))
    }

    /// Puts `lines` on disk, and only then makes the changes.
    fn change(&self, medium: &mut Medium, lines: Vec<Line>) -> io::Result<()> {
        self.read(medium)?;
        if let Medium::Disk(journal) = medium {
            journal.append(&lines, || self.state().lines())?;
        }
        let mut state = self.state();
        lines.into_iter().for_each(|line| state.apply(line));
        match state.backlog_becomes() {
            Some(Backlog::Grown) => warn!(
                waiting = state.waiting(),
                "SMS that were reported pile up, for they are not taken; half of `refresh.usage_waiting` is reached"
            ),
            Some(Backlog::Gone) => info!(waiting = state.waiting(), "SMS that piled up have been taken"),
            None => {}
        }
        Ok(())
    }

    /// Reads what an earlier run kept, unless that was done.
    fn read(&self, medium: &mut Medium) -> io::Result<()> {
        if let Medium::Unread(folder) = medium {
            let (journal, Read { lines, damaged: _ }) = Journal::open(folder)?;
            *medium = Medium::Disk(journal);
            let mut state = self.state();
            lines.into_iter().for_each(|line| state.apply(line));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

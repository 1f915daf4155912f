//! Usage between the authentication server that reports it and the source that takes it (semantics 6.8, 6.9).
//!
//! What was reported is on disk before the report is answered, and stays until facts have come that know of it: nothing
//! is lost while the source is away or through a crash, and each SMS counts once. Reports that come together share one
//! write. Not here: when usage is handed over (see the parent), and what is published of it (see `book`).

mod held;
mod journal;
mod reports;
mod set_aside;
mod state;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, oneshot, watch},
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
    domain::{Instant, SubscriptionId},
    folder::Lock,
    source::usage::{Counted, NotTaken, SmsSent, UsageAnswer, UsageBySubscription, UsageDelay},
    tally::Tally,
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
    /// SMS and counts that were set aside since the start.
    sms_set_aside: Tally,
    counts_set_aside: Tally,
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
    Disk(Journal, PathBuf),
}

/// What was reported of a subscription and not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// SMS that wait to be taken.
    pub sms_waiting: usize,
    /// Those of them that the backend deferred.
    pub sms_deferred: usize,
    /// SMS and counts that will never be taken.
    pub set_aside: u64,
    /// Why the last of them was deferred or set aside.
    pub reason: String,
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
    fn too_many(id: SubscriptionId, waiting: usize) -> Self {
        Self(format!(
            "{waiting} SMS wait to be taken by the licensing backend, and no more of `{id}` may, which has as many as are \
             left free for others (`refresh.usage_waiting`); `esa-sidecar status` says why it takes none"
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
        Self(Arc::new(Inner {
            state,
            medium,
            waiting: Mutex::default(),
            due,
            sms_set_aside: Tally::default(),
            counts_set_aside: Tally::default(),
            _held: held,
        }))
    }

    /// Takes a report. It is on disk when this returns.
    pub async fn report(&self, report: Report) -> Result<Reported, NotKept> {
        let (answer, mut answered) = oneshot::channel();
        self.0.wait(report, answer);
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
        self.0.state().hand_over(Tick::now())
    }

    /// The same, and it stays due: it may be that nobody takes it now.
    #[must_use]
    pub fn waiting(&self) -> UsageBySubscription {
        self.0.state().hand_over(Tick::now())
    }

    /// What was handed over of a subscription last was answered at `at`; facts that know of what was taken are about to be
    /// published.
    pub fn take(&self, id: SubscriptionId, answer: &UsageAnswer, at: Instant) {
        let mut state = self.0.state();
        let now = Tick::now();
        state.take(id, answer, at, now);
        let left_until = state.left_until(id);
        drop(state);
        if let Some(until) = left_until {
            self.0.due_in(until.saturating_duration_since(now));
        }
        if answer.counts.values().any(|why| matches!(why, NotTaken::Unanswered)) {
            self.0.due_in(held::AGAIN_AFTER);
        }
    }

    /// What was reported of a subscription and not taken.
    #[must_use]
    pub fn pending(&self, id: SubscriptionId) -> Pending {
        self.0.state().pending(id)
    }

    /// How many SMS the backend deferred.
    #[must_use]
    pub fn sms_deferred(&self) -> usize {
        self.0.state().deferred()
    }

    /// How many SMS and counts were set aside since the start.
    #[must_use]
    pub fn set_aside(&self) -> [(&'static str, u64); 2] {
        [("sms", self.0.sms_set_aside.total()), ("counts", self.0.counts_set_aside.total())]
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
        if self.0.state().unsettled().is_empty() && !self.0.state().has_aside() {
            return;
        }
        let mut medium = Arc::clone(&self.0.medium).lock_owned().await;
        let inner = Arc::clone(&self.0);
        let settled = spawn_blocking(move || {
            inner.read(&mut medium)?;
            // Before it leaves the journal: after a crash in between it is refused, and set aside, once more.
            inner.put_aside(&medium);
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

    /// One more report waits. Before there is room made for more of them those go that were taken back.
    fn wait(&self, report: Report, answer: oneshot::Sender<Result<Reported, NotKept>>) {
        let mut waiting = self.waiting();
        if waiting.len() == waiting.capacity() {
            waiting.retain(|(_, answer)| !answer.is_closed());
        }
        waiting.push((report, answer));
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

    /// Puts `lines` on disk, and only then makes the changes.
    fn change(&self, medium: &mut Medium, lines: Vec<Line>) -> io::Result<()> {
        self.read(medium)?;
        if let Medium::Disk(journal, _) = medium
            && !lines.is_empty()
        {
            journal.append(&lines, || self.state().lines())?;
        }
        // One by one: questions are answered in between.
        lines.into_iter().for_each(|line| self.state().apply(line));
        let mut state = self.state();
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

    /// Reads what an earlier run kept, unless that was done. What of it cannot be is set aside.
    fn read(&self, medium: &mut Medium) -> io::Result<()> {
        let Medium::Unread(folder) = medium else { return Ok(()) };
        let folder = folder.clone();
        let (mut journal, Read { lines, damaged: _ }) = Journal::open(&folder)?;
        let mut state = self.state();
        state.was_set_aside(set_aside::totals(&folder));
        lines.into_iter().for_each(|line| state.apply(line));
        let is_invalid = state.has_aside();
        drop(state);
        if is_invalid {
            self.write_aside(Some(&folder));
            if let Err(error) = journal.rewrite(&self.state().lines()) {
                error!(
                    "usage that was set aside stays in the journal, too, until it is written anew: {error}"
                );
            }
        }
        *medium = Medium::Disk(journal, folder);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

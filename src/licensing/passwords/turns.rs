//! Whose password is hashed next.
//!
//! Not here: who waits, and beside whom (see `lines`), what is hashed, and who has places of its own (see `passwords`).

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::lines::{Job, Lane, Lines};
use crate::licensing::refusal::Refusal;

/// Turns; a clone shares them.
#[derive(Clone)]
pub(super) struct Turns(Arc<Shared>);

struct Shared {
    at_a_time: usize,
    waiting: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    turns: usize,
    /// Of authenticated calls, and of sign-ins.
    lines: [Lines; 2],
    longest_lately: Duration,
}

/// A thread that hashes.
struct Running {
    shared: Arc<Shared>,
    has_ended: bool,
}

/// One address, and one name at an address, has one of so many parts of the places to wait in; an account has half of its.
const SHARE: usize = 8;
const SHARE_OF_AN_ACCOUNT: usize = 2;

/// Hashing gives way to answers: a sidecar in the same process has questions to answer meanwhile.
const NICENESS: i32 = 5;

impl Turns {
    pub(super) fn new(at_a_time: usize, waiting: usize) -> Self {
        Self(Arc::new(Shared { at_a_time, waiting, state: Mutex::default() }))
    }

    /// A place for `work`, if there is one. A call that is given up keeps its place until its work is done, or has none if
    /// it has not begun.
    pub(super) fn place<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<Place<T>> {
        let (tell, told) = oneshot::channel();
        let call = Arc::new(());
        let work = Box::new(move || {
            // A call that was given up hears nothing.
            let _ = tell.send(work());
        });
        let begun = self.0.begin(lane, Job { call: Arc::downgrade(&call), work })?;
        Some(Place { waits: begun == Begun::Waits, told, _call: call })
    }

    /// Does `work` when its turn comes.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.place(lane, work).ok_or_else(full)?.done().await
    }

    /// The longest that work has taken lately, with what it waited for a processor meanwhile.
    pub(super) fn longest_lately(&self) -> Duration {
        self.0.state().longest_lately
    }

    #[cfg(test)]
    pub(super) fn took(&self, time: Duration) {
        self.0.state().took(time);
    }
}

/// A place of a call: its work has begun, or waits.
pub(super) struct Place<T> {
    waits: bool,
    told: oneshot::Receiver<T>,
    _call: Arc<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    Now,
    Waits,
}

impl<T> Place<T> {
    pub(super) const fn waits(&self) -> bool {
        self.waits
    }

    /// What came of the work, unless the place was given to another.
    pub(super) async fn done(self) -> Result<T, Refusal> {
        self.told.await.map_err(|_| full())
    }
}

pub(super) fn full() -> Refusal {
    Refusal::TooMany("too many passwords are being looked at; try again in a moment".to_owned())
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a job or lets it wait, if there is room.
    fn begin(self: &Arc<Self>, lane: Lane, job: Job) -> Option<Begun> {
        let mut state = self.state();
        if self.at_a_time <= state.running {
            return state.wait(lane, job, self.waiting).then_some(Begun::Waits);
        }
        state.running += 1;
        let mut running = Running { shared: Arc::clone(self), has_ended: false };
        drop(state);
        let hash = move || {
            // Where it may not, it hashes all the same.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            let mut next = Some(job);
            while let Some(job) = next {
                let began = Instant::now();
                (job.work)();
                next = running.next(began.elapsed());
            }
        };
        // A thread that cannot be had is one that ended: its job is dropped, and its call hears of it.
        std::thread::Builder::new().name("passwords".to_owned()).spawn(hash).ok().map(|_| Begun::Now)
    }
}

impl Running {
    /// What to do next. When there is nothing this has ended, before another call finds it at work and waits for it.
    fn next(&mut self, took: Duration) -> Option<Job> {
        let mut state = self.shared.state();
        state.took(took);
        let next = state.next();
        if next.is_none() {
            state.running -= 1;
            self.has_ended = true;
        }
        next
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.state().running -= 1;
        }
    }
}

impl State {
    fn wait(&mut self, lane: Lane, job: Job, most: usize) -> bool {
        let [accounts, sign_ins] = &mut self.lines;
        let (lines, share) = match lane {
            Lane::Own | Lane::Account { .. } => (accounts, SHARE_OF_AN_ACCOUNT),
            Lane::Known { .. } | Lane::Address { .. } => (sign_ins, SHARE),
        };
        lines.push(lane, job, most, most.div_ceil(share))
    }

    /// What took long is forgotten by and by, an eighth with each work that is done.
    fn took(&mut self, time: Duration) {
        self.longest_lately = time.max(self.longest_lately - self.longest_lately / 8);
    }

    fn next(&mut self) -> Option<Job> {
        self.turns = self.turns.wrapping_add(1);
        let [accounts, sign_ins] = &mut self.lines;
        let (one, two) =
            if self.turns.is_multiple_of(2) { (accounts, sign_ins) } else { (sign_ins, accounts) };
        one.pop().or_else(|| two.pop())
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state();
        let waiting = state.lines.each_ref().map(Lines::jobs);
        formatter.debug_struct("Turns").field("running", &state.running).field("lanes", &waiting).finish()
    }
}

#[cfg(test)]
mod tests;

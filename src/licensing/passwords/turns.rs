//! Whose password is hashed next.
//!
//! Calls that are authenticated and sign-ins from where one succeeded before go first, each account and each of those in
//! its turn; of the others each address has its turn. None takes the places of others, and none waits for ever: one turn of
//! four is a stranger's. Not here: what is hashed.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::oneshot;

use crate::licensing::refusal::Refusal;

/// Whose turn it is, and beside whom it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::licensing) enum Lane {
    /// The backend itself, at its start.
    Own,
    /// A call of this account.
    Account(String),
    /// A sign-in from where this name signed in before.
    Known(String),
    /// Any other sign-in, by where it comes from.
    Address(String),
}

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
    /// Of authenticated calls, of known sign-ins, and of all others.
    lines: [Lines; 3],
}

/// Who waits, by whose turn it is next.
#[derive(Default)]
struct Lines(VecDeque<(Lane, VecDeque<Job>)>);

/// What a call waits for.
struct Job {
    /// Alive as long as its call is.
    call: Weak<()>,
    work: Box<dyn FnOnce() + Send>,
}

/// A thread that hashes.
struct Running {
    shared: Arc<Shared>,
    has_ended: bool,
}

/// One address, and one name at an address, has one of so many parts of the places to wait in; an account has half of its.
const SHARE: usize = 8;
const SHARE_OF_AN_ACCOUNT: usize = 2;

/// A stranger's turn comes at the latest after so many others.
const OTHERS_FIRST: usize = 3;

/// Hashing gives way to answers: a sidecar in the same process has questions to answer meanwhile.
const NICENESS: i32 = 5;

impl Turns {
    pub(super) fn new(at_a_time: usize, waiting: usize) -> Self {
        Self(Arc::new(Shared { at_a_time, waiting, state: Mutex::default() }))
    }

    /// Does `work` when its turn comes. A call that is given up keeps its place until its work is done, or has none if it
    /// has not begun.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (tell, told) = oneshot::channel();
        let call = Arc::new(());
        let work = Box::new(move || {
            // A call that was given up hears nothing.
            let _ = tell.send(work());
        });
        if !self.0.begin(lane, Job { call: Arc::downgrade(&call), work }) {
            return Err(full());
        }
        let told = told.await;
        drop(call);
        told.map_err(|_| full())
    }
}

fn full() -> Refusal {
    Refusal::TooMany("too many passwords are being looked at; try again in a moment".to_owned())
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a job or lets it wait; whether there was room.
    fn begin(self: &Arc<Self>, lane: Lane, job: Job) -> bool {
        let mut state = self.state();
        if self.at_a_time <= state.running {
            return state.wait(lane, job, self.waiting);
        }
        state.running += 1;
        let mut running = Running { shared: Arc::clone(self), has_ended: false };
        drop(state);
        let hash = move || {
            // Where it may not, it hashes all the same.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            let mut next = Some(job);
            while let Some(job) = next {
                (job.work)();
                next = running.next();
            }
        };
        // A thread that cannot be had is one that ended: its job is dropped, and its call hears of it.
        std::thread::Builder::new().name("passwords".to_owned()).spawn(hash).is_ok()
    }
}

impl Running {
    /// What to do next. When there is nothing this has ended, before another call finds it at work and waits for it.
    fn next(&mut self) -> Option<Job> {
        let mut state = self.shared.state();
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
        let [accounts, known, others] = &mut self.lines;
        let (lines, share) = match lane {
            Lane::Own | Lane::Account(_) => (accounts, SHARE_OF_AN_ACCOUNT),
            Lane::Known(_) => (known, SHARE),
            Lane::Address(_) => (others, SHARE),
        };
        lines.push(lane, job, most, most.div_ceil(share))
    }

    fn next(&mut self) -> Option<Job> {
        self.turns = self.turns.wrapping_add(1);
        let [accounts, known, others] = &mut self.lines;
        let strangers_first = self.turns.is_multiple_of(OTHERS_FIRST + 1);
        let first = if strangers_first { others.pop() } else { None };
        let (one, two) = if self.turns.is_multiple_of(2) { (accounts, known) } else { (known, accounts) };
        first.or_else(|| one.pop()).or_else(|| two.pop()).or_else(|| others.pop())
    }
}

impl Lines {
    /// Lets a job wait, unless its lane has its share. Where all places are taken, the longest lane gives one up, so that
    /// few who send much keep nobody out.
    fn push(&mut self, lane: Lane, job: Job, most: usize, share: usize) -> bool {
        for (_, jobs) in &mut self.0 {
            jobs.retain(Job::is_waited_for);
        }
        self.0.retain(|(_, jobs)| !jobs.is_empty());
        let all: usize = self.0.iter().map(|(_, jobs)| jobs.len()).sum();
        let own = self.0.iter().position(|(other, _)| *other == lane);
        let has = own.and_then(|own| self.0.get(own)).map_or(0, |(_, jobs)| jobs.len());
        if share <= has {
            return false;
        }
        if most <= all {
            let longest = self.0.iter_mut().max_by_key(|(_, jobs)| jobs.len());
            let Some((_, jobs)) = longest.filter(|(_, jobs)| has + 1 < jobs.len()) else { return false };
            jobs.pop_back();
        }
        match own.and_then(|own| self.0.get_mut(own)) {
            Some((_, jobs)) => jobs.push_back(job),
            None => self.0.push_back((lane, VecDeque::from([job]))),
        }
        true
    }

    fn pop(&mut self) -> Option<Job> {
        loop {
            let (lane, mut jobs) = self.0.pop_front()?;
            let job = jobs.pop_front();
            if !jobs.is_empty() {
                self.0.push_back((lane, jobs));
            }
            if job.as_ref().is_some_and(Job::is_waited_for) {
                return job;
            }
        }
    }
}

impl Job {
    fn is_waited_for(&self) -> bool {
        0 < self.call.strong_count()
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state();
        let waiting: Vec<usize> = state.lines.iter().map(|lines| lines.0.len()).collect();
        formatter.debug_struct("Turns").field("running", &state.running).field("lanes", &waiting).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::mpsc,
        task::{Context, Waker},
    };

    use super::*;

    type Waiting = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

    fn address(of: u8) -> Lane {
        Lane::Address(of.to_string())
    }

    /// Work that has begun and goes on until the sender is used or dropped.
    async fn begun(turns: &Turns) -> (tokio::task::JoinHandle<Result<(), Refusal>>, mpsc::Sender<()>) {
        let (end, ended) = mpsc::channel();
        let (begins, begun) = oneshot::channel();
        let turns = turns.clone();
        let call = tokio::spawn(async move {
            let work = move || {
                begins.send(()).unwrap();
                ended.recv().ok();
            };
            turns.work(address(0), work).await
        });
        begun.await.unwrap();
        (call, end)
    }

    /// A call that waits in `lane` and then writes `name` down; whether it found a place.
    fn waits(
        turns: &Turns,
        lane: Lane,
        name: &'static str,
        log: &Arc<Mutex<Vec<&'static str>>>,
    ) -> (Waiting, bool) {
        let (turns, log) = (turns.clone(), Arc::clone(log));
        let mut call: Waiting =
            Box::pin(async move { turns.work(lane, move || log.lock().unwrap().push(name)).await });
        let waits = call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        (call, waits)
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_keeps_its_place_until_its_work_is_done() {
        let turns = Turns::new(1, 8);
        let (call, end) = begun(&turns).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        assert_eq!(turns.0.state().running, 1, "the hash is still being made");
        let log = Arc::default();
        let (waiting, _) = waits(&turns, address(1), "given up", &log);
        drop(waiting);
        let (waiting, _) = waits(&turns, address(1), "goes on", &log);
        end.send(()).unwrap();
        waiting.await.unwrap();
        assert_eq!(*log.lock().unwrap(), ["goes on"]);
    }

    #[tokio::test]
    async fn one_address_keeps_no_other_and_no_authenticated_call_waiting() {
        let turns = Turns::new(1, 16);
        let (call, end) = begun(&turns).await;
        let log = Arc::default();
        let mut calls = Vec::new();
        // Eight addresses take all places, two each, and one of them tries for more.
        for of in 0..8 {
            for name in ["stranger", "stranger, second", "stranger, third"] {
                let (waiting, placed) = waits(&turns, address(of), name, &log);
                assert_eq!(placed, name != "stranger, third", "each has its share");
                if placed {
                    calls.push(waiting);
                }
            }
        }
        let (newcomer, placed) = waits(&turns, address(9), "newcomer", &log);
        assert!(placed, "the longest lane gives a place up");
        let (known, placed) = waits(&turns, Lane::Known("anna".to_owned()), "known", &log);
        assert!(placed);
        let (account, placed) = waits(&turns, Lane::Account("owner".to_owned()), "account", &log);
        assert!(placed);
        end.send(()).unwrap();
        call.await.unwrap().unwrap();
        for waiting in [newcomer, known, account] {
            waiting.await.unwrap();
        }
        let mut ended = Vec::new();
        for waiting in calls {
            ended.push(waiting.await.is_ok());
        }
        assert_eq!(ended.iter().filter(|done| !**done).count(), 1, "the one whose place was given up");
        let log = log.lock().unwrap();
        let place = |name| log.iter().position(|done| *done == name).unwrap();
        assert!(place("known").max(place("account")) < 3, "{log:?}");
        assert!(place("newcomer") < 12, "before anybody's second: {log:?}");
    }

    #[tokio::test]
    async fn strangers_have_their_turn_whoever_is_known() {
        let turns = Turns::new(1, 64);
        let (call, end) = begun(&turns).await;
        let log = Arc::default();
        let mut calls = Vec::new();
        for known in 0..8 {
            calls.push(waits(&turns, Lane::Known(known.to_string()), "known", &log).0);
            calls.push(waits(&turns, Lane::Account(known.to_string()), "account", &log).0);
        }
        calls.push(waits(&turns, address(1), "stranger", &log).0);
        end.send(()).unwrap();
        call.await.unwrap().unwrap();
        for waiting in calls {
            waiting.await.unwrap();
        }
        let log = log.lock().unwrap();
        let stranger = log.iter().position(|done| *done == "stranger").unwrap();
        assert!(stranger <= 3, "{log:?}");
    }

    #[tokio::test]
    async fn where_nothing_may_wait_all_but_what_runs_is_refused() {
        let turns = Turns::new(0, 0);
        let refused = turns.work(Lane::Own, || ()).await.unwrap_err();
        assert!(matches!(refused, Refusal::TooMany(_)), "{refused:?}");
    }
}

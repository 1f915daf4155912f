//! Who waits for a password to be hashed, by whose turn it is next.
//!
//! Each customer has its turn, and within it each account, and each name at an address where it is known; of sign-ins each
//! network has its turn, and within it each address. Where all places are taken, whoever has most gives one up. Not here:
//! what hashes (see `turns`).

use std::{collections::VecDeque, sync::Weak};

/// Whose turn it is, and beside whom it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::licensing) enum Lane {
    /// The backend itself, at its start.
    Own,
    /// A call of this account.
    Account { customer: String, account: String },
    /// A sign-in beside its address, by the customer and what is known of it.
    Known { customer: String, pair: String },
    /// A sign-in, by where it comes from.
    Address { network: String, address: String },
}

impl Lane {
    /// Whose lanes have a turn together.
    fn group(&self) -> &str {
        match self {
            Self::Own => "",
            Self::Account { customer, .. } | Self::Known { customer, .. } => customer,
            Self::Address { network, .. } => network,
        }
    }
}

/// Who waits, by whose turn it is next.
#[derive(Default)]
pub(super) struct Lines(VecDeque<Group>);

/// Those who have a turn together, by whose it is within.
struct Group {
    name: String,
    lanes: VecDeque<(Lane, VecDeque<Job>)>,
}

/// What a call waits for.
pub(super) struct Job {
    /// Alive as long as its call is.
    pub(super) call: Weak<()>,
    pub(super) work: Box<dyn FnOnce() + Send>,
}

impl Lines {
    /// Lets a job wait, unless its lane has its share. Where all places are taken, the group with most gives one up, and
    /// else the longest lane of its own, so that few who send much keep nobody out.
    pub(super) fn push(&mut self, lane: Lane, job: Job, most: usize, share: usize) -> bool {
        self.0.iter_mut().for_each(Group::forget);
        self.0.retain(|group| !group.lanes.is_empty());
        let own = self.0.iter().find(|group| group.name == lane.group());
        let (group_has, has) = own.map_or((0, 0), |own| (own.jobs(), own.jobs_of(&lane)));
        if share <= has {
            return false;
        }
        if most <= self.jobs() {
            let largest = self.0.iter_mut().max_by_key(|group| group.jobs());
            let gives = match largest.filter(|largest| group_has + 1 < largest.jobs()) {
                Some(largest) => largest.give_up(0),
                None => self.group(&lane).is_some_and(|own| own.give_up(has + 1)),
            };
            if !gives {
                return false;
            }
        }
        match self.group(&lane) {
            Some(own) => own.push(lane, job),
            None => {
                let name = lane.group().to_owned();
                self.0.push_back(Group { name, lanes: VecDeque::from([(lane, VecDeque::from([job]))]) });
            }
        }
        true
    }

    fn group(&mut self, lane: &Lane) -> Option<&mut Group> {
        self.0.iter_mut().find(|group| group.name == lane.group())
    }

    pub(super) fn jobs(&self) -> usize {
        self.0.iter().map(Group::jobs).sum()
    }

    pub(super) fn pop(&mut self) -> Option<Job> {
        loop {
            let mut group = self.0.pop_front()?;
            let job = group.pop();
            if !group.lanes.is_empty() {
                self.0.push_back(group);
            }
            if job.as_ref().is_some_and(Job::is_waited_for) {
                return job;
            }
        }
    }
}

impl Group {
    fn jobs(&self) -> usize {
        self.lanes.iter().map(|(_, jobs)| jobs.len()).sum()
    }

    fn jobs_of(&self, lane: &Lane) -> usize {
        self.lanes.iter().find(|(own, _)| own == lane).map_or(0, |(_, jobs)| jobs.len())
    }

    /// Forgets calls that were given up.
    fn forget(&mut self) {
        self.lanes.iter_mut().for_each(|(_, jobs)| jobs.retain(Job::is_waited_for));
        self.lanes.retain(|(_, jobs)| !jobs.is_empty());
    }

    /// Gives up what came last in the longest lane, if that has more than `least`.
    fn give_up(&mut self, least: usize) -> bool {
        let longest = self.lanes.iter_mut().max_by_key(|(_, jobs)| jobs.len());
        longest.filter(|(_, jobs)| least < jobs.len()).and_then(|(_, jobs)| jobs.pop_back()).is_some()
    }

    fn push(&mut self, lane: Lane, job: Job) {
        match self.lanes.iter_mut().find(|(own, _)| *own == lane) {
            Some((_, jobs)) => jobs.push_back(job),
            None => self.lanes.push_back((lane, VecDeque::from([job]))),
        }
    }

    fn pop(&mut self) -> Option<Job> {
        let (lane, mut jobs) = self.lanes.pop_front()?;
        let job = jobs.pop_front();
        if !jobs.is_empty() {
            self.lanes.push_back((lane, jobs));
        }
        job
    }
}

impl Job {
    fn is_waited_for(&self) -> bool {
        0 < self.call.strong_count()
    }
}

//! A caller and what it may ask.
//!
//! The decision takes what is settled here as an input and never looks at the transport. Not here: how a caller is told
//! apart (see `callers`).

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};

use crate::{
    config,
    domain::{Operation, Role, SubscriptionId},
    enforcement::refusal::Refusal,
    names::Named as _,
    source::SourceError,
};

/// A caller.
#[derive(Debug)]
pub struct Caller {
    name: String,
    operations: Operations,
    subscriptions: Option<BTreeSet<SubscriptionId>>,
    vouches_for_administrators: bool,
    reads: bool,
    reports_usage: bool,
    refreshes: bool,
    quota: Option<(config::Quota, Arc<DefaultDirectRateLimiter>)>,
    refused: Arc<Refused>,
}

/// How often a caller was refused what others may ask.
#[derive(Debug, Default)]
struct Refused {
    not_entitled: AtomicU64,
    over_quota: AtomicU64,
}

/// The same, as it was at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerRefusals {
    /// It lacked the right.
    pub not_entitled: u64,
    /// It had asked too much.
    pub over_quota: u64,
}

/// A set of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operations(u16);

/// What a caller may or may not do besides asking about an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See and watch subscriptions, and simulate.
    Read,
    /// Report usage.
    ReportUsage,
    /// Ask for a refresh.
    Refresh,
}

/// The role an actor is answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VouchedRole {
    /// The role.
    pub role: Role,
    /// A role was asked for that the caller may not vouch for.
    pub not_vouched: bool,
}

/// All that a caller that is held to some subscriptions hears of what failed for all.
const FAILED: &str = "the last refresh failed; the log of the sidecar says why";

impl Caller {
    /// One that may ask anything: whoever calls, where callers are not told apart.
    #[must_use]
    pub fn trusted() -> Self {
        Self {
            name: "anybody".to_owned(),
            operations: Operations::of(Operation::ALL),
            subscriptions: None,
            vouches_for_administrators: true,
            reads: true,
            reports_usage: true,
            refreshes: true,
            quota: None,
            refused: Arc::default(),
        }
    }

    /// One that may ask nothing: whoever is not in the table.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            name: "unknown".to_owned(),
            operations: Operations::of([]),
            subscriptions: Some(BTreeSet::new()),
            vouches_for_administrators: false,
            reads: false,
            reports_usage: false,
            refreshes: false,
            quota: None,
            refused: Arc::default(),
        }
    }

    pub(super) fn of_row(row: &config::Caller) -> Self {
        let config::Caller {
            name,
            identity: _,
            operations,
            subscriptions,
            vouches_for_administrators,
            reads,
            reports_usage,
            refreshes,
            quota,
        } = row;
        let named = Operation::ALL.into_iter().filter(|operation| operations.contains(operation.name()));
        let limited = |quota: config::Quota| {
            let limiter = RateLimiter::direct(Quota::per_second(quota.per_second).allow_burst(quota.burst));
            (quota, Arc::new(limiter))
        };
        Self {
            name: name.clone(),
            operations: Operations::of(named),
            subscriptions: subscriptions.clone(),
            vouches_for_administrators: *vouches_for_administrators,
            reads: *reads,
            reports_usage: *reports_usage,
            refreshes: *refreshes,
            quota: quota.map(limited),
            refused: Arc::default(),
        }
    }

    /// From now on it has asked what `earlier` has asked, if it may ask as much.
    pub(super) fn go_on_from(&mut self, earlier: &Self) {
        self.refused = Arc::clone(&earlier.refused);
        if let (Some((quota, limiter)), Some((earlier, asked))) = (&mut self.quota, &earlier.quota)
            && quota == earlier
        {
            *limiter = Arc::clone(asked);
        }
    }

    /// What it is called in the table, in the log and in refusals; no two callers are called the same.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How often it was refused.
    pub(super) fn refusals(&self) -> CallerRefusals {
        let Refused { not_entitled, over_quota } = &*self.refused;
        let [not_entitled, over_quota] =
            [not_entitled, over_quota].map(|count| count.load(Ordering::Relaxed));
        CallerRefusals { not_entitled, over_quota }
    }

    /// The role that counts when this caller claims `role` (semantics 4.4).
    #[must_use]
    pub const fn vouch(&self, role: Role) -> VouchedRole {
        match role {
            Role::Administrator if !self.vouches_for_administrators => {
                VouchedRole { role: Role::User, not_vouched: true }
            }
            Role::User | Role::Administrator | Role::Service => VouchedRole { role, not_vouched: false },
        }
    }

    /// Whether there is anything it may do.
    pub(super) fn may_call(&self) -> Result<(), Refusal> {
        let Self { reads, reports_usage, refreshes, .. } = self;
        if *reads || *reports_usage || *refreshes { Ok(()) } else { self.may_ask_anything() }
    }

    /// Whether there is anything it may ask about.
    pub fn may_ask_anything(&self) -> Result<(), Refusal> {
        let nothing = self.operations == Operations::of([])
            || self.subscriptions.as_ref().is_some_and(BTreeSet::is_empty);
        if nothing { Err(self.refused("any operation")) } else { Ok(()) }
    }

    /// Whether it may ask about `operation`.
    pub fn may_ask(&self, operation: Operation) -> Result<(), Refusal> {
        if self.operations.has(operation) { Ok(()) } else { Err(self.refused(operation.name())) }
    }

    /// Whether it may ask about this subscription, held or not.
    pub fn may_name(&self, subscription_id: &SubscriptionId) -> Result<(), Refusal> {
        if self.may_know_of(subscription_id) {
            return Ok(());
        }
        Err(self.refused(&format!("subscription {subscription_id}")))
    }

    /// The same of one it did not name; a refusal says no more than it knows.
    pub fn may_hear_of(&self, subscription_id: &SubscriptionId) -> Result<(), Refusal> {
        if self.may_know_of(subscription_id) {
            return Ok(());
        }
        Err(self.refused("the subscription that is held"))
    }

    /// The same of all that are held, by how many they are.
    pub fn may_hear_of_all(&self) -> Result<(), Refusal> {
        if self.subscriptions.is_none() {
            return Ok(());
        }
        Err(self.refused("subscriptions that are not named"))
    }

    /// What it hears of a failure when it asks about this subscription: all, or what is of this one alone, for the rest may
    /// name others.
    pub(super) fn hears(&self, failure: &SourceError, id: &SubscriptionId) -> Option<String> {
        if self.subscriptions.is_none() {
            return Some(failure.to_string());
        }
        let of_all = failure.is_of_all().then(|| FAILED.to_owned());
        failure.only_of(id).map(ToString::to_string).or(of_all)
    }

    /// The same when nothing is held that it could have asked about.
    pub(super) fn hears_of_all(&self, failure: &SourceError) -> String {
        if self.subscriptions.is_none() { failure.to_string() } else { FAILED.to_owned() }
    }

    fn may_know_of(&self, subscription_id: &SubscriptionId) -> bool {
        self.subscriptions.as_ref().is_none_or(|own| own.contains(subscription_id))
    }

    /// Whether it has this right.
    pub fn may(&self, right: Right) -> Result<(), Refusal> {
        let (has, name) = match right {
            Right::Read => (self.reads, "reads"),
            Right::ReportUsage => (self.reports_usage, "reports_usage"),
            Right::Refresh => (self.refreshes, "refreshes"),
        };
        if has { Ok(()) } else { Err(self.refused(name)) }
    }

    /// Takes the rest of `count` questions from what it may ask now: one was taken for their call.
    pub(super) fn spend_rest(&self, count: usize) -> Result<(), Refusal> {
        match &self.quota {
            // More than its burst: not at any time, whatever was taken before.
            Some((quota, _)) if usize::try_from(quota.burst.get()).is_ok_and(|burst| burst < count) => {
                self.spend(count)
            }
            Some(_) | None => self.spend(count.saturating_sub(1)),
        }
    }

    /// Takes `count` questions from what it may ask now.
    pub fn spend(&self, count: usize) -> Result<(), Refusal> {
        let Some((quota, limiter)) = &self.quota else { return Ok(()) };
        let Some(count) = u32::try_from(count).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        let over = |retry_after| {
            self.refused.over_quota.fetch_add(1, Ordering::Relaxed);
            Refusal::OverQuota {
                caller: self.name.clone(),
                per_second: quota.per_second.get(),
                burst: quota.burst.get(),
                retry_after,
            }
        };
        match limiter.check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(over(Some(until.wait_time_from(limiter.clock().now())))),
            // More than its burst: not at any time.
            Err(_) => Err(over(None::<Duration>)),
        }
    }

    fn refused(&self, what: &str) -> Refusal {
        self.refused.not_entitled.fetch_add(1, Ordering::Relaxed);
        Refusal::NotEntitled { caller: self.name.clone(), what: what.to_owned() }
    }
}

impl Operations {
    fn of(operations: impl IntoIterator<Item = Operation>) -> Self {
        Self(operations.into_iter().fold(0, |set, operation| set | Self::bit(operation)))
    }

    const fn has(self, operation: Operation) -> bool {
        self.0 & Self::bit(operation) != 0
    }

    const fn bit(operation: Operation) -> u16 {
        1 << operation as u16
    }
}

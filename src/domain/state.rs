//! The seven states in order of severity, and the conditions that bring them about.
//!
//! Not here: when a condition holds (see `rules`).

/// The state of a subscription. The order is the severity of semantics 3, so the headline is the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubscriptionState {
    /// Correct as far as licensing goes.
    Ok,
    /// Something needs attention soon.
    Warning,
    /// No SMS credit remains.
    SmsCreditsDepleted,
    /// In violation, everything still works.
    ViolationFullFunctionality,
    /// In violation for longer, or by more.
    ViolationLimitedFunctionality,
    /// ESET Secure Authentication is disabled.
    Disabled,
    /// Not activated yet.
    NotActivated,
}

impl SubscriptionState {
    /// Every state, least severe first.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Warning,
        Self::SmsCreditsDepleted,
        Self::ViolationFullFunctionality,
        Self::ViolationLimitedFunctionality,
        Self::Disabled,
        Self::NotActivated,
    ];
}

/// Which rule a condition comes from, in the order of semantics 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionKind {
    /// 2.1
    ExpiresSoon,
    /// 2.2
    SeatsLow,
    /// 2.3
    SmsCreditsLow,
    /// 2.4
    AllUsersNearLimit,
    /// 2.5
    ComponentsNearLimit,
    /// 2.6
    SmsCreditsDepleted,
    /// 2.7
    Expired,
    /// 2.8
    DisabledByLicensing,
    /// 2.9
    UsersOverused,
    /// 2.10
    Deactivated,
    /// 2.11
    NotActivated,
}

/// A condition that holds, with the column of the restriction table it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which rule it comes from.
    pub kind: ConditionKind,
    /// Its column; never `Ok`.
    pub column: SubscriptionState,
}

/// The conditions that hold at one instant: for each of 2.1 to 2.11 its column, or nothing.
///
/// Compact and `Copy`, because one is kept for every turn of every subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions([Option<Condition>; 11]);

impl Conditions {
    /// From the outcome of each rule, in the order of semantics 2.
    #[must_use]
    pub const fn new(outcomes: [Option<Condition>; 11]) -> Self {
        Self(outcomes)
    }

    /// Those that hold, in the order of semantics 2.
    pub fn iter(&self) -> impl Iterator<Item = Condition> + '_ {
        self.0.iter().copied().flatten()
    }

    /// The most severe column that holds (semantics 3).
    #[must_use]
    pub fn headline(&self) -> SubscriptionState {
        self.iter().map(|condition| condition.column).max().unwrap_or(SubscriptionState::Ok)
    }
}

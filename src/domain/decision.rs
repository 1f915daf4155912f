//! A question's answer: which conditions deny, what the footnotes except, why, and until when.
//!
//! Not here: who may vouch for an administrator, and how old facts may be; both are settled before the question
//! gets here.

use super::{
    instant::Instant,
    matrix::{Access, Row, cell},
    question::{Operation, Question, Role, SmsDelivery},
    state::{ConditionKind, Conditions, SubscriptionState},
    timeline::Timeline,
};

/// Why an answer is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Every condition that holds allows it.
    Allowed,
    /// Footnote 3.
    AdministratorException,
    /// 2.6 denies.
    SmsCreditsDepleted,
    /// 2.7 denies.
    SubscriptionExpired,
    /// 2.9 denies.
    UsersOverused,
    /// 2.11 denies.
    NotActivated,
    /// 2.10 denies.
    Deactivated,
    /// 2.8 denies.
    DisabledByLicensing,
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The state of the subscription.
    pub state: SubscriptionState,
    /// Why; it says whether, too.
    pub reason: Reason,
    /// The first instant at which state or reason differ if no fact changes; nothing when they hold for good.
    pub until: Option<Instant>,
}

/// Answers `question` at `now` from a timeline.
#[must_use]
pub fn decide(timeline: &Timeline, question: Question, now: Instant) -> Decision {
    let class = question.class();
    let (current, later) = timeline.at_and_after(now);
    let (state, reason) = (current.state, current.reasons.of(class));
    let until = later.iter().find(|turn| turn.state != state || turn.reasons.of(class) != reason);
    Decision { state, reason, until: until.map(|turn| turn.from) }
}

/// The reason that is the same in every state, so that it can be given with no facts at all (semantics 4.5).
#[must_use]
pub fn without_facts(question: Question) -> Option<Reason> {
    match question.class() {
        Class::DisableUsersAsAdministrator | Class::TurnOffAuthenticationAsAdministrator => {
            Some(Reason::AdministratorException)
        }
        Class::Row(_) | Class::SmsWithoutCredits => None,
    }
}

/// The kinds of question that can get different answers: the table's rows, and what the footnotes and semantics
/// 4.2 except from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Row(Row),
    SmsWithoutCredits,
    DisableUsersAsAdministrator,
    TurnOffAuthenticationAsAdministrator,
}

/// The answer to every class of question while the same conditions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reasons {
    enable_users: Reason,
    disable_users: Reason,
    provision_users: Reason,
    authenticate_with_sms_otp: Reason,
    sms_without_credits: Reason,
    authenticate_with_mobile_app: Reason,
    authenticate_with_hard_token_or_fido: Reason,
    manage_configuration: Reason,
    disable_users_as_administrator: Reason,
    turn_off_authentication_as_administrator: Reason,
}

impl Reason {
    /// Whether an answer with this reason lets the operation go ahead.
    #[must_use]
    pub const fn access(self) -> Access {
        match self {
            Self::Allowed | Self::AdministratorException => Access::Allowed,
            Self::SmsCreditsDepleted
            | Self::SubscriptionExpired
            | Self::UsersOverused
            | Self::NotActivated
            | Self::Deactivated
            | Self::DisabledByLicensing => Access::Disabled,
        }
    }
}

impl Decision {
    /// Whether the operation may go ahead.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.reason.access()
    }
}

impl Question {
    const fn class(self) -> Class {
        match (self.operation, self.role, self.sms_delivery) {
            (Operation::DisableUsers, Role::Administrator, _) => Class::DisableUsersAsAdministrator,
            (Operation::TurnOffAuthentication, Role::Administrator, _) => {
                Class::TurnOffAuthenticationAsAdministrator
            }
            // The last credit's code must still verify; a gateway of one's own needs no credit (semantics 4.2).
            (Operation::VerifySmsOtp, _, _)
            | (Operation::AuthenticateWithSmsOtp, _, SmsDelivery::OwnGateway) => Class::SmsWithoutCredits,
            (operation, _, _) => Class::Row(operation.row()),
        }
    }
}

impl Reasons {
    /// Puts every class of question to the conditions that hold.
    pub(super) fn under(conditions: &Conditions) -> Self {
        let counts = |_| true;
        let but_credits = |kind| kind != ConditionKind::SmsCreditsDepleted;
        Self {
            enable_users: reason(conditions, Row::EnableUsers, counts),
            disable_users: reason(conditions, Row::DisableUsers, counts),
            provision_users: reason(conditions, Row::ProvisionUsers, counts),
            authenticate_with_sms_otp: reason(conditions, Row::AuthenticateWithSmsOtp, counts),
            sms_without_credits: reason(conditions, Row::AuthenticateWithSmsOtp, but_credits),
            authenticate_with_mobile_app: reason(conditions, Row::AuthenticateWithMobileApp, counts),
            authenticate_with_hard_token_or_fido: reason(
                conditions,
                Row::AuthenticateWithHardTokenOrFido,
                counts,
            ),
            manage_configuration: reason(conditions, Row::ManageConfiguration, counts),
            disable_users_as_administrator: excepted(reason(conditions, Row::DisableUsers, counts)),
            turn_off_authentication_as_administrator: excepted(reason(
                conditions,
                Row::ManageConfiguration,
                counts,
            )),
        }
    }

    const fn of(&self, class: Class) -> Reason {
        match class {
            Class::Row(Row::EnableUsers) => self.enable_users,
            Class::Row(Row::DisableUsers) => self.disable_users,
            Class::Row(Row::ProvisionUsers) => self.provision_users,
            Class::Row(Row::AuthenticateWithSmsOtp) => self.authenticate_with_sms_otp,
            Class::SmsWithoutCredits => self.sms_without_credits,
            Class::Row(Row::AuthenticateWithMobileApp) => self.authenticate_with_mobile_app,
            Class::Row(Row::AuthenticateWithHardTokenOrFido) => self.authenticate_with_hard_token_or_fido,
            Class::Row(Row::ManageConfiguration) => self.manage_configuration,
            Class::DisableUsersAsAdministrator => self.disable_users_as_administrator,
            Class::TurnOffAuthenticationAsAdministrator => self.turn_off_authentication_as_administrator,
        }
    }
}

/// Allowed only if every condition that holds and counts allows it (semantics 4.1); else the most severe that
/// denies, and of equals the first of semantics 2 (4.7).
fn reason(conditions: &Conditions, row: Row, counts: impl Fn(ConditionKind) -> bool) -> Reason {
    let mut denying = None;
    for condition in conditions.iter().filter(|condition| counts(condition.kind)) {
        let denies = cell(row, condition.column) == Access::Disabled;
        if denies && denying.is_none_or(|(column, _)| column < condition.column) {
            denying = Some((condition.column, condition.kind));
        }
    }
    denying.map_or(Reason::Allowed, |(_, kind)| denied_by(kind))
}

/// Footnote 3. The two rows it speaks of are denied in its column alone, so whatever denies is excepted
/// (semantics 4.3); a test holds the table to that.
const fn excepted(reason: Reason) -> Reason {
    match reason.access() {
        Access::Allowed => reason,
        Access::Disabled => Reason::AdministratorException,
    }
}

const fn denied_by(kind: ConditionKind) -> Reason {
    match kind {
        // Warnings deny nothing; were a cell to say otherwise, this is the reason that fits.
        ConditionKind::ExpiresSoon | ConditionKind::Expired => Reason::SubscriptionExpired,
        ConditionKind::SmsCreditsLow | ConditionKind::SmsCreditsDepleted => Reason::SmsCreditsDepleted,
        ConditionKind::SeatsLow
        | ConditionKind::AllUsersNearLimit
        | ConditionKind::ComponentsNearLimit
        | ConditionKind::UsersOverused => Reason::UsersOverused,
        ConditionKind::DisabledByLicensing => Reason::DisabledByLicensing,
        ConditionKind::Deactivated => Reason::Deactivated,
        ConditionKind::NotActivated => Reason::NotActivated,
    }
}

#[cfg(test)]
mod tests;

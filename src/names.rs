//! The names callers see in JSON and on the command line: the enum names of the public contract in lower case.
//!
//! Not the protocol's own names (see `enforcement::convert`); a test holds the two together.

use crate::domain::{
    Access, ConditionKind, Operation, Reason, Role, Row, SmsDelivery, SubscriptionState, matrix,
};

/// A value with a fixed name.
pub trait Named: Copy + 'static {
    /// Every value.
    const ALL: &'static [Self];
    /// What the values are called together, in the singular.
    const WHAT: &'static str;

    /// The name.
    fn name(self) -> &'static str;

    /// The value of a name; a hyphen may stand for an underscore.
    fn named(text: &str) -> Result<Self, NameError> {
        let wanted = text.replace('-', "_");
        Self::ALL.iter().copied().find(|value| value.name() == wanted).ok_or_else(|| NameError {
            what: Self::WHAT,
            text: text.to_owned(),
            known: Self::ALL.iter().map(|value| value.name()).collect::<Vec<_>>().join(", "),
        })
    }
}

/// A text that names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}; known are: {known}")]
pub struct NameError {
    what: &'static str,
    text: String,
    known: String,
}

impl Named for Operation {
    const ALL: &'static [Self] = &Self::ALL;
    const WHAT: &'static str = "operation";

    fn name(self) -> &'static str {
        match self {
            Self::EnableUsers => "enable_users",
            Self::DisableUsers => "disable_users",
            Self::ProvisionUsers => "provision_users",
            Self::SelfEnroll => "self_enroll",
            Self::AuthenticateWithSmsOtp => "authenticate_with_sms_otp",
            Self::AuthenticateWithMobileOtp => "authenticate_with_mobile_otp",
            Self::AuthenticateWithMobilePush => "authenticate_with_mobile_push",
            Self::AuthenticateWithHardToken => "authenticate_with_hard_token",
            Self::AuthenticateWithFido => "authenticate_with_fido",
            Self::ManageConfiguration => "manage_configuration",
            Self::TurnOffAuthentication => "turn_off_authentication",
            Self::VerifySmsOtp => "verify_sms_otp",
        }
    }
}

impl Named for Role {
    const ALL: &'static [Self] = &[Self::User, Self::Administrator, Self::Service];
    const WHAT: &'static str = "role";

    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Administrator => "administrator",
            Self::Service => "service",
        }
    }
}

impl Named for SmsDelivery {
    const ALL: &'static [Self] = &[Self::VendorCredits, Self::OwnGateway];
    const WHAT: &'static str = "SMS delivery";

    fn name(self) -> &'static str {
        match self {
            Self::VendorCredits => "vendor_credits",
            Self::OwnGateway => "own_gateway",
        }
    }
}

impl Named for Access {
    const ALL: &'static [Self] = &[Self::Allowed, Self::Disabled];
    const WHAT: &'static str = "access";

    fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Disabled => "disabled",
        }
    }
}

impl Named for SubscriptionState {
    const ALL: &'static [Self] = &Self::ALL;
    const WHAT: &'static str = "subscription state";

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::SmsCreditsDepleted => "sms_credits_depleted",
            Self::ViolationFullFunctionality => "violation_full_functionality",
            Self::ViolationLimitedFunctionality => "violation_limited_functionality",
            Self::Disabled => "disabled",
            Self::NotActivated => "not_activated",
        }
    }
}

impl Named for Reason {
    const ALL: &'static [Self] = &[
        Self::Allowed,
        Self::AdministratorException,
        Self::SmsCreditsDepleted,
        Self::SubscriptionExpired,
        Self::UsersOverused,
        Self::NotActivated,
        Self::Deactivated,
        Self::DisabledByLicensing,
    ];
    const WHAT: &'static str = "reason";

    fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::AdministratorException => "administrator_exception",
            Self::SmsCreditsDepleted => "sms_credits_depleted",
            Self::SubscriptionExpired => "subscription_expired",
            Self::UsersOverused => "users_overused",
            Self::NotActivated => "not_activated",
            Self::Deactivated => "deactivated",
            Self::DisabledByLicensing => "disabled_by_licensing",
        }
    }
}

impl Named for ConditionKind {
    const ALL: &'static [Self] = &[
        Self::ExpiresSoon,
        Self::SeatsLow,
        Self::SmsCreditsLow,
        Self::AllUsersNearLimit,
        Self::ComponentsNearLimit,
        Self::SmsCreditsDepleted,
        Self::Expired,
        Self::DisabledByLicensing,
        Self::UsersOverused,
        Self::Deactivated,
        Self::NotActivated,
    ];
    const WHAT: &'static str = "condition";

    fn name(self) -> &'static str {
        match self {
            Self::ExpiresSoon => "expires_soon",
            Self::SeatsLow => "seats_low",
            Self::SmsCreditsLow => "sms_credits_low",
            Self::AllUsersNearLimit => "all_users_near_limit",
            Self::ComponentsNearLimit => "components_near_limit",
            Self::SmsCreditsDepleted => "sms_credits_depleted",
            Self::Expired => "expired",
            Self::DisabledByLicensing => "disabled_by_licensing",
            Self::UsersOverused => "users_overused",
            Self::Deactivated => "deactivated",
            Self::NotActivated => "not_activated",
        }
    }
}

impl Named for Row {
    const ALL: &'static [Self] = &Self::ALL;
    const WHAT: &'static str = "row";

    fn name(self) -> &'static str {
        match self {
            Self::EnableUsers => "enable_users",
            Self::DisableUsers => "disable_users",
            Self::ProvisionUsers => "provision_users",
            Self::AuthenticateWithSmsOtp => "authenticate_with_sms_otp",
            Self::AuthenticateWithMobileApp => "authenticate_with_mobile_app",
            Self::AuthenticateWithHardTokenOrFido => "authenticate_with_hard_token_or_fido",
            Self::ManageConfiguration => "manage_configuration",
        }
    }
}

/// The name of a column of the restriction table.
#[must_use]
pub fn column_name(column: &matrix::Column) -> String {
    column.1.iter().map(|state| state.name()).collect::<Vec<_>>().join("_or_")
}

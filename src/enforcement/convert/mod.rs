//! Between the protocol and the domain, every field and value of either accounted for.
//!
//! Not here: any decision, and facts and instants, which other rooms read, too (see `wire`). What does not read is
//! refused with the path of the field.

mod condition;

use crate::{
    domain::{Access, ConditionKind, Operation, Reason, Role, Row, SmsDelivery, SubscriptionState},
    proto::enforcement as api,
    source::Origin,
    wire::unknown,
};

pub use crate::wire::{Unreadable, facts, instant, subscription_id, timestamp};
pub use condition::condition;

/// The operation a caller names.
pub fn operation(number: i32) -> Result<Operation, Unreadable> {
    match api::Operation::try_from(number) {
        Ok(api::Operation::EnableUsers) => Ok(Operation::EnableUsers),
        Ok(api::Operation::DisableUsers) => Ok(Operation::DisableUsers),
        Ok(api::Operation::ProvisionUsers) => Ok(Operation::ProvisionUsers),
        Ok(api::Operation::SelfEnroll) => Ok(Operation::SelfEnroll),
        Ok(api::Operation::AuthenticateWithSmsOtp) => Ok(Operation::AuthenticateWithSmsOtp),
        Ok(api::Operation::AuthenticateWithMobileOtp) => Ok(Operation::AuthenticateWithMobileOtp),
        Ok(api::Operation::AuthenticateWithMobilePush) => Ok(Operation::AuthenticateWithMobilePush),
        Ok(api::Operation::AuthenticateWithHardToken) => Ok(Operation::AuthenticateWithHardToken),
        Ok(api::Operation::AuthenticateWithFido) => Ok(Operation::AuthenticateWithFido),
        Ok(api::Operation::ManageConfiguration) => Ok(Operation::ManageConfiguration),
        Ok(api::Operation::TurnOffAuthentication) => Ok(Operation::TurnOffAuthentication),
        Ok(api::Operation::VerifySmsOtp) => Ok(Operation::VerifySmsOtp),
        Ok(api::Operation::Unspecified) => {
            Err(Unreadable::new("operation", "missing; say which operation is asked"))
        }
        Err(_) => Err(unknown("operation", number)),
    }
}

/// The role a caller names for an actor.
pub fn role(number: i32) -> Result<Role, Unreadable> {
    match api::ActorRole::try_from(number) {
        Ok(api::ActorRole::Unspecified | api::ActorRole::User) => Ok(Role::User),
        Ok(api::ActorRole::Administrator) => Ok(Role::Administrator),
        Ok(api::ActorRole::Service) => Ok(Role::Service),
        Err(_) => Err(unknown("actor.role", number)),
    }
}

/// The way an SMS goes.
pub fn sms_delivery(number: i32) -> Result<SmsDelivery, Unreadable> {
    match api::SmsDelivery::try_from(number) {
        Ok(api::SmsDelivery::Unspecified | api::SmsDelivery::VendorCredits) => Ok(SmsDelivery::VendorCredits),
        Ok(api::SmsDelivery::OwnGateway) => Ok(SmsDelivery::OwnGateway),
        Err(_) => Err(unknown("sms_delivery", number)),
    }
}

/// One value of the domain for one of the protocol, by the same name; a value without a twin does not compile.
macro_rules! twins {
    ($($domain:ident: $($value:ident)+;)+) => {$(
        impl From<$domain> for api::$domain {
            fn from(value: $domain) -> Self {
                match value {
                    $($domain::$value => Self::$value,)+
                }
            }
        }
    )+};
}

twins! {
    Access: Allowed Disabled;
    Operation: EnableUsers DisableUsers ProvisionUsers SelfEnroll AuthenticateWithSmsOtp AuthenticateWithMobileOtp
        AuthenticateWithMobilePush AuthenticateWithHardToken AuthenticateWithFido ManageConfiguration
        TurnOffAuthentication VerifySmsOtp;
    SmsDelivery: VendorCredits OwnGateway;
    SubscriptionState: Ok Warning SmsCreditsDepleted ViolationFullFunctionality ViolationLimitedFunctionality
        NotActivated Disabled;
    Reason: Allowed AdministratorException SmsCreditsDepleted SubscriptionExpired UsersOverused NotActivated
        Deactivated DisabledByLicensing;
    ConditionKind: ExpiresSoon SeatsLow SmsCreditsLow AllUsersNearLimit ComponentsNearLimit SmsCreditsDepleted
        Expired DisabledByLicensing UsersOverused Deactivated NotActivated;
    Origin: Live Persisted File;
}

impl From<Role> for api::ActorRole {
    fn from(role: Role) -> Self {
        match role {
            Role::User => Self::User,
            Role::Administrator => Self::Administrator,
            Role::Service => Self::Service,
        }
    }
}

impl From<Row> for api::RestrictionRow {
    fn from(row: Row) -> Self {
        match row {
            Row::EnableUsers => Self::EnableUsers,
            Row::DisableUsers => Self::DisableUsers,
            Row::ProvisionUsers => Self::ProvisionUsers,
            Row::AuthenticateWithSmsOtp => Self::AuthenticateWithSmsOtp,
            Row::AuthenticateWithMobileApp => Self::AuthenticateWithMobileApp,
            Row::AuthenticateWithHardTokenOrFido => Self::AuthenticateWithHardTokenOrFido,
            Row::ManageConfiguration => Self::ManageConfiguration,
        }
    }
}

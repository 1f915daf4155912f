//! Between the protocol and the domain, every field and value of either accounted for.
//!
//! Not here: any decision. What does not read is refused with the path of the field.

mod facts;

use std::fmt::Display;

use prost_types::Timestamp;

use crate::{
    domain::{
        Access, ConditionKind, Instant, Operation, Reason, Role, Row, SmsDelivery, SubscriptionId,
        SubscriptionState,
    },
    proto::enforcement as api,
    rfc3339,
    source::Origin,
};

pub use facts::{condition, facts};

/// A field that does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct Unreadable {
    /// Path of the field.
    pub field: String,
    /// What is wrong and what is wanted.
    pub what: String,
}

/// No more than this much of a caller's text is repeated to it.
const REPEATED: usize = 40;

impl Unreadable {
    /// `field` is wrong, because `what`.
    pub fn new(field: impl Into<String>, what: impl Display) -> Self {
        Self { field: field.into(), what: what.to_string() }
    }
}

/// The subscription a caller names; none when the text is empty.
pub fn subscription_id(text: &str) -> Result<Option<SubscriptionId>, Unreadable> {
    if text.is_empty() {
        return Ok(None);
    }
    let malformed = |_| {
        let shown: String = text.chars().take(REPEATED).collect();
        Unreadable::new(
            "subscription_id",
            format!("`{shown}` is no public license ID; it looks like `3A8-WN7-7TD`"),
        )
    };
    text.parse().map(Some).map_err(malformed)
}

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

/// An instant of the protocol; `field` is its path.
pub fn instant(timestamp: &Timestamp, field: &str) -> Result<Instant, Unreadable> {
    let Timestamp { seconds, nanos } = *timestamp;
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let instant = nanos.map(|nanos| {
        Instant::from_unix_nanos(Instant::from_unix_seconds(seconds).unix_nanos() + i128::from(nanos))
    });
    instant.filter(|instant| (rfc3339::FIRST..=rfc3339::LAST).contains(instant)).ok_or_else(|| {
        Unreadable::new(field, "not an instant of the years 0001 to 9999 with 0 to 999999999 nanos")
    })
}

/// An instant as the protocol has it; none past the year 9999, where the protocol has none.
pub fn timestamp(instant: Instant) -> Option<Timestamp> {
    if !(rfc3339::FIRST..=rfc3339::LAST).contains(&instant) {
        return None;
    }
    let (seconds, nanos) = rfc3339::split(instant);
    i32::try_from(nanos).ok().map(|nanos| Timestamp { seconds, nanos })
}

fn unknown(field: &str, number: i32) -> Unreadable {
    Unreadable::new(
        field,
        format!("{number} is not known to this version; see the proto file for the values it takes"),
    )
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

#[cfg(test)]
mod tests;

//! Between the protocol and the domain, every field and value of either accounted for.
//!
//! Not here: any decision. What does not read is refused with the path of the field.

use std::fmt::Display;

use prost_types::Timestamp;

use crate::{
    domain::{
        Access, Activation, Condition, ConditionKind, Facts, Instant, Operation, Reason, Role, Row,
        SmsDelivery, SubscriptionId, SubscriptionState,
        facts::{ActiveUsers, DisabledByLicensing, FairUse, LicensedUsers, SmsCredits, Users},
    },
    proto::enforcement as api,
    rfc3339,
    source::{Origin, facts_json::LONGEST_REASON},
};

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

/// Facts of the protocol; `path` is where they stand in the request.
pub fn facts(facts: &api::SubscriptionFacts, path: &str) -> Result<Facts, Unreadable> {
    let api::SubscriptionFacts {
        subscription_id: id,
        activation,
        expires_at,
        disabled_by_licensing,
        users,
        all_users,
        components,
        sms_credits,
    } = facts;
    let at = |field: &str| format!("{path}.{field}");
    let missing = |field: &str| Unreadable::new(at(field), "missing");
    let users = users.as_ref().ok_or_else(|| missing("users"))?;
    Ok(Facts {
        subscription_id: subscription_id(id)
            .map_err(|unreadable| Unreadable::new(at("subscription_id"), unreadable.what))?
            .ok_or_else(|| missing("subscription_id"))?,
        activation: self::activation(
            activation.as_ref().ok_or_else(|| missing("activation"))?,
            &at("activation"),
        )?,
        expires_at: instant(expires_at.as_ref().ok_or_else(|| missing("expires_at"))?, &at("expires_at"))?,
        disabled_by_licensing: disabled_by_licensing
            .as_ref()
            .map(|disabled| self::disabled_by_licensing(disabled, &at("disabled_by_licensing")))
            .transpose()?,
        users: Users {
            active: ActiveUsers(users.active),
            licensed: LicensedUsers(users.licensed),
            overused_since: users
                .overused_since
                .as_ref()
                .map(|since| instant(since, &at("users.overused_since")))
                .transpose()?,
        },
        all_users: fair_use(all_users.as_ref().ok_or_else(|| missing("all_users"))?),
        components: fair_use(components.as_ref().ok_or_else(|| missing("components"))?),
        sms_credits: sms_credits.map(SmsCredits),
    })
}

fn activation(activation: &api::Activation, path: &str) -> Result<Activation, Unreadable> {
    let api::Activation { state, since } = activation;
    let since = since.as_ref().map(|since| instant(since, &format!("{path}.since"))).transpose()?;
    match (api::ActivationState::try_from(*state), since) {
        (Ok(api::ActivationState::NotActivated), None) => Ok(Activation::NotActivated),
        (Ok(api::ActivationState::Active), None) => Ok(Activation::Active),
        (Ok(api::ActivationState::Deactivated), Some(since)) => Ok(Activation::Deactivated { since }),
        (Ok(api::ActivationState::Deactivated), None) => {
            Err(Unreadable::new(format!("{path}.since"), "missing; say since when it is deactivated"))
        }
        (Ok(api::ActivationState::NotActivated | api::ActivationState::Active), Some(_)) => Err(
            Unreadable::new(format!("{path}.since"), "belongs to the state DEACTIVATED alone; leave it out"),
        ),
        (Ok(api::ActivationState::Unspecified), _) => {
            Err(Unreadable::new(format!("{path}.state"), "missing"))
        }
        (Err(_), _) => Err(unknown(&format!("{path}.state"), *state)),
    }
}

fn disabled_by_licensing(
    disabled: &api::DisabledByLicensing,
    path: &str,
) -> Result<DisabledByLicensing, Unreadable> {
    let api::DisabledByLicensing { reason, since } = disabled;
    if !(1..=LONGEST_REASON).contains(&reason.len()) {
        return Err(Unreadable::new(
            format!("{path}.reason"),
            format!("a reason has 1 to {LONGEST_REASON} bytes"),
        ));
    }
    let at = format!("{path}.since");
    let since = since.as_ref().ok_or_else(|| Unreadable::new(&at, "missing"))?;
    Ok(DisabledByLicensing { reason: reason.as_str().into(), since: instant(since, &at)? })
}

fn fair_use(fair_use: &api::FairUse) -> FairUse {
    let api::FairUse { count, limit } = *fair_use;
    FairUse { count, limit }
}

fn unknown(field: &str, number: i32) -> Unreadable {
    Unreadable::new(
        field,
        format!("{number} is not known to this version; see the proto file for the values it takes"),
    )
}

impl From<&Facts> for api::SubscriptionFacts {
    fn from(facts: &Facts) -> Self {
        let Facts {
            subscription_id,
            activation,
            expires_at,
            disabled_by_licensing,
            users,
            all_users,
            components,
            sms_credits,
        } = facts;
        let (state, since) = match activation {
            Activation::NotActivated => (api::ActivationState::NotActivated, None),
            Activation::Active => (api::ActivationState::Active, None),
            Activation::Deactivated { since } => (api::ActivationState::Deactivated, timestamp(*since)),
        };
        let fair_use =
            |FairUse { count, limit }: &FairUse| Some(api::FairUse { count: *count, limit: *limit });
        Self {
            subscription_id: subscription_id.to_string(),
            activation: Some(api::Activation { state: state.into(), since }),
            expires_at: timestamp(*expires_at),
            disabled_by_licensing: disabled_by_licensing.as_ref().map(|disabled| api::DisabledByLicensing {
                reason: disabled.reason.to_string(),
                since: timestamp(disabled.since),
            }),
            users: Some(api::Users {
                active: users.active.0,
                licensed: users.licensed.0,
                overused_since: users.overused_since.and_then(timestamp),
            }),
            all_users: fair_use(all_users),
            components: fair_use(components),
            sms_credits: sms_credits.map(|SmsCredits(remaining)| remaining),
        }
    }
}

/// A condition with the numbers in `facts` that caused it.
pub fn condition(condition: Condition, facts: &Facts) -> api::Condition {
    let Condition { kind, column } = condition;
    let mut shown = api::Condition {
        kind: api::ConditionKind::from(kind).into(),
        column: api::SubscriptionState::from(column).into(),
        ..api::Condition::default()
    };
    match kind {
        ConditionKind::ExpiresSoon => shown.expires_at = timestamp(facts.expires_at),
        ConditionKind::Expired => shown.since = timestamp(facts.expires_at),
        ConditionKind::SeatsLow => {
            (shown.count, shown.limit) = (Some(facts.users.active.0), Some(facts.users.licensed.0));
        }
        ConditionKind::UsersOverused => {
            (shown.count, shown.limit) = (Some(facts.users.active.0), Some(facts.users.licensed.0));
            shown.since = facts.users.overused_since.and_then(timestamp);
        }
        ConditionKind::SmsCreditsLow | ConditionKind::SmsCreditsDepleted => {
            shown.count = facts.sms_credits.map(|SmsCredits(remaining)| remaining);
        }
        ConditionKind::AllUsersNearLimit => {
            (shown.count, shown.limit) = (Some(facts.all_users.count), Some(facts.all_users.limit));
        }
        ConditionKind::ComponentsNearLimit => {
            (shown.count, shown.limit) = (Some(facts.components.count), Some(facts.components.limit));
        }
        ConditionKind::DisabledByLicensing => {
            if let Some(disabled) = &facts.disabled_by_licensing {
                shown.since = timestamp(disabled.since);
                shown.licensing_reason = disabled.reason.to_string();
            }
        }
        ConditionKind::Deactivated => {
            if let Activation::Deactivated { since } = facts.activation {
                shown.since = timestamp(since);
            }
        }
        ConditionKind::NotActivated => {}
    }
    shown
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

//! Facts between the protocol and the domain, every field of either accounted for.
//!
//! Not here: single values (see the parent), and what follows from facts.

use super::{Unreadable, instant, subscription_id, timestamp, unknown};
use crate::{
    domain::{
        Activation, Facts,
        facts::{
            ActiveUsers, DisabledByLicensing, FairUse, LONGEST_REASON, LicensedUsers, SmsCredits, Users,
        },
    },
    proto::enforcement as api,
    rfc3339,
};

/// Facts of the protocol; `path` is where they stand in the message.
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
    let activation = activation.as_ref().ok_or_else(|| missing("activation"))?;
    let activation = read_activation(activation, &at("activation"))?;
    let (nobody, nothing) = (api::Users::default(), api::FairUse::default());
    // A unit that was deactivated is told so and nothing else (semantics 7.27): no other fact decides anything then.
    let is_alone = matches!(activation, Activation::Deactivated { .. });
    let users = users.as_ref().or(is_alone.then_some(&nobody)).ok_or_else(|| missing("users"))?;
    let all_users = all_users.as_ref().or(is_alone.then_some(&nothing));
    let components = components.as_ref().or(is_alone.then_some(&nothing));
    let expires_at = match expires_at {
        Some(expires_at) => instant(expires_at, &at("expires_at"))?,
        None if is_alone => rfc3339::LAST,
        None => return Err(missing("expires_at")),
    };
    Ok(Facts {
        subscription_id: subscription_id(id)
            .map_err(|unreadable| Unreadable::new(at("subscription_id"), unreadable.what))?
            .ok_or_else(|| missing("subscription_id"))?,
        activation,
        expires_at,
        disabled_by_licensing: disabled_by_licensing
            .as_ref()
            .map(|disabled| read_disabled_by_licensing(disabled, &at("disabled_by_licensing")))
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
        all_users: fair_use(all_users.ok_or_else(|| missing("all_users"))?),
        components: fair_use(components.ok_or_else(|| missing("components"))?),
        sms_credits: sms_credits.map(SmsCredits),
    })
}

fn read_activation(activation: &api::Activation, path: &str) -> Result<Activation, Unreadable> {
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

fn read_disabled_by_licensing(
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

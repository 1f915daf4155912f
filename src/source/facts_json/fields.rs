//! The shape of facts in JSON, and what each value must look like.
//!
//! Not here: where a text comes from, and the path of what is wrong in it (see the parent).

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

use crate::{
    domain::{
        Activation, Facts, Instant, SubscriptionId,
        facts::{
            ActiveUsers, DisabledByLicensing, FairUse, LONGEST_REASON, LicensedUsers, SmsCredits, Users,
        },
    },
    rfc3339,
};

/// Facts in JSON.
pub type FactsJson = Object<FactsFields>;

/// A JSON object and nothing else: derived readers would take an array for its fields in their order, too.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
pub struct Object<T>(pub T);

/// The shape of facts in JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FactsFields {
    pub(super) subscription_id: IdJson,
    activation: ActivationJson,
    expires_at: InstantJson,
    #[serde(default)]
    disabled_by_licensing: Option<Object<DisabledJson>>,
    users: Object<UsersJson>,
    all_users: Object<FairUseJson>,
    components: Object<FairUseJson>,
    #[serde(default)]
    sms_credits: Option<Count>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(try_from = "Object<ActivationFields>")]
struct ActivationJson {
    state: ActivationState,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<InstantJson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActivationFields {
    state: ActivationState,
    #[serde(default)]
    since: Option<InstantJson>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum ActivationState {
    NotActivated,
    Active,
    Deactivated,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct DisabledJson {
    reason: ReasonJson,
    since: InstantJson,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct UsersJson {
    active: Count,
    licensed: Count,
    #[serde(default)]
    overused_since: Option<InstantJson>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FairUseJson {
    count: Count,
    limit: Count,
}

/// An instant in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstantJson(pub Instant);

/// A public license ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdJson(pub SubscriptionId);

#[derive(Clone, Debug)]
struct ReasonJson(Box<str>);

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
struct Count(u64);

impl TryFrom<Object<ActivationFields>> for ActivationJson {
    type Error = &'static str;

    fn try_from(fields: Object<ActivationFields>) -> Result<Self, Self::Error> {
        let Object(ActivationFields { state, since }) = fields;
        match (state, since) {
            (ActivationState::Deactivated, None) => {
                Err("`since` is missing: say since when it is deactivated")
            }
            (ActivationState::NotActivated | ActivationState::Active, Some(_)) => {
                Err("`since` belongs to the state `deactivated` alone; leave it out")
            }
            (ActivationState::Deactivated, Some(_))
            | (ActivationState::NotActivated | ActivationState::Active, None) => Ok(Self { state, since }),
        }
    }
}

impl From<FactsJson> for Facts {
    fn from(json: FactsJson) -> Self {
        let Object(FactsFields {
            subscription_id,
            activation,
            expires_at,
            disabled_by_licensing,
            users: Object(users),
            all_users: Object(all_users),
            components: Object(components),
            sms_credits,
        }) = json;
        Self {
            subscription_id: subscription_id.0,
            activation: match (activation.state, activation.since) {
                (ActivationState::Active, _) => Activation::Active,
                (ActivationState::Deactivated, Some(InstantJson(since))) => Activation::Deactivated { since },
                (ActivationState::Deactivated, None) | (ActivationState::NotActivated, _) => {
                    Activation::NotActivated
                }
            },
            expires_at: expires_at.0,
            disabled_by_licensing: disabled_by_licensing.map(|Object(disabled)| DisabledByLicensing {
                reason: disabled.reason.0,
                since: disabled.since.0,
            }),
            users: Users {
                active: ActiveUsers(users.active.0),
                licensed: LicensedUsers(users.licensed.0),
                overused_since: users.overused_since.map(|since| since.0),
            },
            all_users: all_users.into(),
            components: components.into(),
            sms_credits: sms_credits.map(|credits| SmsCredits(credits.0)),
        }
    }
}

impl From<&Facts> for FactsJson {
    fn from(facts: &Facts) -> Self {
        let (state, since) = match facts.activation {
            Activation::NotActivated => (ActivationState::NotActivated, None),
            Activation::Active => (ActivationState::Active, None),
            Activation::Deactivated { since } => (ActivationState::Deactivated, Some(InstantJson(since))),
        };
        Object(FactsFields {
            subscription_id: IdJson(facts.subscription_id),
            activation: ActivationJson { state, since },
            expires_at: InstantJson(facts.expires_at),
            disabled_by_licensing: facts.disabled_by_licensing.as_ref().map(|disabled| {
                Object(DisabledJson {
                    reason: ReasonJson(disabled.reason.clone()),
                    since: InstantJson(disabled.since),
                })
            }),
            users: Object(UsersJson {
                active: Count(facts.users.active.0),
                licensed: Count(facts.users.licensed.0),
                overused_since: facts.users.overused_since.map(InstantJson),
            }),
            all_users: Object(facts.all_users.into()),
            components: Object(facts.components.into()),
            sms_credits: facts.sms_credits.map(|credits| Count(credits.0)),
        })
    }
}

impl From<FairUseJson> for FairUse {
    fn from(json: FairUseJson) -> Self {
        Self { count: json.count.0, limit: json.limit.0 }
    }
}

impl From<FairUse> for FairUseJson {
    fn from(fair_use: FairUse) -> Self {
        Self { count: Count(fair_use.count), limit: Count(fair_use.limit) }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(fields))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// Reads a JSON string through a function that says what is wrong with it.
struct Text<T, F>(&'static str, F, PhantomData<T>);

impl<T, E: fmt::Display, F: FnOnce(&str) -> Result<T, E>> Visitor<'_> for Text<T, F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }

    fn visit_str<D: de::Error>(self, text: &str) -> Result<T, D> {
        (self.1)(text).map_err(D::custom)
    }
}

impl<'de> Deserialize<'de> for InstantJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "an instant such as \"2027-06-30T12:00:00Z\"";
        deserializer.deserialize_str(Text(expected, rfc3339::parse, PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for IdJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| {
            text.parse().map_err(|_| format!("`{text}` is no public license ID; it looks like `3A8-WN7-7TD`"))
        };
        let expected = "a public license ID such as \"3A8-WN7-7TD\"";
        deserializer.deserialize_str(Text(expected, read, PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for ReasonJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| match text.len() {
            1..=LONGEST_REASON => Ok(text.into()),
            length => Err(format!("a reason has 1 to {LONGEST_REASON} bytes, this one has {length}")),
        };
        deserializer.deserialize_str(Text("a reason such as \"suspended\"", read, PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = u64;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "a whole number from 0 to {}", u64::MAX)
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<u64, E> {
                Ok(count)
            }
        }
        deserializer.deserialize_u64(Whole).map(Self)
    }
}

impl Serialize for InstantJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339::format(self.0))
    }
}

impl Serialize for IdJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl Serialize for ReasonJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

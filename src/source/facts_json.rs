//! Facts as JSON, as people and the disk write them: read strictly, refused with the key's path.
//!
//! Not the protocol's facts (see `enforcement::convert`).

use std::{collections::HashSet, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeOwned, Visitor},
};

use crate::{
    domain::{
        Activation, Facts, Instant, SubscriptionId,
        facts::{ActiveUsers, DisabledByLicensing, FairUse, LicensedUsers, SmsCredits, Users},
    },
    rfc3339,
};

/// What is wrong with a JSON text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", Place(.path))]
pub struct JsonError {
    /// Path of the key, such as `users.active` or `[3].expires_at`; empty for the whole text.
    pub path: String,
    /// What is wrong there.
    pub what: String,
}

impl JsonError {
    /// A fault; what is repeated of the text is kept short and on one line, for it goes into logs.
    fn new(path: &str, what: &str) -> Self {
        Self { path: one_line(path, 100), what: one_line(what, 500) }
    }
}

fn one_line(text: &str, most: usize) -> String {
    let mut characters =
        text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character });
    let mut shown: String = characters.by_ref().take(most).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Longest name of a licensing reason, in bytes.
pub const LONGEST_REASON: usize = 64;

/// Reads any JSON text; what is wrong with it comes with the key's path.
pub fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, JsonError> {
    // The path is only kept track of when something is wrong: it costs more than the reading.
    serde_json::from_slice(json).or_else(|_| {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = Some(error.path().to_string()).filter(|path| path != ".").unwrap_or_default();
            JsonError::new(&path, &error.inner().to_string())
        })?;
        reader.end().map_err(|error| JsonError::new("", &error.to_string()))?;
        Ok(read)
    })
}

/// Reads a facts file: one subscription, or an array of them, each once.
pub fn read_all(json: &[u8]) -> Result<Vec<Facts>, JsonError> {
    let facts: Vec<FactsJson> = match json.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => read(json)?,
        Some(_) => vec![read(json)?],
        None => return Err(JsonError::new("", "the text is empty")),
    };
    if facts.is_empty() {
        return Err(JsonError::new("", "no subscription in the array"));
    }
    let mut seen = HashSet::with_capacity(facts.len());
    for (position, facts) in facts.iter().enumerate() {
        if !seen.insert(facts.0.subscription_id.0) {
            let what = format!("`{}` is told twice", facts.0.subscription_id.0);
            return Err(JsonError::new(&format!("[{position}].subscription_id"), &what));
        }
    }
    Ok(facts.into_iter().map(Facts::from).collect())
}

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
    subscription_id: IdJson,
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

#[derive(Clone, Copy, Debug)]
struct IdJson(SubscriptionId);

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

struct Place<'a>(&'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, "`{}`: ", self.0) }
    }
}

#[cfg(test)]
mod tests;

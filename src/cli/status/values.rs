//! Values of the protocol as the command line and JSON write them: enum names in lower case, without their prefix.

use anstyle::{AnsiColor, Style};
use prost_types::Timestamp;

use crate::{enforcement::convert, proto::enforcement as api, rfc3339};

/// The lower-case name of an enum value; the number itself when this version does not know it.
fn name(known: Option<&'static str>, prefix: &str, number: i32) -> String {
    known.map_or_else(
        || number.to_string(),
        |known| known.strip_prefix(prefix).unwrap_or(known).trim_start_matches('_').to_lowercase(),
    )
}

macro_rules! names {
    ($($function:ident: $enumeration:ident $prefix:literal;)+) => {$(
        pub(in crate::cli) fn $function(number: i32) -> String {
            name(api::$enumeration::try_from(number).ok().map(|value| value.as_str_name()), $prefix, number)
        }
    )+};
}

names! {
    access: Access "ACCESS";
    state: SubscriptionState "SUBSCRIPTION_STATE";
    reason: Reason "REASON";
    operation: Operation "OPERATION";
    condition_kind: ConditionKind "CONDITION_KIND";
    activation: ActivationState "ACTIVATION_STATE";
    origin: Origin "ORIGIN";
    row: RestrictionRow "RESTRICTION_ROW";
}

pub(in crate::cli) fn instant(timestamp: &Timestamp) -> String {
    convert::instant(timestamp, "").map_or_else(|_| "an instant out of range".to_owned(), rfc3339::format)
}

pub(in crate::cli) fn instant_for_people(timestamp: &Timestamp) -> String {
    convert::instant(timestamp, "")
        .map_or_else(|_| "an instant out of range".to_owned(), rfc3339::format_for_people)
}

pub(in crate::cli) fn access_style(access: i32) -> Style {
    let allowed = access == i32::from(api::Access::Allowed);
    Style::new().fg_color(Some(if allowed { AnsiColor::Green } else { AnsiColor::Red }.into())).bold()
}

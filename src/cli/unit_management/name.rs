//! The protocol's enum names as the command line and JSON write them: lower case, without their prefix.
//!
//! Not the names of the rules (see `crate::names`), which the backend's own enums have no twins of.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::proto::licensing as api;

/// An enum of the protocol whose values are counted from 0, which is "not told".
pub(in crate::cli) trait Enumeration:
    TryFrom<i32> + Into<i32> + Copy + Send + Sync + 'static
{
    /// What all its names begin with.
    const PREFIX: &'static str;

    /// The protocol's name of a value.
    fn full_name(self) -> &'static str;

    /// Every value but "not told".
    fn all() -> impl Iterator<Item = Self> {
        (1..).map_while(|number| Self::try_from(number).ok())
    }

    /// The name people and programs see.
    fn name(self) -> String {
        self.full_name().trim_start_matches(Self::PREFIX).trim_start_matches('_').to_lowercase()
    }
}

macro_rules! enumerations {
    ($($name:ident $prefix:literal;)+) => {$(
        impl Enumeration for api::$name {
            const PREFIX: &'static str = $prefix;

            fn full_name(self) -> &'static str {
                self.as_str_name()
            }
        }
    )+};
}

enumerations! {
    UnitState "UNIT_STATE";
    LicenseStatus "LICENSE_STATUS";
    Connection "CONNECTION";
    UnitSort "UNIT_SORT";
    DeactivationRefusal "DEACTIVATION_REFUSAL";
    SeatKind "SEAT_KIND";
    LicenseState "LICENSE_STATE";
    LicenseSort "LICENSE_SORT";
    DelegationState "DELEGATION_STATE";
    AccountRole "ACCOUNT_ROLE";
    ApiScope "API_SCOPE";
    AuditOutcome "AUDIT_OUTCOME";
    ActorKind "ACTOR_KIND";
}

/// The name of a number; the number itself when this version does not know it.
pub(in crate::cli) fn of<E: Enumeration>(number: i32) -> String {
    E::try_from(number).map_or_else(|_| number.to_string(), Enumeration::name)
}

/// Reads a name, and tells help and completions which there are; a hyphen may stand for an underscore.
pub(in crate::cli) fn parser<E: Enumeration>() -> impl TypedValueParser<Value = E> {
    let names = E::all().map(|value| PossibleValue::new(value.name()).alias(value.name().replace('_', "-")));
    PossibleValuesParser::new(names).try_map(|text| {
        // Whatever gets here is one of them.
        let wanted = text.replace('-', "_");
        E::all().find(|value| value.name() == wanted).ok_or_else(|| format!("`{text}` is not known"))
    })
}

/// The numbers of values, as the protocol has them.
pub(in crate::cli) fn numbers<E: Enumeration>(values: &[E]) -> Vec<i32> {
    values.iter().map(|value| (*value).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<E: Enumeration>() -> String {
        E::all().map(Enumeration::name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_are_the_protocol_s_in_lower_case_without_the_prefix() {
        assert_eq!(names::<api::UnitState>(), "active deactivation_pending deactivated");
        assert_eq!(names::<api::LicenseStatus>(), "valid attention problem");
        assert_eq!(names::<api::Connection>(), "recent orange red");
        assert_eq!(names::<api::AccountRole>(), "owner security_admin");
        assert_eq!(of::<api::UnitState>(0), "unspecified");
        assert_eq!(of::<api::UnitState>(77), "77");
    }
}

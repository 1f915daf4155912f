//! The names in JSON and on the command line are the protocol's enum names in lower case.

use esa_sidecar::{
    domain::{Access, ConditionKind, Operation, Reason, Role, Row, SmsDelivery, SubscriptionState},
    names::Named,
    proto::enforcement as api,
};

/// Every value of `T` has the name of its twin, and no other text is taken for one.
fn check<T: Named + std::fmt::Debug + PartialEq>(prefix: &str, twin: impl Fn(T) -> &'static str) {
    for value in T::ALL {
        let name = value.name();
        assert_eq!(format!("{prefix}_{}", name.to_uppercase()), twin(*value));
        assert_eq!(T::named(name).as_ref(), Ok(value));
        assert_eq!(T::named(&name.replace('_', "-")).as_ref(), Ok(value));
    }
    let error = T::named("nonsense").unwrap_err().to_string();
    assert!(error.starts_with("`nonsense` is no ") && error.contains(T::ALL[0].name()), "{error}");
}

#[test]
fn names_are_the_protocol_s_in_lower_case() {
    check("ACCESS", |value: Access| api::Access::from(value).as_str_name());
    check("OPERATION", |value: Operation| api::Operation::from(value).as_str_name());
    check("ACTOR_ROLE", |value: Role| api::ActorRole::from(value).as_str_name());
    check("SMS_DELIVERY", |value: SmsDelivery| api::SmsDelivery::from(value).as_str_name());
    check("SUBSCRIPTION_STATE", |value: SubscriptionState| api::SubscriptionState::from(value).as_str_name());
    check("REASON", |value: Reason| api::Reason::from(value).as_str_name());
    check("CONDITION_KIND", |value: ConditionKind| api::ConditionKind::from(value).as_str_name());
    check("RESTRICTION_ROW", |value: Row| api::RestrictionRow::from(value).as_str_name());
}

/// The numbers callers have compiled in, as the contract fixes them.
#[test]
fn the_numbers_of_the_contract_do_not_move() {
    let numbers =
        |count: i32, name: &dyn Fn(i32) -> &'static str| (0..count).map(name).collect::<Vec<_>>().join(" ");
    let operations = numbers(13, &|number| api::Operation::try_from(number).unwrap().as_str_name());
    assert_eq!(
        operations.replace("OPERATION_", ""),
        "UNSPECIFIED ENABLE_USERS DISABLE_USERS PROVISION_USERS SELF_ENROLL AUTHENTICATE_WITH_SMS_OTP \
         AUTHENTICATE_WITH_MOBILE_OTP AUTHENTICATE_WITH_MOBILE_PUSH AUTHENTICATE_WITH_HARD_TOKEN \
         AUTHENTICATE_WITH_FIDO MANAGE_CONFIGURATION TURN_OFF_AUTHENTICATION VERIFY_SMS_OTP"
    );
    let reasons = numbers(9, &|number| api::Reason::try_from(number).unwrap().as_str_name());
    assert_eq!(
        reasons.replace("REASON_", ""),
        "UNSPECIFIED ALLOWED ADMINISTRATOR_EXCEPTION SMS_CREDITS_DEPLETED SUBSCRIPTION_EXPIRED USERS_OVERUSED \
         NOT_ACTIVATED DEACTIVATED DISABLED_BY_LICENSING"
    );
    let states = numbers(8, &|number| api::SubscriptionState::try_from(number).unwrap().as_str_name());
    assert_eq!(
        states.replace("SUBSCRIPTION_STATE_", ""),
        "UNSPECIFIED OK WARNING SMS_CREDITS_DEPLETED VIOLATION_FULL_FUNCTIONALITY \
         VIOLATION_LIMITED_FUNCTIONALITY NOT_ACTIVATED DISABLED"
    );
}

//! Every combination of conditions, operation, role and delivery against a second reading of the documents: the
//! table as printed text, and the footnotes and semantics 4.1 to 4.7 spelt out once more.

use super::*;
use crate::domain::{
    Access, Activation, Facts, Span,
    facts::{ActiveUsers, DisabledByLicensing, FairUse, LicensedUsers, SmsCredits, Users},
    matrix,
};

const T: Instant = Instant::from_unix_seconds(1_800_000_000);

/// The restriction table as the document prints it: columns OK, Warning, SMS credits depleted, Violation (full),
/// Violation (limited), Not activated or disabled.
const PRINTED: [(&str, &str); 7] = [
    ("Enable Users for 2FA", "✔ ✔ ✔ ✔ X X"),
    ("Disable Users for 2FA", "✔ ✔ ✔ ✔ ✔ X"),
    ("Provision Users", "✔ ✔ ✔ ✔ X X"),
    ("Authenticate with SMS OTP", "✔ ✔ X ✔ ✔ X"),
    ("Authenticate with mobile app (OTP, Push)", "✔ ✔ ✔ ✔ ✔ X"),
    ("Authenticate with hard token or FIDO", "✔ ✔ ✔ ✔ ✔ X"),
    ("Manage system configuration", "✔ ✔ ✔ ✔ ✔ X"),
];

fn printed(row: &str, column: usize) -> bool {
    let (_, cells) = PRINTED.iter().find(|(title, _)| *title == row).expect("a printed row");
    match cells.split(' ').nth(column) {
        Some("✔") => true,
        Some("X") => false,
        other => panic!("no cell {column} in {row}: {other:?}"),
    }
}

fn column(state: SubscriptionState) -> usize {
    match state {
        SubscriptionState::Ok => 0,
        SubscriptionState::Warning => 1,
        SubscriptionState::SmsCreditsDepleted => 2,
        SubscriptionState::ViolationFullFunctionality => 3,
        SubscriptionState::ViolationLimitedFunctionality => 4,
        SubscriptionState::NotActivated | SubscriptionState::Disabled => 5,
    }
}

#[test]
fn all_42_cells_are_as_printed() {
    let mut cells = 0;
    for row in Row::ALL {
        for state in SubscriptionState::ALL {
            let allowed = cell(row, state) == Access::Allowed;
            assert_eq!(allowed, printed(row.title(), column(state)), "{row:?} in {state:?}");
            cells += 1;
        }
    }
    assert_eq!(cells, 7 * 7, "42 cells, the last column checked for both of its states");
    let columns: Vec<usize> = matrix::COLUMNS.iter().map(|(_, states, _)| column(states[0])).collect();
    assert_eq!(columns, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn footnotes_stand_where_they_are_printed() {
    let rows: Vec<Option<u32>> = Row::ALL.iter().map(|row| row.footnote()).collect();
    assert_eq!(rows, [None, None, Some(1), None, Some(2), None, None]);
    let columns: Vec<Option<u32>> = matrix::COLUMNS.iter().map(|(_, _, footnote)| *footnote).collect();
    assert_eq!(columns, [None, None, None, None, None, Some(3)]);
}

#[test]
fn footnote_3_excepts_two_rows_and_each_is_denied_in_its_column_alone() {
    for row in [Row::DisableUsers, Row::ManageConfiguration] {
        for state in SubscriptionState::ALL {
            let denied = cell(row, state) == Access::Disabled;
            assert_eq!(denied, column(state) == 5, "{row:?} in {state:?}");
        }
    }
}

/// One way each rule of semantics 2 can stand at `T`: what it is called, which column of the printed table it uses,
/// and what makes it so.
struct Standing {
    holds: Option<(&'static str, usize)>,
    set: fn(&mut Facts),
}

fn days_ago(days: u32) -> Instant {
    T - Span::days(days)
}

fn disabled_since(facts: &mut Facts, since: Instant) {
    facts.disabled_by_licensing = Some(DisabledByLicensing { reason: "canceled".into(), since });
}

fn overused(facts: &mut Facts, active: u64, since: Instant) {
    facts.users =
        Users { active: ActiveUsers(active), licensed: LicensedUsers(100), overused_since: Some(since) };
}

/// The rules, each with every way it can stand. Kept in the order of semantics 2 where a tie can arise.
fn standings() -> [Vec<Standing>; 7] {
    fn standing(holds: Option<(&'static str, usize)>, set: fn(&mut Facts)) -> Standing {
        Standing { holds, set }
    }
    let nothing = || standing(None, |_| {});
    [
        vec![
            nothing(),
            standing(Some(("credits_low", 1)), |facts| facts.sms_credits = Some(SmsCredits(3))),
            standing(Some(("credits", 2)), |facts| facts.sms_credits = Some(SmsCredits(0))),
        ],
        vec![
            nothing(),
            standing(Some(("soon", 1)), |facts| facts.expires_at = T + Span::days(3)),
            standing(Some(("expired", 3)), |facts| facts.expires_at = days_ago(3)),
            standing(Some(("expired", 4)), |facts| facts.expires_at = days_ago(13)),
            standing(Some(("expired", 5)), |facts| facts.expires_at = days_ago(33)),
        ],
        vec![
            nothing(),
            standing(Some(("licensing", 3)), |facts| disabled_since(facts, days_ago(3))),
            standing(Some(("licensing", 4)), |facts| disabled_since(facts, days_ago(13))),
            standing(Some(("licensing", 5)), |facts| disabled_since(facts, days_ago(33))),
        ],
        vec![
            nothing(),
            standing(Some(("seats", 1)), |facts| facts.users.active = ActiveUsers(99)),
            standing(Some(("overused", 3)), |facts| overused(facts, 105, days_ago(3))),
            standing(Some(("overused", 4)), |facts| overused(facts, 105, days_ago(13))),
            standing(Some(("overused", 4)), |facts| overused(facts, 150, days_ago(3))),
        ],
        vec![
            nothing(),
            standing(Some(("all_users", 1)), |facts| facts.all_users = FairUse { count: 99, limit: 100 }),
        ],
        vec![
            nothing(),
            standing(Some(("components", 1)), |facts| facts.components = FairUse { count: 99, limit: 100 }),
        ],
        vec![
            nothing(),
            standing(Some(("deactivated", 5)), |facts| {
                facts.activation = Activation::Deactivated { since: days_ago(1) };
            }),
            standing(Some(("not_activated", 5)), |facts| facts.activation = Activation::NotActivated),
        ],
    ]
}

/// The order of semantics 3, as the severity of a column; not activated stands above disabled.
fn severity((name, column): (&str, usize)) -> usize {
    if name == "not_activated" { 6 } else { column }
}

/// What the documents say, from what holds.
fn expected(
    holding: &[(&'static str, usize)],
    operation: Operation,
    role: Role,
    delivery: SmsDelivery,
) -> (bool, &'static str, usize) {
    let not_activated = [("not_activated", 5)];
    let holding: &[(&str, usize)] =
        if holding.contains(&("not_activated", 5)) { &not_activated } else { holding };
    let state = holding.iter().copied().map(severity).max().unwrap_or(0);
    let row = match operation {
        Operation::EnableUsers => "Enable Users for 2FA",
        Operation::DisableUsers => "Disable Users for 2FA",
        Operation::ProvisionUsers => "Provision Users",
        Operation::AuthenticateWithSmsOtp | Operation::VerifySmsOtp => "Authenticate with SMS OTP",
        Operation::SelfEnroll
        | Operation::AuthenticateWithMobileOtp
        | Operation::AuthenticateWithMobilePush => "Authenticate with mobile app (OTP, Push)",
        Operation::AuthenticateWithHardToken | Operation::AuthenticateWithFido => {
            "Authenticate with hard token or FIDO"
        }
        Operation::ManageConfiguration | Operation::TurnOffAuthentication => "Manage system configuration",
    };
    let credits_count =
        operation == Operation::AuthenticateWithSmsOtp && delivery == SmsDelivery::VendorCredits;
    let denying = holding
        .iter()
        .filter(|held| !printed(row, held.1))
        .filter(|held| held.0 != "credits" || credits_count);
    // The first of the most severe, by the order of semantics 2.
    let worst = denying.clone().map(|held| severity(*held)).max();
    let order = ["credits", "expired", "licensing", "overused", "deactivated", "not_activated"];
    let reason = order
        .into_iter()
        .find(|name| denying.clone().any(|held| held.0 == *name && Some(severity(*held)) == worst));
    let excepted = role == Role::Administrator
        && [Operation::DisableUsers, Operation::TurnOffAuthentication].contains(&operation)
        && state >= 5;
    match reason {
        None => (true, "allowed", state),
        Some(_) if excepted => (true, "exception", state),
        Some(reason) => (false, reason, state),
    }
}

fn told(decision: &Decision) -> (bool, &'static str, usize) {
    let reason = match decision.reason {
        Reason::Allowed => "allowed",
        Reason::AdministratorException => "exception",
        Reason::SmsCreditsDepleted => "credits",
        Reason::SubscriptionExpired => "expired",
        Reason::UsersOverused => "overused",
        Reason::NotActivated => "not_activated",
        Reason::Deactivated => "deactivated",
        Reason::DisabledByLicensing => "licensing",
    };
    let state = if decision.state == SubscriptionState::NotActivated { 6 } else { column(decision.state) };
    (decision.access() == Access::Allowed, reason, state)
}

#[test]
fn every_combination_of_conditions_operation_role_and_delivery_is_answered_by_the_documents() {
    let standings = standings();
    let combinations: usize = standings.iter().map(Vec::len).product();
    let mut answers = 0_u32;
    for combination in 0..combinations {
        let mut facts = healthy();
        let mut holding = Vec::new();
        let mut rest = combination;
        for rule in &standings {
            let standing = &rule[rest % rule.len()];
            rest /= rule.len();
            (standing.set)(&mut facts);
            holding.extend(standing.holds);
        }
        let timeline = Timeline::of(&facts);
        for operation in Operation::ALL {
            for role in [Role::User, Role::Administrator, Role::Service] {
                for sms_delivery in [SmsDelivery::VendorCredits, SmsDelivery::OwnGateway] {
                    let decision = decide(&timeline, Question { operation, role, sms_delivery }, T);
                    let expected = expected(&holding, operation, role, sms_delivery);
                    assert_eq!(
                        told(&decision),
                        expected,
                        "{holding:?} {operation:?} {role:?} {sms_delivery:?}"
                    );
                    answers += 1;
                }
            }
        }
    }
    assert_eq!(answers, 3 * 5 * 4 * 5 * 2 * 2 * 3 * 12 * 3 * 2);
}

#[test]
fn an_answer_holds_until_it_does_not_and_no_longer() {
    let standings = standings();
    let set = |facts: &mut Facts, rule: usize, standing: usize| (standings[rule][standing].set)(facts);
    let nano = Span::from_nanos(1);
    for (expiry, licensing, users) in [(0, 0, 0), (1, 0, 0), (2, 1, 2), (3, 2, 1), (0, 1, 2), (4, 3, 4)] {
        let mut facts = healthy();
        set(&mut facts, 1, expiry);
        set(&mut facts, 2, licensing);
        set(&mut facts, 3, users);
        let timeline = Timeline::of(&facts);
        for operation in Operation::ALL {
            for role in [Role::User, Role::Administrator] {
                let question = Question { operation, role, sms_delivery: SmsDelivery::VendorCredits };
                let answer = |t| {
                    let decision = decide(&timeline, question, t);
                    (decision.state, decision.reason)
                };
                let until = decide(&timeline, question, T).until;
                // Without an end it holds ten years on; with one, up to the nanosecond before.
                let last = until.map_or(T + Span::days(3_650), |until| until - nano);
                assert_eq!(answer(T), answer(last), "{question:?}");
                if let Some(until) = until {
                    assert_ne!(answer(T), answer(until), "{question:?}");
                }
            }
        }
    }
}

#[test]
fn only_what_is_the_same_in_every_state_is_answered_without_facts() {
    for operation in Operation::ALL {
        for role in [Role::User, Role::Administrator, Role::Service] {
            for sms_delivery in [SmsDelivery::VendorCredits, SmsDelivery::OwnGateway] {
                let answer = without_facts(Question { operation, role, sms_delivery });
                let excepted = role == Role::Administrator
                    && [Operation::DisableUsers, Operation::TurnOffAuthentication].contains(&operation);
                assert_eq!(
                    answer,
                    excepted.then_some(Reason::AdministratorException),
                    "{operation:?} {role:?}"
                );
            }
        }
    }
}

fn healthy() -> Facts {
    Facts {
        subscription_id: "3A8-WN7-7TD".parse().unwrap(),
        activation: Activation::Active,
        expires_at: T + Span::days(400),
        disabled_by_licensing: None,
        users: Users { active: ActiveUsers(50), licensed: LicensedUsers(100), overused_since: None },
        all_users: FairUse { count: 1, limit: 100 },
        components: FairUse { count: 1, limit: 100 },
        sms_credits: Some(SmsCredits(100)),
    }
}

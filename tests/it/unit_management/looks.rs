//! What people see: help and tables as snapshots.

use esa_sidecar::proto::licensing as api;
use prost_types::Timestamp;

use super::Desk;

#[test]
fn help_of_unit_management_is_enough_to_work_from() {
    let desk = Desk::new();
    for (name, arguments) in [
        ("help_units", &["units"][..]),
        ("help_units_list", &["units", "list"]),
        ("help_units_deactivate", &["units", "deactivate"]),
        ("help_units_activate", &["units", "activate"]),
        ("help_units_export", &["units", "export"]),
        ("help_licenses", &["licenses"]),
        ("help_licenses_list", &["licenses", "list"]),
        ("help_licenses_create", &["licenses", "create"]),
        ("help_licenses_update", &["licenses", "update"]),
        ("help_licenses_import", &["licenses", "import"]),
        ("help_accounts", &["accounts"]),
        ("help_accounts_sign_in", &["accounts", "sign-in"]),
        ("help_accounts_credentials", &["accounts", "credentials"]),
        ("help_audit_list", &["audit", "list"]),
    ] {
        let help = desk.stranger(arguments).arg("--help").env_remove("ESA_SIDECAR_LICENSING").output();
        insta::assert_snapshot!(name, super::Shown::of(&help.unwrap()).all());
    }
}

/// An instant so many days ago.
fn days_ago(days: i64) -> Option<Timestamp> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    Some(Timestamp { seconds: now - days * 86_400, nanos: 0 })
}

fn fixed(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn units() -> Vec<api::Unit> {
    let unit = |number: u64| api::Unit {
        unit_id: format!("0199c1de-5f3a-7000-8000-00000000000{number}"),
        license_id: "3A8-WN7-7TD".to_owned(),
        device_name: format!("MAIL-0{number}"),
        product: "ESET Mail Security".to_owned(),
        product_version: "11.1.10008".to_owned(),
        activated_at: fixed(1_790_000_000),
        last_connected_at: days_ago(1),
        subunits: 25 * number,
        activated_by: "alice".to_owned(),
        state: api::UnitState::Active.into(),
        status: api::LicenseStatus::Valid.into(),
        connection: api::Connection::Recent.into(),
        may_deactivate: true,
        subscription_id: "3A8-WN7-7TD".to_owned(),
        ..Default::default()
    };
    vec![
        unit(1),
        api::Unit {
            activated_by: String::new(),
            last_connected_at: days_ago(20),
            connection: api::Connection::Orange.into(),
            status: api::LicenseStatus::Attention.into(),
            license_id: "B22-B22-B22".to_owned(),
            ..unit(2)
        },
        api::Unit {
            from_remote_management: true,
            last_connected_at: days_ago(45),
            connection: api::Connection::Red.into(),
            status: api::LicenseStatus::Problem.into(),
            state: api::UnitState::DeactivationPending.into(),
            deactivated_at: fixed(1_795_000_000),
            device_name: "a device whose name is longer than \u{1b}[31many ID is".to_owned(),
            ..unit(3)
        },
    ]
}

#[test]
fn units_are_shown_with_status_connection_and_the_way_to_the_next_page() {
    let desk = Desk::new();
    desk.backend.on("list_units", |_: &api::ListUnitsRequest| {
        Ok(api::ListUnitsResponse { units: units(), next_page_token: "bmV4dA".to_owned() })
    });
    insta::assert_snapshot!("units_list", desk.run(&["units", "list"]).all());
    desk.backend.on("list_units", |_: &api::ListUnitsRequest| Ok(api::ListUnitsResponse::default()));
    assert_eq!(desk.run(&["units", "list"]).all(), "exit status 0\nno units\n");
}

#[test]
fn one_unit_is_shown_with_all_that_is_known_of_it() {
    let desk = Desk::new();
    desk.backend.on("get_unit", |_: &api::GetUnitRequest| {
        let unit = api::Unit { last_connected_at: fixed(1_795_000_000), ..units().remove(2) };
        Ok(api::GetUnitResponse { unit: Some(unit) })
    });
    insta::assert_snapshot!("units_get", desk.run(&["units", "get", "some-id"]).all());
    let json = desk.run(&["units", "get", "some-id", "--json"]);
    insta::assert_snapshot!("units_get_json", json.all().replace(",\"", ",\n\""));
}

fn license() -> api::License {
    api::License {
        license_id: "3A8-WN7-7TD".to_owned(),
        subscription_id: "3A8-WN7-7TD".to_owned(),
        customer: "Acme".to_owned(),
        product: "ESET Secure Authentication".to_owned(),
        name: "Head office".to_owned(),
        r#type: "full".to_owned(),
        seat_kind: api::SeatKind::Users.into(),
        seats: 150,
        expires_at: fixed(1_814_000_000),
        state: api::LicenseState::Active.into(),
        attributes: [("site".to_owned(), "Brno".to_owned()), ("cost_centre".to_owned(), "4711".to_owned())]
            .into(),
        status: api::LicenseStatus::Valid.into(),
        active_units: 3,
        created_at: fixed(1_780_000_000),
        ..Default::default()
    }
}

#[test]
fn licenses_are_shown_with_their_status_and_in_whose_hands_they_are() {
    let desk = Desk::new();
    desk.backend.on("list_licenses", |_: &api::ListLicensesRequest| {
        let delegation = |account: &str, state: api::DelegationState| api::Delegation {
            account: account.to_owned(),
            state: state.into(),
        };
        let suspended = api::License {
            license_id: "B22-B22-B22".to_owned(),
            state: api::LicenseState::Suspended.into(),
            status: api::LicenseStatus::Attention.into(),
            delegations: vec![
                delegation("bob", api::DelegationState::Accepted),
                delegation("carol", api::DelegationState::Offered),
            ],
            ..license()
        };
        let overused =
            api::License { status: api::LicenseStatus::Problem.into(), name: "=1+1".to_owned(), ..license() };
        let licenses = vec![license(), suspended, overused];
        Ok(api::ListLicensesResponse { licenses, next_page_token: String::new() })
    });
    insta::assert_snapshot!("licenses_list", desk.run(&["licenses", "list"]).all());
    insta::assert_snapshot!("licenses_export", desk.run(&["licenses", "export"]).all());
    let json = desk.run(&["licenses", "list", "--format", "json"]);
    insta::assert_snapshot!("licenses_list_json", json.all());
}

#[test]
fn the_audit_log_is_shown_as_it_was_written() {
    let desk = Desk::new();
    desk.backend.on("list_audit_entries", |_: &api::ListAuditEntriesRequest| {
        let entry =
            |number: i64, kind: api::ActorKind, outcome: api::AuditOutcome, detail: &str| api::AuditEntry {
                entry_id: number.to_string(),
                at: fixed(1_795_000_000 + number),
                actor: "alice".to_owned(),
                action: "unit.deactivate".to_owned(),
                target: "0199c1de-5f3a-7000-8000-000000000001".to_owned(),
                outcome: outcome.into(),
                detail: detail.to_owned(),
                actor_kind: kind.into(),
                actor_credential: if number == 3 { String::new() } else { format!("{number}f3a") },
            };
        let entries = vec![
            entry(1, api::ActorKind::Session, api::AuditOutcome::Done, ""),
            entry(
                2,
                api::ActorKind::ApiCredential,
                api::AuditOutcome::Refused,
                "activated with account `bob`",
            ),
            entry(3, api::ActorKind::Unspecified, api::AuditOutcome::Done, "as it was once"),
        ];
        Ok(api::ListAuditEntriesResponse { entries, next_page_token: String::new() })
    });
    insta::assert_snapshot!("audit_list", desk.run(&["audit", "list"]).all());
    insta::assert_snapshot!("audit_export", desk.run(&["audit", "export", "--format", "json"]).all());
    insta::assert_snapshot!("audit_export_csv", desk.run(&["audit", "export"]).all());
    desk.backend.on("list_audit_entries", |asked: &api::ListAuditEntriesRequest| {
        assert_eq!(asked.actor_kinds, [api::ActorKind::LicenseKey, api::ActorKind::Backend].map(i32::from));
        Ok(api::ListAuditEntriesResponse::default())
    });
    let ran = desk.run(&["audit", "list", "--actor-kind", "license-key,backend"]);
    assert_eq!(ran.status, 0, "{}", ran.all());
}

#[test]
fn accounts_are_shown_with_what_is_special_about_them() {
    let desk = Desk::new();
    desk.backend.on("list_accounts", |_: &api::ListAccountsRequest| {
        let account = |name: &str, role: api::AccountRole| api::Account {
            account_id: format!("id-of-{name}"),
            name: name.to_owned(),
            customer: "Acme".to_owned(),
            role: role.into(),
            created_at: fixed(1_780_000_000),
            ..Default::default()
        };
        let accounts = vec![
            api::Account { may_issue: true, ..account("alice", api::AccountRole::Owner) },
            api::Account { disabled: true, ..account("bob", api::AccountRole::SecurityAdmin) },
        ];
        Ok(api::ListAccountsResponse { accounts, next_page_token: String::new() })
    });
    insta::assert_snapshot!("accounts_list", desk.run(&["accounts", "list"]).all());
}

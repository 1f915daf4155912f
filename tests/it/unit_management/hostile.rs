//! A licensing backend that says whatever it likes moves no cursor, names no window and adds no line.

use esa_sidecar::proto::licensing as api;
use serde_json::Value;
use tonic::Status;

use super::{Desk, Shown};

/// A window's title, a cleared screen, a forged line, C1 controls, separators of lines, a reversed and an unseen text.
const HOSTILE: &str = "a\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31m\r\nFORGED\u{9b}1m\u{7f}\u{2028}FORGED\u{2029}\u{202e}\u{200b}\u{e0041}\u{a0}z";

fn hostile() -> String {
    HOSTILE.to_owned()
}

fn unit() -> api::Unit {
    api::Unit {
        unit_id: hostile(),
        license_id: hostile(),
        device_name: hostile(),
        product: hostile(),
        product_version: hostile(),
        activated_by: hostile(),
        installation: hostile(),
        subscription_id: hostile(),
        ..Default::default()
    }
}

fn license() -> api::License {
    api::License {
        license_id: hostile(),
        subscription_id: hostile(),
        customer: hostile(),
        product: hostile(),
        name: hostile(),
        r#type: hostile(),
        attributes: [(hostile(), hostile())].into(),
        delegations: vec![api::Delegation { account: hostile(), ..Default::default() }],
        ..Default::default()
    }
}

fn account() -> api::Account {
    api::Account { account_id: hostile(), name: hostile(), customer: hostile(), ..Default::default() }
}

fn credential() -> api::ApiCredential {
    api::ApiCredential { credential_id: hostile(), name: hostile(), ..Default::default() }
}

/// Nothing but plain characters, lines and colors of our own, and no line of the other end's making.
fn check(what: &[&str], shown: &Shown) {
    let hidden = [
        "\u{7}",
        "\r",
        "\u{9b}",
        "\u{7f}",
        "\u{2028}",
        "\u{2029}",
        "\u{202e}",
        "\u{200b}",
        "\u{e0041}",
        "\u{a0}",
    ];
    for text in [&shown.stdout, &shown.stderr] {
        for hidden in hidden {
            assert!(!text.contains(hidden), "{what:?}: {hidden:?} in {text:?}");
        }
        for (at, _) in text.match_indices('\u{1b}') {
            let parameters = text[at..].strip_prefix("\u{1b}[").expect("a sequence that is no color");
            let end = parameters.trim_start_matches(|next: char| next.is_ascii_digit() || next == ';');
            assert!(end.starts_with('m'), "{what:?}: a sequence that sets no color in {text:?}");
        }
        assert!(!text.lines().any(|line| line.trim_start().starts_with("FORGED")), "{what:?}: {text:?}");
    }
}

#[test]
fn what_a_backend_says_reaches_terminals_and_files_as_plain_characters_on_lines_of_our_own() {
    let desk = Desk::new();
    desk.backend.on("list_units", |request: &api::ListUnitsRequest| {
        let next_page_token = if request.page_token.is_empty() { hostile() } else { String::new() };
        Ok(api::ListUnitsResponse { units: vec![unit()], next_page_token })
    });
    desk.backend.on("get_unit", |_: &api::GetUnitRequest| Ok(api::GetUnitResponse { unit: Some(unit()) }));
    desk.backend.on("deactivate_units", |_: &api::DeactivateUnitsRequest| {
        let refusal = api::DeactivationRefusal::NotFound.into();
        let result =
            api::DeactivatedUnit { unit_id: hostile(), refusal, message: hostile(), ..Default::default() };
        Ok(api::DeactivateUnitsResponse { results: vec![result] })
    });
    desk.backend.on("list_licenses", |_: &api::ListLicensesRequest| {
        Ok(api::ListLicensesResponse { licenses: vec![license()], next_page_token: String::new() })
    });
    desk.backend.on("get_license", |_: &api::GetLicenseRequest| {
        Ok(api::GetLicenseResponse { license: Some(license()) })
    });
    desk.backend.on("rotate_license_key", |_: &api::RotateLicenseKeyRequest| {
        Ok(api::RotateLicenseKeyResponse { license_key: hostile() })
    });
    desk.backend.on("list_accounts", |_: &api::ListAccountsRequest| {
        Ok(api::ListAccountsResponse { accounts: vec![account()], next_page_token: String::new() })
    });
    desk.backend.on("get_caller", |_: &api::GetCallerRequest| {
        Ok(api::GetCallerResponse { account: Some(account()) })
    });
    desk.backend.on("create_api_credential", |_: &api::CreateApiCredentialRequest| {
        Ok(api::CreateApiCredentialResponse { credential: Some(credential()), token: String::new() })
    });
    desk.backend.on("list_api_credentials", |_: &api::ListApiCredentialsRequest| {
        let credentials = vec![credential()];
        Ok(api::ListApiCredentialsResponse { credentials, next_page_token: String::new() })
    });
    desk.backend.on("list_audit_entries", |_: &api::ListAuditEntriesRequest| {
        let entry = api::AuditEntry {
            entry_id: hostile(),
            actor: hostile(),
            actor_credential: hostile(),
            action: hostile(),
            target: hostile(),
            detail: hostile(),
            ..Default::default()
        };
        Ok(api::ListAuditEntriesResponse { entries: vec![entry], next_page_token: String::new() })
    });
    desk.backend.on("sign_in", |_: &api::SignInRequest| {
        Ok(api::SignInResponse { token: "t".to_owned(), account: Some(account()), ..Default::default() })
    });
    desk.backend.on("activate_unit", |_: &api::ActivateUnitRequest| {
        Ok(api::ActivateUnitResponse { unit: Some(unit()) })
    });
    desk.backend.on("suspend_license", |_: &api::SuspendLicenseRequest| {
        Err::<api::SuspendLicenseResponse, _>(Status::failed_precondition(HOSTILE.repeat(80)))
    });
    desk.write("password", "some password\n");
    for arguments in [
        &["units", "list"][..],
        &["units", "list", "--format", "csv"],
        &["units", "export"],
        &["units", "get", "x"],
        &["units", "deactivate", "x"],
        &["licenses", "list"],
        &["licenses", "list", "--format", "csv"],
        &["licenses", "get", "x"],
        &["licenses", "rotate-key", "x"],
        &["licenses", "suspend", "x"],
        &["accounts", "list"],
        &["accounts", "whoami"],
        &["accounts", "sign-in", "x", "--password-file", "password"],
        &["accounts", "credentials", "create", "x"],
        &["accounts", "credentials", "list"],
        &["audit", "list"],
        &["audit", "export"],
        &["activate", "--license", "3A8-WN7-7TD", "--data-dir", "data"],
    ] {
        let mut command = desk.command(arguments);
        let shown = Shown::of(&command.env("CLICOLOR_FORCE", "1").output().unwrap());
        assert!(shown.all().contains("owned"), "{arguments:?}: it was shown at all: {shown:?}");
        check(arguments, &shown);
        assert!(shown.stderr.len() < 5000, "{arguments:?}: {} bytes of an error", shown.stderr.len());
    }
    for arguments in [
        &["units", "list", "--format", "json"][..],
        &["units", "get", "x", "--json"],
        &["units", "deactivate", "x", "--format", "json"],
        &["licenses", "list", "--format", "json"],
        &["accounts", "list", "--format", "json"],
        &["audit", "export", "--format", "json"],
    ] {
        let mut command = desk.command(arguments);
        let shown = Shown::of(&command.env("CLICOLOR_FORCE", "1").output().unwrap());
        check(arguments, &shown);
        let told: Value = serde_json::from_str(&shown.stdout).unwrap();
        assert!(texts(&told).any(|text| text == HOSTILE), "{arguments:?}: JSON keeps every value: {told}");
    }
    let exported = desk.run(&["units", "export", "--output", "units.csv"]);
    assert_eq!(exported.status, 0, "{exported:?}");
    check(&["the file"], &Shown { stdout: desk.read("units.csv"), ..exported });
}

/// Every text in it.
fn texts(value: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match value {
        Value::String(text) => Box::new(std::iter::once(text.as_str())),
        Value::Array(values) => Box::new(values.iter().flat_map(texts)),
        Value::Object(values) => Box::new(values.values().flat_map(texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Box::new(std::iter::empty()),
    }
}

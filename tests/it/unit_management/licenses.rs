//! Licenses: what is issued, what is changed, and where keys go.

use esa_sidecar::proto::licensing as api;
use serde_json::Value;
use tonic::Status;

use super::Desk;

fn license(license_id: &str) -> Option<api::License> {
    Some(api::License { license_id: license_id.to_owned(), seats: 5, ..Default::default() })
}

const CREATE: [&str; 6] = ["licenses", "create", "--seats", "5", "--expires-at", "2027-06-30T12:00:00Z"];

fn issue(desk: &Desk) {
    desk.backend.on("create_license", |_: &api::CreateLicenseRequest| {
        Ok(api::CreateLicenseResponse {
            license: license("3A8-WN7-7TD"),
            license_key: "AAAA-BBBB-CCCC".to_owned(),
        })
    });
}

#[test]
fn a_license_key_is_told_once_on_a_line_of_its_own() {
    let desk = Desk::new();
    issue(&desk);
    let shown = desk.run(&CREATE);
    assert_eq!((shown.status, shown.last_line()), (0, "AAAA-BBBB-CCCC"), "{shown:?}");
    assert_eq!(shown.all().matches("AAAA-BBBB-CCCC").count(), 1);
    let json = desk.run(&[&CREATE[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["license_key"], "AAAA-BBBB-CCCC");
    assert_eq!(json["license"]["license_id"], "3A8-WN7-7TD");
}

#[test]
fn a_license_key_in_a_file_is_for_its_owner_alone_and_replaces_no_other() {
    let desk = Desk::new();
    issue(&desk);
    let arguments = [&CREATE[..], &["--key-output", "key"]].concat();
    let shown = desk.run(&arguments);
    assert_eq!(shown.status, 0, "{shown:?}");
    assert!(!shown.all().contains("AAAA-BBBB-CCCC"));
    assert_eq!((desk.read("key").as_str(), desk.mode("key")), ("AAAA-BBBB-CCCC\n", 0o600));
    let again = desk.run(&arguments);
    assert_eq!(again.all(), "exit status 2\nerror: `key` is there already; name a new file for the secret\n");
    assert_eq!(desk.backend.calls().len(), 1, "nothing is issued whose key has no place");
}

#[test]
fn a_key_that_was_lost_with_its_answer_is_said_to_be_lost() {
    let desk = Desk::new();
    desk.backend.on("create_license", |_: &api::CreateLicenseRequest| {
        Ok(api::CreateLicenseResponse { license: license("3A8-WN7-7TD"), license_key: String::new() })
    });
    let shown = desk.run(&CREATE);
    assert_eq!(
        shown.all(),
        "exit status 2\nerror: it was done, but the answer with the secret was lost on the way; make a new key with \
         `esa-sidecar licenses rotate-key 3A8-WN7-7TD`\n"
    );
}

#[test]
fn a_license_is_issued_with_the_terms_that_were_given() {
    let desk = Desk::new();
    issue(&desk);
    let terms = [
        "--id",
        "3A8-WN7-7TD",
        "--customer",
        "Acme",
        "--name",
        "Head office",
        "--type",
        "trial",
        "--seat-kind",
        "units",
        "--sms-credits",
        "0",
        "--all-users-limit",
        "9",
        "--attribute",
        "site=Brno=1",
        "--attribute",
        "a=",
    ];
    assert_eq!(desk.run(&[&CREATE[..], &terms].concat()).status, 0);
    let asked: Vec<api::CreateLicenseRequest> = desk.backend.asked("create_license");
    let expected = api::NewLicense {
        license_id: "3A8-WN7-7TD".to_owned(),
        customer: "Acme".to_owned(),
        name: "Head office".to_owned(),
        r#type: "trial".to_owned(),
        seat_kind: api::SeatKind::Units.into(),
        seats: 5,
        expires_at: Some(prost_types::Timestamp { seconds: 1_814_356_800, nanos: 0 }),
        all_users_limit: 9,
        sms_credits: Some(0),
        attributes: [("site".to_owned(), "Brno=1".to_owned()), ("a".to_owned(), String::new())].into(),
        ..Default::default()
    };
    assert_eq!(asked[0].license, Some(expected));

    let neither = desk.run(&["licenses", "create", "--seats", "5"]);
    assert!(
        neither.stderr.contains("--expires-at") && neither.stderr.contains("--expires-in"),
        "{neither:?}"
    );
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    assert_eq!(desk.run(&["licenses", "create", "--seats", "5", "--expires-in", "365d"]).status, 0);
    let asked: Vec<api::CreateLicenseRequest> = desk.backend.asked("create_license");
    let expires_at = asked[1].license.as_ref().unwrap().expires_at.as_ref().unwrap().seconds;
    assert!((0..60).contains(&(expires_at - now - 365 * 86_400)), "{expires_at}");
}

#[test]
fn an_update_names_what_is_to_change_and_nothing_else() {
    let desk = Desk::new();
    desk.backend.on("update_license", |_: &api::UpdateLicenseRequest| {
        Ok(api::UpdateLicenseResponse { license: license("3A8-WN7-7TD") })
    });
    for (arguments, paths) in [
        (&["--seats", "7"][..], &["seats"][..]),
        (&["--name", "", "--type", "full"], &["name", "type"]),
        (&["--no-sms-credits"], &["sms_credits"]),
        (&["--attribute", "a=b", "--sms-credits", "0"], &["sms_credits", "attributes"]),
        (
            &["--no-attributes", "--all-users-limit", "0", "--components-limit", "0"],
            &["all_users_limit", "components_limit", "attributes"],
        ),
    ] {
        let shown = desk.run(&[&["licenses", "update", "3A8-WN7-7TD"], arguments].concat());
        assert_eq!(shown.status, 0, "{shown:?}");
        let asked: Vec<api::UpdateLicenseRequest> = desk.backend.asked("update_license");
        assert_eq!(asked.last().unwrap().update_mask.as_ref().unwrap().paths, paths);
    }
    let before = desk.backend.calls().len();
    assert_eq!(desk.run(&["licenses", "update", "3A8-WN7-7TD"]).status, 2);
    assert_eq!(desk.backend.calls().len(), before, "nothing to change is not asked");
}

#[test]
fn a_suspension_says_which_kind() {
    let desk = Desk::new();
    desk.backend.on("suspend_license", |_: &api::SuspendLicenseRequest| {
        Ok(api::SuspendLicenseResponse { license: license("3A8-WN7-7TD") })
    });
    for (flag, state) in [
        (None, api::LicenseState::Suspended),
        (Some("--canceled"), api::LicenseState::Canceled),
        (Some("--deactivated"), api::LicenseState::Deactivated),
    ] {
        let arguments = ["licenses", "suspend", "3A8-WN7-7TD"].into_iter().chain(flag).collect::<Vec<_>>();
        assert_eq!(desk.run(&arguments).status, 0);
        let asked: Vec<api::SuspendLicenseRequest> = desk.backend.asked("suspend_license");
        assert_eq!(asked.last().unwrap().state(), state);
    }
}

#[test]
fn a_delegation_is_offered_accepted_and_taken_back() {
    let desk = Desk::new();
    let delegation = |state: api::DelegationState| {
        Some(api::Delegation { account: "bob".to_owned(), state: state.into() })
    };
    desk.backend.on("delegate_license", move |_: &api::DelegateLicenseRequest| {
        Ok(api::DelegateLicenseResponse { delegation: delegation(api::DelegationState::Offered) })
    });
    desk.backend.on("accept_license", move |_: &api::AcceptLicenseRequest| {
        Ok(api::AcceptLicenseResponse { delegation: delegation(api::DelegationState::Accepted) })
    });
    desk.backend.on("revoke_license", |_: &api::RevokeLicenseRequest| Ok(api::RevokeLicenseResponse {}));
    let shown = desk.run(&["licenses", "delegate", "3A8-WN7-7TD", "--to", "bob", "--json"]);
    assert_eq!(shown.stdout, "{\"account\":\"bob\",\"state\":\"offered\"}\n");
    let shown = desk.run(&["licenses", "accept", "3A8-WN7-7TD"]);
    assert_eq!(shown.stdout, "account  bob\nstate    accepted\n");
    let shown = desk.run(&["licenses", "revoke", "3A8-WN7-7TD", "--from", "bob"]);
    assert_eq!(shown.stdout, "license 3A8-WN7-7TD is taken back from bob\n");
    let asked: Vec<api::RevokeLicenseRequest> = desk.backend.asked("revoke_license");
    assert_eq!((asked[0].license_id.as_str(), asked[0].account.as_str()), ("3A8-WN7-7TD", "bob"));
}

#[test]
fn every_fault_of_an_import_is_told_at_once_and_nothing_is_sent() {
    let desk = Desk::new();
    desk.write("new.csv", "seats,expires_at,name\nmany,soon,\n5,2027-06-30T12:00:00Z,\n,,a\n,,\n");
    insta::assert_snapshot!("import_faults", desk.run(&["licenses", "import", "new.csv"]).all());
    assert_eq!(desk.run(&["licenses", "import", "new.txt"]).status, 2);
    assert!(desk.backend.calls().is_empty());
}

#[test]
fn the_keys_of_an_import_are_told_once_in_the_order_of_the_file() {
    let desk = Desk::new();
    desk.backend.on("import_licenses", |request: &api::ImportLicensesRequest| {
        let issued = request.licenses.iter().enumerate().map(|(number, new)| {
            let name = new.name.clone();
            let license = api::License { license_id: format!("L{number}"), name, ..Default::default() };
            api::CreateLicenseResponse { license: Some(license), license_key: format!("KEY-{number}") }
        });
        Ok(api::ImportLicensesResponse { licenses: issued.collect() })
    });
    desk.write("new.csv", "name,seats,expires_at\na,5,2027-06-30T12:00:00Z\n=b,6,2027-06-30T12:00:00Z\n");
    let shown = desk.run(&["licenses", "import", "new.csv"]);
    assert_eq!(
        shown.stdout, "license_id,name,license_key\n\"L0\",\"a\",\"KEY-0\"\n\"L1\",\"'=b\",\"KEY-1\"\n",
        "{shown:?}"
    );

    let shown = desk.run(&["licenses", "import", "new.csv", "--format", "json", "--key-output", "keys.json"]);
    assert_eq!((shown.status, shown.stdout.as_str(), desk.mode("keys.json")), (0, "", 0o600), "{shown:?}");
    let keys: Vec<Value> = serde_json::from_str(&desk.read("keys.json")).unwrap();
    assert_eq!(keys[1]["name"], "=b");
}

#[test]
fn an_import_that_is_refused_leaves_no_file() {
    let desk = Desk::new();
    desk.backend.on("import_licenses", |_: &api::ImportLicensesRequest| {
        Err::<api::ImportLicensesResponse, _>(Status::already_exists("license `L0` is taken"))
    });
    desk.write("new.json", r#"[{"seats": 5, "expires_at": "2027-06-30T12:00:00Z"}]"#);
    let shown = desk.run(&["licenses", "import", "new.json", "--key-output", "keys"]);
    assert_eq!(shown.all(), "exit status 2\nerror: license `L0` is taken\n");
    assert_eq!(std::fs::read_dir(desk.home.path()).unwrap().count(), 1);
}

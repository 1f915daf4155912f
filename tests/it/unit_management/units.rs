//! Units: which are asked for, how they are exported, deactivated and activated.

use std::{
    collections::HashSet,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use esa_sidecar::{proto::licensing as api, sha256};
use serde_json::Value;
use tonic::Status;

use super::{Desk, TOKEN};

fn unit(number: usize) -> api::Unit {
    api::Unit {
        unit_id: format!("unit-{number}"),
        license_id: format!("L{number:02}"),
        device_name: format!("device {number}"),
        ..Default::default()
    }
}

/// Answers with `count` units, `size` on a page.
fn tell_units(desk: &Desk, count: usize, size: usize) {
    desk.backend.on("list_units", move |request: &api::ListUnitsRequest| {
        let first: usize = request.page_token.parse().unwrap_or(0);
        let end = (first + size).min(count);
        let next_page_token = if end < count { end.to_string() } else { String::new() };
        Ok(api::ListUnitsResponse { units: (first..end).map(unit).collect(), next_page_token })
    });
}

#[test]
fn filters_order_and_page_reach_the_backend_as_they_were_given() {
    let desk = Desk::new();
    tell_units(&desk, 1, 10);
    let shown = desk.run(&[
        "units",
        "list",
        "--status",
        "attention,problem",
        "--connection",
        "red",
        "--connection",
        "orange",
        "--state",
        "deactivation-pending",
        "--license",
        "AAA-AAA-AAA",
        "--license",
        "BBB-BBB-BBB",
        "--own",
        "--sort",
        "last_connected_at",
        "--descending",
        "--page-size",
        "7",
        "--page-token",
        "0",
    ]);
    assert_eq!(shown.status, 0, "{shown:?}");
    let expected = api::ListUnitsRequest {
        page_size: 7,
        page_token: "0".to_owned(),
        sort: api::UnitSort::LastConnectedAt.into(),
        descending: true,
        statuses: vec![api::LicenseStatus::Attention.into(), api::LicenseStatus::Problem.into()],
        connections: vec![api::Connection::Red.into(), api::Connection::Orange.into()],
        states: vec![api::UnitState::DeactivationPending.into()],
        license_ids: vec!["AAA-AAA-AAA".to_owned(), "BBB-BBB-BBB".to_owned()],
        own: true,
    };
    assert_eq!(desk.backend.asked::<api::ListUnitsRequest>("list_units"), [expected]);
    assert_eq!(desk.backend.calls(), [("list_units", Some(format!("Bearer {TOKEN}")))]);
}

#[test]
fn one_page_is_shown_unless_all_are_asked_for() {
    let desk = Desk::new();
    tell_units(&desk, 5, 2);
    let one: Value = serde_json::from_str(&desk.run(&["units", "list", "--format", "json"]).stdout).unwrap();
    assert_eq!((one["units"].as_array().unwrap().len(), &one["next_page_token"]), (2, &Value::from("2")));
    let csv = desk.run(&["units", "list", "--format", "csv"]);
    assert_eq!(csv.stdout.lines().count(), 3);
    assert!(csv.stderr.contains("--page-token 2"), "a program's output stays clean: {csv:?}");

    let all = desk.run(&["units", "list", "--all", "--format", "json"]).stdout;
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!((all["units"].as_array().unwrap().len(), &all["next_page_token"]), (5, &Value::Null));
    assert_eq!(desk.run(&["units", "list", "--all", "--format", "csv"]).stdout.lines().count(), 6);
}

#[test]
fn an_export_has_every_unit_and_no_formula() {
    let desk = Desk::new();
    desk.backend.on("list_units", |request: &api::ListUnitsRequest| {
        let formula = |name: &str| api::Unit { device_name: name.to_owned(), ..unit(1) };
        Ok(if request.page_token.is_empty() {
            api::ListUnitsResponse {
                units: vec![formula("=HYPERLINK(\"x\",1)")],
                next_page_token: "2".to_owned(),
            }
        } else {
            api::ListUnitsResponse { units: vec![formula("-1"), formula("plain")], ..Default::default() }
        })
    });
    let shown = desk.run(&["units", "export", "--output", "units.csv"]);
    assert_eq!((shown.status, shown.stdout.as_str()), (0, ""), "{shown:?}");
    let csv = desk.read("units.csv");
    assert!(csv.starts_with("unit_id,device_name,product,"), "{csv}");
    assert_eq!(csv.lines().count(), 4);
    assert!(
        csv.contains(r#""unit-1","'=HYPERLINK(""x"",1)","#) && csv.contains(r#""unit-1","'-1","#),
        "{csv}"
    );

    let json = desk.run(&["units", "export", "--format", "json"]).stdout;
    let json: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(json[1]["device_name"], "-1", "JSON is data as it is");
}

#[test]
fn an_export_that_breaks_off_leaves_the_old_file_as_it_was() {
    let desk = Desk::new();
    desk.write("units.csv", "of yesterday");
    desk.backend.on("list_units", |request: &api::ListUnitsRequest| {
        if request.page_token.is_empty() {
            return Ok(api::ListUnitsResponse { units: vec![unit(1)], next_page_token: "2".to_owned() });
        }
        Err(Status::internal("the disk is full"))
    });
    let shown = desk.run(&["units", "export", "--output", "units.csv"]);
    assert_eq!(shown.all(), "exit status 2\nerror: the disk is full\n");
    assert_eq!(desk.read("units.csv"), "of yesterday");
    assert_eq!(std::fs::read_dir(desk.home.path()).unwrap().count(), 1);
}

#[test]
fn distributions_shows_the_chosen_attribute_and_asks_for_each_license_once() {
    let desk = Desk::new();
    desk.backend.on("list_units", |_: &api::ListUnitsRequest| {
        Ok(api::ListUnitsResponse { units: vec![unit(1), unit(2), unit(1)], ..Default::default() })
    });
    let license = |license_id: &str| api::License {
        license_id: license_id.to_owned(),
        name: format!("name of {license_id}"),
        attributes: [("site".to_owned(), format!("site of {license_id}"))].into(),
        ..Default::default()
    };
    desk.backend.on("get_license", move |request: &api::GetLicenseRequest| {
        Ok(api::GetLicenseResponse { license: Some(license(&request.license_id)) })
    });
    let shown = |attribute: &str| -> Vec<String> {
        let arguments = ["units", "export", "--format", "json", "--distribution", attribute];
        let units: Vec<Value> = serde_json::from_str(&desk.run(&arguments).stdout).unwrap();
        units.iter().map(|unit| unit["distributions"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(shown("license_id"), ["L01", "L02", "L01"]);
    assert_eq!(desk.backend.asked::<api::GetLicenseRequest>("get_license"), []);
    assert_eq!(shown("name"), ["name of L01", "name of L02", "name of L01"]);
    assert_eq!(desk.backend.asked::<api::GetLicenseRequest>("get_license").len(), 2);
    assert_eq!(shown("site"), ["site of L01", "site of L02", "site of L01"]);

    // Many at once are asked for together.
    tell_units(&desk, 30, 30);
    desk.backend.on("list_licenses", move |_: &api::ListLicensesRequest| {
        let licenses = (0..30).map(|number| license(&format!("L{number:02}"))).collect();
        Ok(api::ListLicensesResponse { licenses, ..Default::default() })
    });
    assert_eq!(shown("name")[29], "name of L29");
    assert_eq!(desk.backend.asked::<api::ListLicensesRequest>("list_licenses").len(), 1);
    assert_eq!(desk.backend.asked::<api::GetLicenseRequest>("get_license").len(), 4);
}

/// Refuses the units whose number is odd.
fn refuse_the_odd(desk: &Desk) {
    desk.backend.on("deactivate_units", |request: &api::DeactivateUnitsRequest| {
        let results = request.unit_ids.iter().map(|unit_id| {
            let is_odd = unit_id.ends_with(['1', '3', '5', '7', '9']);
            let refused = api::DeactivatedUnit {
                unit_id: unit_id.clone(),
                refusal: api::DeactivationRefusal::OtherAccount.into(),
                message: "it was activated with account `bob`".to_owned(),
                ..Default::default()
            };
            let done = api::DeactivatedUnit {
                unit_id: unit_id.clone(),
                state: api::UnitState::DeactivationPending.into(),
                ..Default::default()
            };
            if is_odd { refused } else { done }
        });
        Ok(api::DeactivateUnitsResponse { results: results.collect() })
    });
}

#[test]
fn deactivation_tells_of_each_unit_and_fails_when_one_is_refused() {
    let desk = Desk::new();
    refuse_the_odd(&desk);
    let shown = desk.run(&["units", "deactivate", "unit-2", "unit-1", "unit-2", "unit-4"]);
    insta::assert_snapshot!("units_deactivate", shown.all());
    assert_eq!(desk.run(&["units", "deactivate", "unit-2"]).status, 0);
    let json = desk.run(&["units", "deactivate", "unit-2", "unit-1", "--format", "json"]);
    insta::assert_snapshot!("units_deactivate_json", json.all());
}

#[test]
fn units_of_a_file_are_deactivated_ten_thousand_at_a_time() {
    let desk = Desk::new();
    refuse_the_odd(&desk);
    let lines: String = (0..20_001).map(|number| format!("{number}0\n\n")).collect();
    let shown = desk.run_with_input(&["units", "deactivate", "--from-file", "-"], &lines);
    assert_eq!(shown.status, 0, "{}", shown.stderr);
    assert!(shown.stdout.ends_with("20001 deactivated, 0 refused\n"));
    let asked: Vec<api::DeactivateUnitsRequest> = desk.backend.asked("deactivate_units");
    assert_eq!(asked.iter().map(|asked| asked.unit_ids.len()).collect::<Vec<_>>(), [10_000, 10_000, 1]);
    let ids: HashSet<&str> = asked.iter().map(|asked| asked.request_id.as_str()).collect();
    assert_eq!(ids.len(), 3, "each is a change of its own");
    assert!(ids.iter().all(|id| (1..=64).contains(&id.len())));
}

#[test]
fn what_matches_is_deactivated_only_when_somebody_says_yes() {
    let desk = Desk::new();
    tell_units(&desk, 5, 2);
    refuse_the_odd(&desk);
    let arguments = ["units", "deactivate", "--matching", "--connection", "red", "--own"];
    let shown = desk.run(&arguments);
    assert_eq!(shown.all(), "exit status 2\nerror: 5 units match; add --yes to deactivate what matches\n");
    assert!(desk.backend.asked::<api::DeactivateUnitsRequest>("deactivate_units").is_empty());

    let shown = desk.run(&[&arguments[..], &["--yes"]].concat());
    assert_eq!(shown.status, 1, "two of them are odd: {shown:?}");
    let asked: Vec<api::DeactivateUnitsRequest> = desk.backend.asked("deactivate_units");
    assert_eq!(asked[0].unit_ids, ["unit-0", "unit-1", "unit-2", "unit-3", "unit-4"]);
    let listed: Vec<api::ListUnitsRequest> = desk.backend.asked("list_units");
    assert!(listed.iter().all(|asked| asked.own && asked.connections == [3] && asked.states == [1]));

    let shown = desk.run(&["units", "deactivate", "unit-1", "--connection", "red"]);
    assert_eq!(shown.all(), "exit status 2\nerror: filters choose units only together with --matching\n");
}

fn activate(desk: &Desk) {
    desk.backend.on("activate_unit", |request: &api::ActivateUnitRequest| {
        let unit = api::Unit { device_name: request.device_name.clone(), ..unit(7) };
        Ok(api::ActivateUnitResponse { unit: Some(unit) })
    });
}

#[test]
fn activation_tells_the_backend_the_digest_of_the_secret_alone() {
    let desk = Desk::new();
    activate(&desk);
    let shown = desk.run(&[
        "units",
        "activate",
        "--device-name",
        "MAIL-01",
        "--license",
        "3A8-WN7-7TD",
        "--product-version",
        "3.1",
        "--subunits",
        "25",
        "--from-era",
        "--installation",
        "Brno",
    ]);
    assert_eq!(shown.status, 0, "{shown:?}");
    let secret = shown.last_line().strip_prefix("esau_unit-7_").expect("the token stands alone");
    assert_eq!(secret.len(), 43, "32 bytes in base64url");
    let asked: Vec<api::ActivateUnitRequest> = desk.backend.asked("activate_unit");
    let expected = api::ActivateUnitRequest {
        request_id: asked[0].request_id.clone(),
        license_key: String::new(),
        license_id: "3A8-WN7-7TD".to_owned(),
        device_name: "MAIL-01".to_owned(),
        product: String::new(),
        product_version: "3.1".to_owned(),
        subunits: 25,
        from_remote_management: true,
        secret_sha256: sha256::hex(secret.as_bytes()),
        installation: "Brno".to_owned(),
    };
    assert_eq!(asked, [expected]);
}

#[test]
fn a_license_key_activates_without_an_account() {
    let desk = Desk::new();
    activate(&desk);
    desk.write("key", "AAAA-BBBB-CCCC\n");
    let arguments = [
        "units",
        "activate",
        "--device-name",
        "MAIL-01",
        "--license-key-file",
        "key",
        "--token-output",
        "token",
    ];
    let shown = desk.run(&arguments);
    assert_eq!(shown.status, 0, "{shown:?}");
    assert!(!shown.all().contains("esau_"));
    assert!(desk.read("token").starts_with("esau_unit-7_"));
    assert_eq!(desk.mode("token"), 0o600);
    assert_eq!(desk.backend.calls(), [("activate_unit", None)], "the key speaks for itself");
    let asked: Vec<api::ActivateUnitRequest> = desk.backend.asked("activate_unit");
    assert_eq!(asked[0].license_key, "AAAA-BBBB-CCCC");

    let again = desk.run(&arguments);
    assert!(again.stderr.contains("`token` is there already"), "{again:?}");
    assert_eq!(desk.backend.calls().len(), 1, "nothing is activated whose token has no place");
}

#[test]
fn a_license_key_that_is_refused_is_no_reason_to_sign_in() {
    let desk = Desk::new();
    desk.backend.on("activate_unit", |_: &api::ActivateUnitRequest| {
        Err::<api::ActivateUnitResponse, _>(Status::unauthenticated("the license key opens no license"))
    });
    desk.write("key", "AAAA-BBBB-CCCC\n");
    let shown = desk.run(&["units", "activate", "--device-name", "MAIL-01", "--license-key-file", "key"]);
    assert_eq!(shown.all(), "exit status 2\nerror: the license key opens no license\n");
}

#[test]
fn a_change_is_sent_again_with_the_same_request_id_while_the_backend_is_away() {
    let desk = Desk::new();
    let mut away = 2;
    desk.backend.on("activate_unit", move |_: &api::ActivateUnitRequest| {
        if 0 < away {
            away -= 1;
            return Err(Status::unavailable("starting"));
        }
        Ok(api::ActivateUnitResponse { unit: Some(unit(7)) })
    });
    let shown = desk.run(&["units", "activate", "--device-name", "MAIL-01", "--license", "3A8-WN7-7TD"]);
    assert_eq!(shown.status, 0, "{shown:?}");
    let asked: Vec<api::ActivateUnitRequest> = desk.backend.asked("activate_unit");
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|again| *again == asked[0]), "{asked:?}");

    desk.backend.on("activate_unit", |_: &api::ActivateUnitRequest| {
        Err::<api::ActivateUnitResponse, _>(Status::unavailable("starting"))
    });
    let shown = desk.run(&["units", "activate", "--device-name", "MAIL-01", "--license", "3A8-WN7-7TD"]);
    assert_eq!(shown.all(), "exit status 2\nerror: starting\n");
    let asked: Vec<api::ActivateUnitRequest> = desk.backend.asked("activate_unit");
    assert_eq!(asked.len(), 3 + 4, "not for ever");
    assert_ne!(asked[3].request_id, asked[0].request_id, "another change has another ID");
}

#[test]
fn a_backend_that_keeps_silent_is_given_up() {
    let desk = Desk::new();
    let (speak, silence) = mpsc::channel::<()>();
    desk.backend.on("list_units", move |_: &api::ListUnitsRequest| {
        // Until the sender has gone.
        let _ = silence.recv();
        Ok(api::ListUnitsResponse::default())
    });
    let shown = desk.run(&["units", "list", "--timeout", "50ms"]);
    drop(speak);
    assert_eq!(shown.status, 2);
    assert!(shown.stderr.contains("no answer came in time; give it longer with --timeout"), "{shown:?}");
}

#[test]
fn what_the_backend_refuses_is_not_asked_again() {
    let desk = Desk::new();
    desk.backend.on("activate_unit", |_: &api::ActivateUnitRequest| {
        Err::<api::ActivateUnitResponse, _>(Status::failed_precondition("no seat is free"))
    });
    let shown = desk.run(&["units", "activate", "--device-name", "MAIL-01", "--license", "3A8-WN7-7TD"]);
    assert_eq!(shown.all(), "exit status 2\nerror: no seat is free\n");
    assert_eq!(desk.backend.calls().len(), 1);
}

#[test]
fn a_change_whose_answer_was_lost_on_the_way_is_sent_again() {
    let desk = Desk::new();
    let (tell_reached, reached) = mpsc::channel();
    desk.backend.on("activate_unit", move |_: &api::ActivateUnitRequest| {
        // Nobody waits for the second.
        let _ = tell_reached.send(());
        Ok(api::ActivateUnitResponse { unit: Some(unit(7)) })
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let backend = desk.backend.address;
    thread::spawn(move || {
        // The first connection carries the question there and no answer back; the second carries both.
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(backend).unwrap();
        carry(client.try_clone().unwrap(), server.try_clone().unwrap());
        reached.recv().unwrap();
        client.shutdown(std::net::Shutdown::Both).unwrap();
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(backend).unwrap();
        carry(client.try_clone().unwrap(), server.try_clone().unwrap());
        carry(server, client);
    });
    let arguments = [
        "units",
        "activate",
        "--device-name",
        "MAIL-01",
        "--license",
        "3A8-WN7-7TD",
        "--licensing",
        &address,
    ];
    let shown = desk.run(&arguments);
    assert_eq!(shown.status, 0, "{shown:?}");
    let asked: Vec<api::ActivateUnitRequest> = desk.backend.asked("activate_unit");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1]);
}

#[test]
fn a_backend_that_is_gone_leaves_open_whether_the_change_was_done() {
    let desk = Desk::new();
    let (tell_reached, reached) = mpsc::channel();
    desk.backend.on("activate_unit", move |_: &api::ActivateUnitRequest| {
        tell_reached.send(()).unwrap();
        Ok(api::ActivateUnitResponse { unit: Some(unit(7)) })
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let backend = desk.backend.address;
    thread::spawn(move || {
        // One connection carries the question there and no answer back; there is no second.
        let (client, _) = listener.accept().unwrap();
        drop(listener);
        carry(client.try_clone().unwrap(), TcpStream::connect(backend).unwrap());
        reached.recv().unwrap();
        client.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let arguments = [
        "units",
        "activate",
        "--device-name",
        "MAIL-01",
        "--license",
        "3A8-WN7-7TD",
        "--licensing",
        &address,
    ];
    assert_eq!(
        desk.run(&arguments).all(),
        "exit status 2\nerror: the connection to the licensing backend was lost (Connection refused (os error 111)); if \
         this was a change, look whether it was done\n"
    );
}

/// Carries bytes one way until either side has gone.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if to.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    });
}

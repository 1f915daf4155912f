//! Accounts: signing in, whose token is used, and passwords.

use std::fs;

use esa_sidecar::proto::licensing as api;
use prost_types::Timestamp;
use tonic::{Code, Status};

use super::{Desk, Shown};

const SESSION: &str = ".local/state/esa-sidecar/session.json";

fn sign_in(desk: &Desk, password_change_required: bool) {
    desk.backend.on("sign_in", move |request: &api::SignInRequest| {
        if request.password != "correct horse" {
            return Err(Status::unauthenticated("name or password is wrong"));
        }
        let account =
            api::Account { name: request.name.clone(), password_change_required, ..Default::default() };
        Ok(api::SignInResponse {
            token: format!("esas_of_{}", request.name),
            expires_at: Some(Timestamp { seconds: 1_795_000_000, nanos: 0 }),
            account: Some(account),
        })
    });
    desk.backend.on("get_caller", |_: &api::GetCallerRequest| {
        Ok(api::GetCallerResponse { account: Some(api::Account::default()) })
    });
    desk.backend.on("sign_out", |_: &api::SignOutRequest| Ok(api::SignOutResponse {}));
    desk.write("password", "correct horse\n");
}

fn last_authorization(desk: &Desk) -> Option<String> {
    desk.backend.calls().last().unwrap().1.clone()
}

const SIGN_IN: [&str; 5] = ["accounts", "sign-in", "alice", "--password-file", "password"];

#[test]
fn a_session_is_kept_for_its_owner_alone_and_used_by_what_comes_after() {
    let desk = Desk::new();
    sign_in(&desk, false);
    let shown = desk.run_as_stranger(&SIGN_IN);
    let path = desk.path(SESSION).display().to_string();
    assert_eq!(
        shown.all(),
        format!("exit status 0\nsigned in as alice until 2026-11-18T11:06:40Z; the session is in {path}\n")
    );
    assert_eq!((desk.mode(SESSION), desk.mode(".local/state/esa-sidecar")), (0o600, 0o700));
    assert_eq!(last_authorization(&desk), None, "nobody yet");
    assert_eq!(desk.run_as_stranger(&["accounts", "whoami"]).status, 0);
    assert_eq!(last_authorization(&desk).as_deref(), Some("Bearer esas_of_alice"));

    // Somebody may have made it readable; a new session mends that.
    fs::set_permissions(desk.path(SESSION), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(desk.run_as_stranger(&SIGN_IN).status, 0);
    assert_eq!(desk.mode(SESSION), 0o600);

    assert_eq!(desk.run_as_stranger(&["accounts", "sign-out"]).stdout, "signed out\n");
    assert_eq!(last_authorization(&desk).as_deref(), Some("Bearer esas_of_alice"));
    assert!(!desk.read(SESSION).contains("esas_"));
    assert_eq!(desk.run_as_stranger(&["accounts", "whoami"]).status, 2);
}

#[test]
fn a_session_is_for_the_backend_it_was_opened_with() {
    let desk = Desk::new();
    let other = Desk::new();
    sign_in(&desk, false);
    sign_in(&other, false);
    assert_eq!(desk.run_as_stranger(&SIGN_IN).status, 0);
    let address = other.backend.address.to_string();
    let shown = desk.run_as_stranger(&["accounts", "whoami", "--licensing", &address]);
    assert_eq!(shown.status, 2);
    assert!(shown.stderr.contains("esa-sidecar accounts sign-in NAME"), "{shown:?}");
    assert!(other.backend.calls().is_empty(), "a token goes nowhere else");

    let elsewhere = ["accounts", "sign-in", "bob", "--password-file", "password", "--licensing", &address];
    assert_eq!(desk.run_as_stranger(&elsewhere).status, 0);
    assert_eq!(desk.run_as_stranger(&["accounts", "whoami"]).status, 0);
    assert_eq!(last_authorization(&desk).as_deref(), Some("Bearer esas_of_alice"), "both are kept");
}

#[test]
fn the_session_follows_xdg_state_home() {
    let desk = Desk::new();
    sign_in(&desk, false);
    let output = desk.stranger(&SIGN_IN).env("XDG_STATE_HOME", desk.path("state")).output().unwrap();
    assert_eq!(Shown::of(&output).status, 0);
    assert_eq!(desk.mode("state/esa-sidecar/session.json"), 0o600);
    assert!(!desk.path(SESSION).exists());
}

#[test]
fn without_a_token_the_way_to_sign_in_is_told() {
    let desk = Desk::new();
    let address = desk.backend.address.to_string();
    let shown = desk.run_as_stranger(&["units", "list"]);
    insta::assert_snapshot!("nobody_is_signed_in", shown.all().replace(&address, "ADDR"));
    desk.backend.on("list_units", |_: &api::ListUnitsRequest| {
        Err::<api::ListUnitsResponse, _>(Status::unauthenticated("the session has ended"))
    });
    assert_eq!(
        desk.run(&["units", "list"]).all(),
        "exit status 2\nerror: the session has ended; `esa-sidecar accounts sign-in NAME` opens a session\n"
    );
    assert_eq!(desk.backend.calls().len(), 1, "it is not asked again");
}

#[test]
fn a_wrong_password_is_told_and_asked_once() {
    let desk = Desk::new();
    sign_in(&desk, false);
    desk.write("password", "wrong");
    let shown = desk.run_as_stranger(&SIGN_IN);
    assert_eq!(shown.all(), "exit status 2\nerror: name or password is wrong\n");
    assert!(!desk.path(SESSION).exists());
    assert_eq!(desk.backend.calls().len(), 1);

    let shown = desk.run_as_stranger(&["accounts", "sign-in", "alice"]);
    assert_eq!(
        shown.all(),
        "exit status 2\nerror: there is no terminal to ask at: give the password with --password-file\n"
    );
}

#[test]
fn a_password_that_has_to_be_changed_is_told_with_how() {
    let desk = Desk::new();
    sign_in(&desk, true);
    let shown = desk.run_as_stranger(&SIGN_IN);
    assert_eq!(shown.status, 0);
    assert!(shown.stderr.contains("`esa-sidecar accounts change-password`"), "{shown:?}");

    desk.backend.on("change_password", |_: &api::ChangePasswordRequest| Ok(api::ChangePasswordResponse {}));
    desk.write("new", "battery staple\r\n");
    let shown = desk.run_as_stranger(&[
        "accounts",
        "change-password",
        "--old-password-file",
        "password",
        "--new-password-file",
        "new",
    ]);
    assert_eq!(shown.status, 0, "{shown:?}");
    let asked: Vec<api::ChangePasswordRequest> = desk.backend.asked("change_password");
    assert_eq!(
        (asked[0].old_password.as_str(), asked[0].new_password.as_str()),
        ("correct horse", "battery staple")
    );
}

#[test]
fn a_token_file_comes_before_the_environment_and_that_before_the_session() {
    let desk = Desk::new();
    sign_in(&desk, false);
    assert_eq!(desk.run_as_stranger(&SIGN_IN).status, 0);
    desk.write("token", "esac_of_a_file\n");
    let whoami = ["accounts", "whoami"];
    let with_file = [&whoami[..], &["--token-file", "token"]].concat();
    assert_eq!(desk.run(&with_file).status, 0);
    assert_eq!(last_authorization(&desk).as_deref(), Some("Bearer esac_of_a_file"));
    assert_eq!(desk.run(&whoami).status, 0);
    assert_eq!(last_authorization(&desk).as_deref(), Some("Bearer esac_1_abc"));
    assert_eq!(desk.run_as_stranger(&whoami).status, 0);
    assert_eq!(last_authorization(&desk).as_deref(), Some("Bearer esas_of_alice"));
}

#[test]
fn signing_out_of_a_session_that_has_ended_forgets_it() {
    let desk = Desk::new();
    sign_in(&desk, false);
    assert_eq!(desk.run_as_stranger(&SIGN_IN).status, 0);
    let answer = |code: Code| {
        desk.backend.on("sign_out", move |_: &api::SignOutRequest| {
            Err::<api::SignOutResponse, _>(Status::new(code, "no"))
        });
    };
    answer(Code::Internal);
    assert_eq!(desk.run_as_stranger(&["accounts", "sign-out"]).status, 2);
    assert!(desk.read(SESSION).contains("esas_of_alice"), "it may still be open");
    answer(Code::Unauthenticated);
    assert_eq!(desk.run_as_stranger(&["accounts", "sign-out"]).status, 0);
    assert!(!desk.read(SESSION).contains("esas_of_alice"));
}

#[test]
fn one_time_passwords_and_credentials_are_told_once() {
    let desk = Desk::new();
    desk.backend.on("create_account", |request: &api::CreateAccountRequest| {
        let account = api::Account { name: request.name.clone(), role: request.role, ..Default::default() };
        Ok(api::CreateAccountResponse { account: Some(account), one_time_password: "once-1".to_owned() })
    });
    desk.backend.on("reset_password", |_: &api::ResetPasswordRequest| {
        Ok(api::ResetPasswordResponse { one_time_password: "once-2".to_owned() })
    });
    desk.backend.on("create_api_credential", |_: &api::CreateApiCredentialRequest| {
        let credential = Some(api::ApiCredential { credential_id: "7".to_owned(), ..Default::default() });
        Ok(api::CreateApiCredentialResponse { credential, token: "esac_7_secret".to_owned() })
    });
    let shown = desk.run(&["accounts", "create", "bob", "--role", "security-admin"]);
    assert_eq!((shown.status, shown.last_line()), (0, "once-1"), "{shown:?}");
    let asked: Vec<api::CreateAccountRequest> = desk.backend.asked("create_account");
    assert_eq!(asked[0].role(), api::AccountRole::SecurityAdmin);
    assert_eq!(desk.run(&["accounts", "reset-password", "bob"]).stdout, "once-2\n");
    let shown = desk.run(&["accounts", "credentials", "create", "console"]);
    assert_eq!(shown.last_line(), "esac_7_secret");
    let shown = desk.run(&["accounts", "credentials", "create", "console", "--token-output", "token"]);
    assert_eq!((shown.status, desk.mode("token")), (0, 0o600));
    assert!(!shown.all().contains("secret"));
}

#[test]
fn a_damaged_session_file_is_told_and_not_overwritten() {
    let desk = Desk::new();
    sign_in(&desk, false);
    assert_eq!(desk.run_as_stranger(&SIGN_IN).status, 0);
    desk.write(SESSION, "{");
    let shown = desk.run_as_stranger(&SIGN_IN);
    assert_eq!(shown.status, 2);
    assert!(shown.stderr.contains("is damaged") && shown.stderr.contains("remove it and sign in again"));
    assert_eq!(desk.read(SESSION), "{");
    assert_eq!(desk.backend.calls().len(), 1, "a session that cannot be kept is not opened");
}

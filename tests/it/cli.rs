//! What people see: help, tables and errors of the real command, as snapshots.

use std::{
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use esa_sidecar::domain::{
    Facts,
    facts::{ActiveUsers, LicensedUsers, SmsCredits, Users},
};

use crate::sidecar::{ID, START, ScriptedSource, Sidecar, days, healthy};

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esa-sidecar"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Exit status, standard output and standard error.
pub(crate) fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!("exit status {}\n{}{}", output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

pub(crate) fn run(arguments: &[&str]) -> String {
    shown(&command(arguments).output().unwrap())
}

fn file(name: &str, contents: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, contents).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

const FACTS: &str = r#"{"subscription_id": "3A8-WN7-7TD", "activation": {"state": "active"},
 "expires_at": "2027-06-30T12:00:00Z", "users": {"active": 157, "licensed": 150, "overused_since": "2027-01-01T00:00:00Z"},
 "all_users": {"count": 900, "limit": 1000}, "components": {"count": 10, "limit": 50}, "sms_credits": 0}"#;

#[test]
fn help_is_enough_to_work_from() {
    insta::assert_snapshot!("help", run(&["--help"]));
    insta::assert_snapshot!("help_authorize", run(&["authorize", "--help"]));
    insta::assert_snapshot!("help_serve", run(&["serve", "--help"]));
    insta::assert_snapshot!("help_activate", run(&["activate", "--help"]));
}

#[test]
fn matrix_prints_the_table_and_what_it_means_for_facts() {
    insta::assert_snapshot!("matrix", run(&["matrix"]));
    let (_folder, path) = file("facts.json", FACTS);
    insta::assert_snapshot!(
        "matrix_of_facts",
        run(&["matrix", "--facts", &path, "--at", "2027-01-05T00:00:00Z"])
    );
}

#[test]
fn every_fault_of_a_configuration_is_told_at_once_with_status_64() {
    let toml = "data_dir = ''\n[listen]\nenforcement = '0.0.0.0:50051'\nprobes = 9090\n[refresh]\ninterval = 'soon'\n\
                retry_first = '0s'\njiter_percent = 5\n[limits]\nbatch_questions = 0\nwatches = 1.5\n\
                [staleness.operations]\nenable_user = '3d'\n[log]\nformat = 'xml'\n";
    let (_folder, path) = file("esa-sidecar.toml", toml);
    let output = command(&["check-config", &path]).env("ESA_SIDECAR__LOG__LEVEL", "loud").output().unwrap();
    insta::assert_snapshot!("faults", shown(&output).replace(&path, "esa-sidecar.toml"));
    let serve = command(&["serve", "--config", &path, "--listen", "nonsense"]).output().unwrap();
    insta::assert_snapshot!("faults_of_a_flag", shown(&serve).replace(&path, "esa-sidecar.toml"));
}

#[test]
fn a_text_that_is_no_toml_is_told_with_its_line() {
    let (_folder, path) = file("esa-sidecar.toml", "[listen]\nenforcement = \n");
    insta::assert_snapshot!("no_toml", run(&["check-config", &path]).replace(&path, "esa-sidecar.toml"));
    insta::assert_snapshot!("no_file", run(&["check-config", "/no/such/file.toml"]));
}

#[test]
fn asking_where_nobody_listens_says_what_to_start() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = format!("127.0.0.1:{port}");
    let asked = run(&["authorize", "enable_users", "--server", &server]);
    insta::assert_snapshot!("nobody_listens", asked.replace(&port.to_string(), "PORT"));
    let probed = run(&["healthcheck", "--server", &server]);
    assert!(probed.starts_with("exit status 1\n"), "{probed}");
}

#[test]
fn an_operation_that_does_not_exist_is_told_with_those_that_do() {
    insta::assert_snapshot!("no_such_operation", run(&["authorize", "enable_everything"]));
}

#[test]
fn explain_answers_line_by_line_and_never_stops() {
    let facts = FACTS.replace('\n', "");
    let lines = [
        format!(r#"{{"facts":{facts},"at":"2027-01-05T00:00:00Z","operation":"enable_users"}}"#),
        "not JSON".to_owned(),
        String::new(),
        format!(
            r#"{{"facts":{},"at":"2027-01-05T00:00:00Z","operation":"enable_users"}}"#,
            facts.replace("157", "-1")
        ),
        format!(r#"{{"facts":{facts},"at":"2027-01-05T00:00:00Z","operation":"authenticate_with_sms_otp"}}"#),
        format!(
            r#"{{"facts":{facts},"at":"2027-01-05T00:00:00Z","operation":"authenticate_with_sms_otp","sms_delivery":"own_gateway"}}"#
        ),
        format!(
            r#"{{"facts":{facts},"at":"2028-01-05T00:00:00Z","operation":"disable_users","role":"administrator"}}"#
        ),
        format!(r#"{{"facts":{facts},"at":"2028-01-05T00:00:00Z","operation":"fly"}}"#),
        format!(r#"{{"facts":{facts},"when":"2028-01-05T00:00:00Z","operation":"enable_users"}}"#),
    ];
    let mut child = command(&["explain"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    insta::assert_snapshot!("explain", shown(&child.wait_with_output().unwrap()));
}

/// Standing still, so that what is shown is the same every time.
#[tokio::test(flavor = "multi_thread")]
async fn status_and_authorize_show_what_a_running_sidecar_holds() {
    let overused = Facts {
        expires_at: START + days(20),
        users: Users {
            active: ActiveUsers(105),
            licensed: LicensedUsers(100),
            overused_since: Some(START - days(1)),
        },
        sms_credits: Some(SmsCredits(0)),
        ..healthy(ID)
    };
    let sidecar = Sidecar::start(ScriptedSource::telling(vec![overused])).await.ready().await;
    let server = sidecar.address.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let ask = |arguments: &[&str]| run(&[arguments, &["--server", &server]].concat());
        insta::assert_snapshot!("status", ask(&["status"]));
        insta::assert_snapshot!("status_json", ask(&["status", "--json"]).replace(",\"", ",\n\""));
        insta::assert_snapshot!("authorize", ask(&["authorize", "enable_users"]));
        insta::assert_snapshot!(
            "authorize_denied",
            ask(&["authorize", "authenticate_with_sms_otp", "--json"])
        );
        insta::assert_snapshot!(
            "authorize_unknown",
            ask(&["authorize", "enable_users", "--subscription", "CCC-CCC-CCC"])
        );
    });
    asked.await.unwrap();
    sidecar.stop().await;
}

#[test]
fn completions_are_there_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert!(script.starts_with("exit status 0\n") && script.contains("authorize"), "{shell}");
    }
}

#[test]
fn bash_completes_commands_operations_roles_and_flags() {
    let (_folder, path) =
        file("completions.bash", &run(&["completions", "bash"]).replacen("exit status 0", "", 1));
    let completed = |words: &str| {
        let script = format!(
            "source {path}; COMP_WORDS=(esa-sidecar {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _esa__sidecar esa-sidecar \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             echo \"${{COMPREPLY[*]}}\""
        );
        let output = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    for (words, word) in [
        ("authorize enable", "enable_users"),
        ("authorize enable_users --actor a", "administrator"),
        ("status --wa", "--watch"),
        ("completions z", "zsh"),
        ("acc", "accounts"),
        ("accounts cr", "create credentials"),
        ("accounts credentials cr", "create"),
        ("accounts sign-in --passw", "--password-file"),
        ("help acc", "accounts"),
        ("help accounts cr", "create credentials"),
        ("help accounts credentials cr", "create"),
        ("help audit arc", "archive"),
        ("help keys pi", "pin"),
    ] {
        assert_eq!(completed(words), word, "{words}");
    }
    // With nothing typed yet of the next word: after `help` there are all commands, and no flags.
    let of_help = completed("help ''");
    for word in ["accounts", "units", "serve", "help"] {
        assert!(of_help.split(' ').any(|completed| completed == word), "{of_help}");
    }
    for words in ["accounts ''", "help accounts ''"] {
        let next = completed(words);
        for word in ["sign-in", "create", "credentials"] {
            assert!(next.split(' ').any(|completed| completed == word), "{words}: {next}");
        }
        assert_eq!(next.contains("--help"), !words.starts_with("help"), "{words}: {next}");
    }
    assert_eq!(completed("help serve ''"), "");
}

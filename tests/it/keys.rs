//! The command `keys`: a key changes under a running backend, and a sidecar trusts two at the most.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use esa_sidecar::signing::{SigningKeys, TrustedKeys};
use serde_json::Value;

use crate::cli::run;

fn keys(data_dir: &Path, arguments: &[&str]) -> String {
    run(&[&["keys", "--data-dir", data_dir.to_str().unwrap()], arguments].concat())
}

fn json(data_dir: &Path, arguments: &[&str]) -> Value {
    let shown = keys(data_dir, &[arguments, &["--json"]].concat());
    serde_json::from_str(shown.strip_prefix("exit status 0\n").unwrap()).unwrap()
}

/// Keys are other ones every time; the first that is shown is `11…`, the next `22…`.
fn named(data_dir: &Path, known: &SigningKeys, shown: &str) -> String {
    let mut shown = shown.replace(data_dir.to_str().unwrap(), "DIR");
    for (digit, file) in ["1", "2"].into_iter().zip(known.files()) {
        let key = file.key;
        shown = shown.replace(&key.key_id(), &digit.repeat(16));
        shown = shown.replace(&key.to_string(), &format!("ed25519:{}=", digit.repeat(43)));
    }
    shown
}

#[test]
fn a_key_changes_in_two_steps_under_a_running_backend() {
    let folder = tempfile::tempdir().unwrap();
    let none = keys(folder.path(), &["show"]).replace(folder.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!("keys_none", none);
    let backend = SigningKeys::open(&SigningKeys::folder_in(folder.path())).unwrap();
    insta::assert_snapshot!("keys_show", named(folder.path(), &backend, &keys(folder.path(), &["show"])));
    let first = backend.public_keys()[0];

    let shown = keys(folder.path(), &["prepare"]);
    assert!(backend.refresh_if_changed().unwrap());
    insta::assert_snapshot!("keys_prepare", named(folder.path(), &backend, &shown));
    assert_eq!(backend.sign(Vec::new()).key_id, first.key_id());
    let next = backend.public_keys()[1];

    let shown = json(folder.path(), &["switch"]);
    assert_eq!(
        (&shown["keys"][0]["role"], &shown["keys"][1]["role"]),
        (&"previous".into(), &"signing".into())
    );
    assert_eq!(shown["keys"][1]["public_key"], next.to_string());
    assert!(backend.refresh_if_changed().unwrap());
    assert_eq!(backend.sign(Vec::new()).key_id, next.key_id());

    let again = keys(folder.path(), &["switch"]);
    assert!(again.starts_with("exit status 2\nerror: the previous key is still there"), "{again}");
    keys(folder.path(), &["retire"]);
    assert!(backend.refresh_if_changed().unwrap());
    assert_eq!(backend.public_keys(), [next]);
}

#[test]
fn where_there_is_no_key_prepare_makes_the_first_which_signs() {
    let folder = tempfile::tempdir().unwrap();
    let shown = json(folder.path(), &["prepare"]);
    assert_eq!(shown["keys"].as_array().unwrap().len(), 1);
    assert_eq!(shown["keys"][0]["role"], "signing");
}

#[test]
fn a_sidecar_trusts_two_keys_at_the_most_and_says_what_to_unpin() {
    let folder = tempfile::tempdir().unwrap();
    let new = |name: &str| SigningKeys::open(&folder.path().join(name)).unwrap();
    let backend = new("backend");
    backend.prepare().unwrap();
    let both = backend.files().into_iter().map(|file| file.key.to_string()).collect::<Vec<_>>();
    let third = new("other").public_keys()[0].to_string();
    let data = folder.path().join("data");

    insta::assert_snapshot!("keys_trusted_none", keys(&data, &["trusted"]));
    for key in [&both[0], &both[1], &both[0]] {
        assert!(keys(&data, &["pin", key]).starts_with("exit status 0\n"));
    }
    insta::assert_snapshot!("keys_trusted", named(&data, &backend, &keys(&data, &["trusted"])));
    insta::assert_snapshot!("keys_pin_third", named(&data, &backend, &keys(&data, &["pin", &third])));
    assert!(keys(&data, &["pin", "nonsense"]).contains("this is no public key"));

    let id = backend.files()[0].key.key_id();
    let left = json(&data, &["unpin", &id]);
    assert_eq!(left["keys"].as_array().unwrap().len(), 1);
    assert_eq!(left["keys"][0]["public_key"], both[1]);
    assert!(keys(&data, &["unpin", &id]).contains("is not pinned"));
    let file = TrustedKeys::file_in(&data);
    assert_eq!(TrustedKeys::read(&file).unwrap().keys().len(), 1);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn keys_of_the_configuration_and_pinned_ones_count_together() {
    let folder = tempfile::tempdir().unwrap();
    let new = |name: &str| SigningKeys::open(&folder.path().join(name)).unwrap().public_keys()[0];
    let (one, two, three) = (new("one"), new("two"), new("three"));
    let file = folder.path().join("esa-sidecar.toml");
    let config = |keys: &str| fs::write(&file, format!("[licensing]\nkeys = {keys}\n")).unwrap();
    let ask = |arguments: &[&str]| {
        let config = ["--config", file.to_str().unwrap()];
        keys(&folder.path().join("data"), &[arguments, &config].concat())
    };
    config(&format!("[\"{one}\"]"));
    let shown = ask(&["pin", &two.to_string()]);
    assert!(shown.contains("configuration") && shown.contains("pinned"), "{shown}");
    let full = ask(&["pin", &three.to_string()]);
    assert!(full.contains(&format!("esa-sidecar keys unpin {}", two.key_id())), "{full}");
    assert!(ask(&["unpin", &one.key_id()]).contains("take it out of `licensing.keys`"));

    for (wrong, what) in [
        (format!("[\"{one}\", \"{two}\", \"{three}\"]"), "3 keys are more than can be trusted"),
        ("[\"nonsense\"]".to_owned(), "this is no public key"),
        ("[7]".to_owned(), "texts in an array are expected here"),
        ("{ a = 1 }".to_owned(), "texts in an array are expected here"),
    ] {
        config(&wrong);
        let shown = ask(&["trusted"]);
        assert!(shown.starts_with("exit status 64\nerror: `licensing.keys`"), "{shown}");
        assert!(shown.contains(what), "{shown}");
    }
}

#[test]
fn the_environment_names_keys_with_commas_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let backend = SigningKeys::open(folder.path()).unwrap();
    backend.prepare().unwrap();
    let both = backend.public_keys().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut command = crate::cli::command(&["keys", "trusted", "--json", "--data-dir", "/nonexistent"]);
    let output = command.env("ESA_SIDECAR__LICENSING__KEYS", both).output().unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["keys"].as_array().unwrap().len(), 2);
}

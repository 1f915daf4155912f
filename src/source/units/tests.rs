//! Secrets stay their owner's, and an activation that was interrupted goes on as the same.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

fn purpose() -> Purpose {
    Purpose::of("KEY", "host", "")
}

fn file() -> (tempfile::TempDir, UnitsFile) {
    let folder = tempfile::tempdir().unwrap();
    let file = UnitsFile::of(folder.path().to_owned());
    (folder, file)
}

fn unit(begun: Activating, unit_id: &str) -> Unit {
    let Activating { purpose, secret, .. } = begun;
    let subscription_id = "3A8-WN7-7TD".parse().unwrap();
    let (unit_id, installation) = (unit_id.to_owned(), "main".to_owned());
    Unit {
        unit_id,
        secret,
        secret_since: None,
        next_secret: None,
        subscription_id,
        installation,
        purpose,
        product_version: "1.0".to_owned(),
    }
}

#[test]
fn an_activation_that_was_interrupted_goes_on_as_the_same() {
    let (_folder, file) = file();
    assert_eq!(file.read().unwrap(), Units::default(), "no file is no units");
    let begun = file.change(|units| units.begin(&purpose(), "1.0")).unwrap().unwrap();
    let again = file.change(|units| units.begin(&purpose(), "2.0")).unwrap().unwrap();
    assert_eq!(
        Activating { may_be_done: true, ..begun.clone() },
        again,
        "what is asked for is the same, too"
    );
    let other = file.change(|units| units.begin(&Purpose::of("KEY", "hos", "t"), "1.0")).unwrap().unwrap();
    assert_ne!((&begun.request_id, &begun.secret), (&other.request_id, &other.secret));
    file.change(|units| units.finish(unit(begun.clone(), "u1"))).unwrap();
    let units = file.read().unwrap();
    assert_eq!(
        (units.units, units.activating),
        (vec![unit(begun.clone(), "u1")], vec![Activating { may_be_done: true, ..other }])
    );
    let anew = file.change(|units| units.begin(&purpose(), "1.0")).unwrap().unwrap();
    assert_ne!(begun.request_id, anew.request_id, "what is done is not begun");
    file.change(|units| units.finish(unit(anew, "u2"))).unwrap();
    let ids: Vec<String> = file.read().unwrap().units.into_iter().map(|unit| unit.unit_id).collect();
    assert_eq!(ids, ["u2"], "one unit for a subscription");
}

#[test]
fn units_of_before_versions_were_told_are_read() {
    let (folder, file) = file();
    file.change(|units| {
        let begun = units.begin(&purpose(), "1.0").unwrap();
        units.begin(&Purpose::of("OTHER", "host", ""), "1.0").unwrap();
        units.finish(unit(begun, "u1"));
    })
    .unwrap();
    let without =
        fs::read_to_string(file.path()).unwrap().replace(",\n      \"product_version\": \"1.0\"", "");
    assert!(!without.contains("version"), "{without}");
    folder::replace(folder.path(), UnitsFile::NAME, without.as_bytes()).unwrap();
    let units = file.read().unwrap();
    assert_eq!((units.units[0].product_version.as_str(), units.activating.len()), ("", 1));
}

#[test]
fn units_that_others_can_read_are_refused() {
    let (_folder, file) = file();
    file.change(|units| units.begin(&purpose(), "1.0")).unwrap().unwrap();
    let mode = fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for exposed in [0o640, 0o604, 0o620] {
        fs::set_permissions(file.path(), fs::Permissions::from_mode(exposed)).unwrap();
        let error = file.read().unwrap_err();
        assert!(matches!(error, UnitsError::Exposed(_, mode) if mode == exposed), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
        assert!(matches!(file.change(|_| ()), Err(UnitsError::Exposed(..))), "and not written over");
    }
}

#[test]
fn what_does_not_read_is_refused_and_not_written_over() {
    let (folder, file) = file();
    for text in ["", "{}", "{\"format\":\"esa-sidecar units 2\",\"units\":[],\"activating\":[]}", "nonsense"]
    {
        folder::replace(folder.path(), UnitsFile::NAME, text.as_bytes()).unwrap();
        assert!(
            matches!(file.change(|units| units.begin(&purpose(), "1.0")), Err(UnitsError::Malformed(..))),
            "{text}"
        );
        assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
    }
}

#[test]
fn a_secret_is_256_random_bits_and_is_not_shown() {
    let (one, other) = (random_text().unwrap(), random_text().unwrap());
    assert_ne!(one, other);
    assert_eq!(URL_SAFE_NO_PAD.decode(&one).unwrap().len(), 32);
    let secret = Secret("abc".to_owned());
    assert_eq!(format!("{secret:?}"), "Secret(…)");
    assert_eq!(secret.token("u1"), "esau_u1_abc");
    assert_eq!(secret.sha256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

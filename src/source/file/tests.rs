//! A file that is read, edited, replaced, broken and mended.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink};

use super::*;
use crate::source::{Occasion, usage::UsageBySubscription};

async fn fetch(source: &FileSource) -> Result<Fetched, SourceError> {
    source
        .fetch(Ask { occasion: Occasion::Due, usage: UsageBySubscription::new(), held: BTreeMap::new() })
        .await
        .fetched
}

const POLL: Duration = Duration::from_millis(5);

fn facts(id: &str, active: u64) -> String {
    format!(
        r#"{{"subscription_id": "{id}", "activation": {{"state": "active"}}, "expires_at": "2027-06-30T12:00:00Z",
        "users": {{"active": {active}, "licensed": 150}}, "all_users": {{"count": 9, "limit": 10}},
        "components": {{"count": 1, "limit": 5}}}}"#
    )
}

fn told(fetched: Result<Fetched, SourceError>) -> Vec<u64> {
    match fetched.unwrap() {
        Fetched::All(told) => told.iter().map(|told| told.facts.users.active.0).collect(),
        other @ (Fetched::Unchanged | Fetched::Some { .. }) => panic!("{other:?}"),
    }
}

/// Fetches until something other than "unchanged" is told, each time the source says it is worth it.
async fn next_told(source: &FileSource) -> Vec<u64> {
    loop {
        source.changed().await;
        match fetch(source).await {
            Ok(Fetched::Unchanged) => {}
            fetched => return told(fetched),
        }
    }
}

#[tokio::test]
async fn every_kind_of_edit_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("facts.json");
    fs::write(&path, facts("AAA-AAA-AAA", 1)).unwrap();
    let source = FileSource::new(path.clone(), POLL, 1 << 20);
    assert_eq!(told(fetch(&source).await), [1]);
    assert_eq!(fetch(&source).await, Ok(Fetched::Unchanged));

    fs::write(&path, facts("AAA-AAA-AAA", 2)).unwrap();
    assert_eq!(next_told(&source).await, [2], "written in place");
    let new = folder.path().join("new.json");
    fs::write(&new, facts("AAA-AAA-AAA", 3)).unwrap();
    fs::rename(&new, &path).unwrap();
    assert_eq!(next_told(&source).await, [3], "renamed over");
    fs::write(folder.path().join("four.json"), facts("AAA-AAA-AAA", 4)).unwrap();
    symlink("four.json", &new).unwrap();
    fs::rename(&new, &path).unwrap();
    assert_eq!(next_told(&source).await, [4], "a symbolic link swapped in");
}

#[tokio::test]
async fn an_edit_in_the_same_tick_as_the_reading_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("facts.json");
    let source = FileSource::new(path.clone(), POLL, 1 << 20);
    for active in 10..60 {
        fs::write(&path, facts("AAA-AAA-AAA", active)).unwrap();
        fetch(&source).await.unwrap();
        // The same size, within the tick of the time stamp.
        fs::write(&path, facts("AAA-AAA-AAA", active + 1)).unwrap();
        assert_eq!(next_told(&source).await, [active + 1]);
    }
}

/// Where time stamps are coarse, the marks do not show such an edit; so whatever is new is read twice.
#[tokio::test]
async fn what_was_just_edited_is_read_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("facts.json");
    fs::write(&path, facts("AAA-AAA-AAA", 1)).unwrap();
    let source = FileSource::new(path, POLL, 1 << 20);
    told(fetch(&source).await);
    tokio::time::timeout(Duration::from_secs(5), source.changed()).await.expect("worth a second look");
    assert_eq!(fetch(&source).await, Ok(Fetched::Unchanged));
    assert!(!source.memory().read_again, "and not a third time");
}

#[tokio::test]
async fn a_broken_edit_is_refused_with_the_path_and_its_mending_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("facts.json");
    fs::write(&path, facts("AAA-AAA-AAA", 1)).unwrap();
    let source = FileSource::new(path.clone(), POLL, 1 << 20);
    told(fetch(&source).await);
    fs::write(&path, facts("AAA-AAA-AAA", 1).replace("150", "-150")).unwrap();
    source.changed().await;
    let Err(SourceError::Refused(what)) = fetch(&source).await else { panic!("not refused") };
    assert!(what.contains("facts.json`: `users.licensed`: invalid type: integer `-150`"), "{what}");
    fs::write(&path, facts("AAA-AAA-AAA", 1)).unwrap();
    source.changed().await;
    assert_eq!(fetch(&source).await, Ok(Fetched::Unchanged), "what was told last is true again");
}

#[tokio::test]
async fn a_file_that_is_missing_or_too_large_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("facts.json");
    let source = FileSource::new(path.clone(), POLL, 400);
    let Err(SourceError::Unreachable(what)) = fetch(&source).await else { panic!("found") };
    assert!(what.contains("No such file"), "{what}");
    fs::write(&path, format!("[{},{}]", facts("AAA-AAA-AAA", 1), facts("BBB-BBB-BBB", 1))).unwrap();
    source.changed().await;
    let Err(SourceError::Refused(what)) = fetch(&source).await else { panic!("taken") };
    assert!(what.contains("larger than `file.max_bytes` = 400"), "{what}");
}

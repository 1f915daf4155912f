//! The floors of the house: each room leans only on those beneath it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rooms from the ground up. A room may use what stands on a lower line; what stands on its own line may use
/// one another.
const FLOORS: [&[&str]; 9] = [
    &["domain"],
    &[
        "names",
        "rfc3339",
        "proto",
        "sha256",
        "wire",
        "folder",
        "backoff",
        "tally",
        "escape",
        "byte_order_mark",
    ],
    &["clock", "edge", "signing"],
    &["config", "source"],
    &["cache", "freshness", "telemetry"],
    &["refresh"],
    &["enforcement", "health", "licensing"],
    &["server"],
    &["cli"],
];

#[test]
fn no_room_leans_on_a_higher_floor() {
    let mut checked = 0;
    for file in rust_files(Path::new("src")) {
        let Some(room) = room_of(&file) else { continue };
        let floor = floor_of(&room);
        for used in crate_paths(&fs::read_to_string(&file).unwrap()) {
            assert!(
                floor_of(&used) <= floor,
                "{} is on floor {floor} and uses crate::{used}, which is on floor {}",
                file.display(),
                floor_of(&used)
            );
            checked += 1;
        }
    }
    assert!(100 < checked, "only {checked} uses were found: has the reading broken?");
}

#[test]
fn the_ground_floor_uses_nothing_but_the_standard_library() {
    let foreign =
        ["chrono", "serde", "tokio", "tracing", "tonic", "prost", "std::time::SystemTime", "async fn"];
    for file in rust_files(Path::new("src/domain")).into_iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = fs::read_to_string(&file).unwrap();
        for name in foreign {
            assert!(!text.contains(name), "{} mentions {name}", file.display());
        }
    }
}

#[test]
fn files_stay_within_the_house_s_size() {
    for file in rust_files(Path::new("src")) {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        let is_test = file.ends_with("tests.rs");
        assert!(is_test || lines <= 400, "{} has {lines} lines: where is the seam?", file.display());
        assert!(text.starts_with("//!"), "{} does not say what it is", file.display());
    }
}

fn floor_of(room: &str) -> usize {
    FLOORS
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("which floor is {room} on?"))
}

/// The room a file belongs to; none for the map and the entrance.
fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix("src").unwrap();
    let room = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
    Some(room.to_owned()).filter(|room| room != "lib" && room != "main")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Every room named by `crate::room` or inside `use crate::{room…, room…}`.
fn crate_paths(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(group) => rooms.extend(group_members(group)),
        }
    }
    rooms
}

fn group_members(group: &str) -> Vec<String> {
    let mut members = vec![word(group)];
    let mut depth = 1;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => members.push(word(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    members.into_iter().filter(|member| !member.is_empty()).collect()
}

fn word(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect()
}

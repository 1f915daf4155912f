//! The schema of both databases: every migration is applied.

use std::fs;

use sqlx::Row as _;

use super::{
    office::{Office, sqlite_path},
    on_both_databases,
};

on_both_databases!(every_file_of_the_migrations_is_applied);

async fn every_file_of_the_migrations_is_applied(office: Office) {
    let mut files = Vec::new();
    for database in ["sqlite", "postgres"] {
        let folder = format!("{}/migrations/{database}", env!("CARGO_MANIFEST_DIR"));
        let names =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut numbers: Vec<i64> =
            names.map(|name| name.split_once('_').unwrap().0.parse().unwrap()).collect();
        numbers.sort_unstable();
        files.push(numbers);
    }
    assert_eq!(files[0], files[1], "both databases have the same migrations");
    let applied = sqlx::query("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version");
    let applied = applied.fetch_all(&mut office.behind().await).await.unwrap();
    let applied: Vec<i64> = applied.iter().map(|row| row.get("version")).collect();
    assert_eq!(applied, files[0]);
    let index = if sqlite_path(&office.database).is_some() {
        "SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND name = 'units_by_account'"
    } else {
        "SELECT COUNT(*) FROM pg_indexes WHERE indexname = 'units_by_account'"
    };
    assert_eq!(office.numbers(index).await, [1]);
}

//! The sizes and speeds that the licensing backend promises: each beside its bar, as it was measured in this run.
//!
//! The backend runs in a process of its own, as its operator would run it, and everything is asked of it over TCP; its
//! tables are filled behind its back. `cargo bench --bench licensing` takes seconds and shows that the measuring works;
//! `-- --units 1000000 --watchers 10000` is what is promised, which `tests/run --long` does. It fails when a bar is
//! missed. Not here: whether what the backend says is right (see `tests/it/licensing`).

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]
#![expect(clippy::print_stdout, reason = "what was measured is what a benchmark is for")]

mod fill;
mod office;
mod report;
mod units;
mod watchers;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::runtime::Runtime;

use self::{fill::Shape, office::Office, report::Report};

/// Measures the licensing backend against what it promises.
#[derive(Parser)]
struct Arguments {
    /// Units in the database.
    #[arg(long, default_value_t = 20_000)]
    units: i64,
    /// Units that watch at a time.
    #[arg(long, default_value_t = 500)]
    watchers: i64,
    /// The database `postgres` of a server, as `tests/postgres start` prints it; without it SQLite alone is measured.
    #[arg(long, env = "ESA_SIDECAR_TEST_POSTGRES")]
    postgres: Option<String>,
    /// Only what has this in its name, such as `SQLite` or `100 licenses`.
    #[arg(long, default_value = "")]
    only: String,
    /// Also writes the table to this file.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Is the backend, with its data in this folder, until nobody holds the other end of its input.
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
    /// The backend's database, if it is not a file in that folder.
    #[arg(long, hide = true)]
    database: Option<String>,
    /// What `cargo bench` calls every benchmark with.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = Runtime::new().unwrap();
    if let Some(folder) = arguments.serve {
        runtime.block_on(office::serve(folder, arguments.database));
        return ExitCode::SUCCESS;
    }
    let mut report = Report::default();
    runtime.block_on(measure(&arguments, &mut report));
    println!("\n{report}");
    if let Some(path) = arguments.write {
        std::fs::write(path, report.to_string()).unwrap();
    }
    if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(arguments: &Arguments, report: &mut Report) {
    let Arguments { units, watchers, .. } = *arguments;
    let servers = [("SQLite", None), ("PostgreSQL", arguments.postgres.as_deref())];
    for (name, server) in servers.into_iter().filter(|(name, server)| *name == "SQLite" || server.is_some()) {
        for (licenses, products, full) in [(1, 1, true), (100, 5, true), (1_000, 1, false)] {
            let place = format!("{name}, {units} units, {licenses} licenses of {products} products");
            if place.contains(&arguments.only) {
                let office = Office::open(server).await;
                let shape = Shape { units, licenses, products, all_active: false };
                units::measure(&office, report, &place, shape, full).await;
                office.close().await;
            }
        }
        for (subscriptions, what) in [(1, "of one subscription"), (watchers, "of as many subscriptions")] {
            let place = format!("{name}, {watchers} watchers {what}");
            if place.contains(&arguments.only) {
                let office = Office::open(server).await;
                let (licenses, products) = (subscriptions, subscriptions);
                let shape = Shape { units: watchers, licenses, products, all_active: true };
                watchers::measure(&office, report, &place, shape).await;
                office.close().await;
            }
        }
    }
}

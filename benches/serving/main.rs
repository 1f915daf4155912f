//! What a call costs the server, beside three floors measured in the same run.
//!
//! `h2load` (Debian's `nghttp2-client`) asks, and the operating system says how much processor time the server took:
//! rates wander on a shared machine, processor time for each call does not. The sidecar is the binary as it ships, all
//! limits set, with a thread for each processor, and with one as the last two floors have it; the floors are an empty
//! tonic service on the default runtime, the same on a current-thread runtime, and bare hyper that sends back one frame
//! whatever it is asked. `cargo bench --bench serving` takes two minutes; `-- --scale 10` ten times as many calls. Not
//! here: whether answers are right.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]
#![expect(clippy::print_stdout, reason = "what was measured is what a benchmark is for")]

#[path = "../empty/mod.rs"]
mod empty;
mod floors;
mod load;
mod paced;
mod server;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use comfy_table::{Table, presets::ASCII_MARKDOWN};

use self::{
    floors::Floor,
    load::{Calls, Load},
    paced::Edits,
    server::Server,
};

/// Measures what a call costs the server.
#[derive(Parser)]
struct Arguments {
    /// How many times as many calls.
    #[arg(long, default_value_t = 1)]
    scale: u32,
    /// How often each row is measured; the least counts, for others only ever add to it.
    #[arg(long, default_value_t = 3)]
    times: u32,
    /// Only rows that have this in their name.
    #[arg(long, default_value = "")]
    only: String,
    /// Is this floor, on this address, until nobody holds the other end of its input.
    #[arg(long, hide = true, requires = "listen")]
    serve: Option<Floor>,
    #[arg(long, hide = true)]
    listen: Option<String>,
    /// What `cargo bench` calls every benchmark with.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let (Some(floor), Some(listen)) = (arguments.serve, &arguments.listen) {
        floors::serve(floor, listen);
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "calls",
        "sidecar",
        "sidecar, one thread",
        "empty tonic, default",
        "empty tonic, one thread",
        "bare hyper",
        "of default",
        "of bare",
        "one thread of bare",
    ]);
    for (transport, listen) in transports(folder.path()) {
        for load in loads(arguments.scale) {
            let name = format!("{}, {transport}", load.name());
            if name.contains(&arguments.only) {
                table.add_row(measure(&name, &load, &listen, folder.path(), arguments.times));
            }
        }
    }
    println!("\nprocessor time of the server for each answer\n\n{table}");
    if "paced".contains(&arguments.only) {
        waits(folder.path(), 5 * arguments.scale);
    }
    ExitCode::SUCCESS
}

fn transports(folder: &Path) -> [(&'static str, String); 2] {
    [("TCP", "127.0.0.1:0".to_owned()), ("Unix", format!("unix:{}/calls.sock", folder.display()))]
}

fn loads(scale: u32) -> Vec<Load> {
    let unary = |connections, streams, calls| Load {
        calls: Calls::Unary,
        connections,
        streams,
        count: calls * scale,
    };
    vec![
        unary(1, 1, 10_000),
        unary(4, 32, 60_000),
        unary(16, 64, 60_000),
        Load { calls: Calls::Stream, connections: 1, streams: 1, count: 100 * scale },
        Load { calls: Calls::Batch, connections: 1, streams: 1, count: 200 * scale },
        Load { calls: Calls::MixedBatch, connections: 1, streams: 1, count: 200 * scale },
    ]
}

/// How long callers wait on a Unix socket at 10,000 questions a second, and how much longer while facts change.
fn waits(folder: &Path, seconds: u32) {
    let began = Instant::now();
    let listen = format!("unix:{}/paced.sock", folder.display());
    let server = Server::sidecar(&listen, folder, &[("FILE__POLL_INTERVAL", "4ms")]);
    println!("\nfrom start to its first answer {:?}, at rest {:.1} MiB", began.elapsed(), server.resident());
    let path = folder.join("paced.sock");
    let at = |times: &[Duration], percent: f64| {
        times.get((times.len() as f64 * percent / 100.0) as usize).copied().unwrap_or_default()
    };
    // Whoever writes facts takes time as well: in the other rounds, where nobody reads them.
    let elsewhere = folder.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let mut worst = [Vec::new(), Vec::new()];
    // In turn, so that what else the machine does meets both.
    for _ in 0..5 {
        let rounds = [("10,000 questions a second", &*elsewhere), ("  while facts change", folder)];
        for ((what, folder), worst) in rounds.into_iter().zip(&mut worst) {
            let edits = Edits::of(folder, 100);
            let times = paced::latencies(&path, seconds);
            let [half, most, nearly_all] = [50.0, 99.0, 99.9].map(|percent| at(&times, percent));
            println!("{what:26} p50 {half:?}, p99 {most:?}, p99.9 {nearly_all:?}, {} edits", edits.end());
            worst.push(most);
        }
    }
    let [calm, changing] = worst.map(|mut worst| {
        worst.sort_unstable();
        at(&worst, 50.0)
    });
    println!(
        "median of p99: {calm:?}, while facts change {changing:?}, {:.2} of it",
        changing.as_secs_f64() / calm.as_secs_f64()
    );
}

/// One row: the sidecar and the floors, each started anew.
fn measure(name: &str, load: &Load, listen: &str, folder: &Path, times: u32) -> Vec<String> {
    let least = |start: &dyn Fn() -> Server| {
        let one = |_| {
            let server = start();
            let before = server.processor_time();
            load.run(&server.address, folder);
            (server.processor_time() - before).as_secs_f64() * 1e6 / f64::from(load.answers())
        };
        (0..times).map(one).fold(f64::INFINITY, f64::min)
    };
    let sidecar = least(&|| Server::sidecar(listen, folder, &[]));
    let alone = least(&|| Server::sidecar(listen, folder, &[("LISTEN__THREADS", "1")]));
    let floor = |floor| load.calls.has_floor(floor).then(|| least(&|| Server::floor(floor, listen)));
    let floors = [Floor::TonicDefault, Floor::TonicOneThread, Floor::Hyper].map(floor);
    let shown = |time: Option<f64>| time.map_or("".to_owned(), |time| format!("{time:.2} µs"));
    let ratio =
        |of: f64, floor: Option<f64>| floor.map_or("".to_owned(), |floor| format!("{:.2}", of / floor));
    let [default, one_thread, bare] = floors;
    let row = vec![
        name.to_owned(),
        shown(Some(sidecar)),
        shown(Some(alone)),
        shown(default),
        shown(one_thread),
        shown(bare),
        ratio(sidecar, default),
        ratio(sidecar, bare),
        ratio(alone, bare),
    ];
    println!("{}", row.join("  "));
    row
}

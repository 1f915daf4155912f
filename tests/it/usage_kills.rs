//! Usage through kill -9: what was answered is there at the next start and counts once.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use esa_sidecar::{
    refresh::outbox::{Bounds, Outbox, Report, Reported},
    source::usage::{SmsSent, UsageAnswer, UsageDelay},
};

use crate::sidecar::{ID, START};

/// Loops of kill -9; `ESA_SIDECAR_KILL_LOOPS` asks for more.
const KILL_LOOPS: u32 = 40;

/// What the child is told to write to.
const CHILD_FOLDER: &str = "ESA_SIDECAR_TEST_REPORT_TO";

/// Which round the child is of: no two report the same SMS.
const CHILD_ROUND: &str = "ESA_SIDECAR_TEST_ROUND";

/// Rounds after which a folder is begun anew: each start reads all that is remembered in it.
const ROUNDS_OF_A_FOLDER: u32 = 100;

const BOUNDS: Bounds = Bounds { remembered: 1_000_000, waiting: 1_000_000 };

#[test]
fn kill_9_at_any_instant_loses_no_usage_that_was_answered_and_counts_none_twice() {
    if let Some(folder) = env::var_os(CHILD_FOLDER) {
        report_for_ever(Path::new(&folder));
    }
    let loops = env::var("ESA_SIDECAR_KILL_LOOPS").map_or(KILL_LOOPS, |loops| loops.parse().unwrap());
    let mut folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut answered = 0;
    for round in 0..loops {
        if round % ROUNDS_OF_A_FOLDER == 0 {
            folder = tempfile::tempdir().unwrap();
        }
        let after = Duration::from_micros(u64::from(round) * 137 % 5_000);
        let (new, taken) = kill_while_reporting(folder.path(), round, after);
        let last: Vec<SmsSent> = new.iter().map(|number| sms(*number)).collect();
        assert!(!last.is_empty(), "round {round}: the child reported nothing");
        answered += last.len();
        let outbox = Outbox::open(folder.path().to_owned(), BOUNDS);
        let repeated = u32::try_from(last.len()).unwrap();
        let reported = runtime.block_on(outbox.report(report(last))).unwrap();
        assert_eq!(
            reported,
            Reported { counted: 0, repeated },
            "round {round}: not all that was answered is there"
        );
        // What was not taken is subtracted: no less than was answered since, no more than one kill's unanswered ones.
        let unknown = outbox.unknown_to_source(ID.parse().unwrap());
        assert!(taken <= unknown, "round {round}: {taken} were answered and not taken, {unknown} are there");
    }
    println!("{loops} kills, {answered} reports, none lost");
}

fn sms(number: u64) -> SmsSent {
    SmsSent::new(&number.to_string(), 1).unwrap()
}

fn report(sms: Vec<SmsSent>) -> Report {
    let delay = Some(UsageDelay { counts: Duration::ZERO, sms: Duration::ZERO });
    Report { id: ID.parse().unwrap(), counted: None, sms, delay }
}

/// Runs a child that reports as fast as it can, kills it a little after its first answer; the SMS that were answered,
/// and how many of them came after what was taken last.
fn kill_while_reporting(folder: &Path, round: u32, after: Duration) -> (Vec<u64>, u64) {
    let this = "usage_kills::kill_9_at_any_instant_loses_no_usage_that_was_answered_and_counts_none_twice";
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(CHILD_FOLDER, folder)
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut said: Vec<String> =
        lines.by_ref().find(|line| line.starts_with("answered ")).into_iter().collect();
    // Not a synchronisation: where in a write the kill falls is left to chance on purpose.
    let until = std::time::Instant::now() + after;
    while std::time::Instant::now() < until {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    said.extend(lines);
    let answered = |line: &String| line.strip_prefix("answered ")?.parse::<u64>().ok();
    let since = said.iter().rposition(|line| line == "taking").map_or(0, |taking| taking + 1);
    let not_taken = said.iter().skip(since).filter_map(answered).count();
    (said.iter().filter_map(answered).collect(), u64::try_from(not_taken).unwrap())
}

fn report_for_ever(folder: &Path) -> ! {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let outbox = Outbox::open(folder.to_owned(), BOUNDS);
    let start = env::var(CHILD_ROUND).unwrap().parse::<u64>().unwrap() << 32;
    runtime.block_on(async {
        for number in (start..).step_by(2) {
            let (one, other) = tokio::join!(
                outbox.report(report(vec![sms(number)])),
                outbox.report(report(vec![sms(number + 1)]))
            );
            assert_eq!((one.unwrap().counted, other.unwrap().counted), (1, 1));
            println!("answered {number}\nanswered {}", number + 1);
            if number % 16 == 0 {
                println!("taking");
                let _ = outbox.hand_over();
                outbox.take(ID.parse().unwrap(), &UsageAnswer::default(), START);
                outbox.settle().await;
            }
        }
    });
    unreachable!("there are more numbers than time")
}

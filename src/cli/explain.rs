//! `explain`: questions as JSON Lines in, answers as JSON Lines out, with no server.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    process::ExitCode,
};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::CommandResult;
use crate::{
    clock::{Clock, SystemClock},
    domain::{Decision, Facts, Operation, Question, Role, SmsDelivery, Timeline, decision::decide},
    escape::escape_json,
    names::{NameError, Named},
    rfc3339,
    source::facts_json::{self, FactsJson, InstantJson, Object},
};

/// Answer questions without a server: JSON Lines in, JSON Lines out
///
/// In:  {"facts": {…}, "at": "2027-06-30T12:00:00Z", "operation": "enable_users", "role": "administrator",
/// "sms_delivery": "own_gateway"}; `at` is now when left out, `role` is user, `sms_delivery` is vendor_credits.
///
/// Out: {"access", "state", "reason", "conditions", "until"}, or {"error"} in place of a line that cannot be read.
/// One line out for each line in; the exit status is 0 whatever they say. From a facts file:
/// jq -c '{facts: ., operation: "enable_users"}' facts.json | esa-sidecar explain
#[derive(Args)]
pub(super) struct Explain {
    /// Longest line that is read; a longer one is answered with an error
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    max_line_bytes: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    facts: FactsJson,
    #[serde(default)]
    at: Option<InstantJson>,
    operation: Name<Operation>,
    #[serde(default)]
    role: Option<Name<Role>>,
    #[serde(default)]
    sms_delivery: Option<Name<SmsDelivery>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Decided {
        access: &'static str,
        state: &'static str,
        reason: &'static str,
        conditions: Vec<&'static str>,
        until: Option<String>,
    },
    Unreadable {
        error: String,
    },
}

/// A value written by its name.
#[derive(Deserialize)]
#[serde(try_from = "String", bound = "T: Named")]
struct Name<T>(T);

impl<T: Named> TryFrom<String> for Name<T> {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        T::named(&text).map(Self)
    }
}

impl Explain {
    pub(super) fn run(self) -> CommandResult {
        let output = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let input = BufReader::with_capacity(1 << 16, io::stdin().lock());
        match answer_all(input, output, self.max_line_bytes, &SystemClock::new()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

fn answer_all(
    mut input: BufReader<impl Read>,
    mut output: impl Write,
    max_line_bytes: usize,
    clock: &dyn Clock,
) -> io::Result<()> {
    let mut line = Vec::new();
    while read_line(&mut input, &mut line, max_line_bytes)? {
        let answer = serde_json::to_string(&answer(&line, max_line_bytes, clock))?;
        output.write_all(escape_json(&answer).as_bytes())?;
        output.write_all(b"\n")?;
        // Whoever writes one line and waits for its answer gets it.
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    output.flush()
}

/// Reads one line without its end; of a line that is too long, one byte more than is allowed. False at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    line.clear();
    let read = input.by_ref().take((most as u64).saturating_add(2)).read_until(b'\n', line)?;
    if read == 0 {
        return Ok(false);
    }
    if line.pop_if(|last| *last == b'\n').is_none() && most < line.len() {
        input.skip_until(b'\n')?;
    }
    line.pop_if(|last| *last == b'\r');
    Ok(true)
}

fn answer(line: &[u8], most: usize, clock: &dyn Clock) -> Answer {
    if most < line.len() {
        return Answer::Unreadable {
            error: format!("the line is longer than {most} bytes; see --max-line-bytes"),
        };
    }
    if line.iter().all(u8::is_ascii_whitespace) {
        return Answer::Unreadable { error: "the line is empty".to_owned() };
    }
    match facts_json::read(line) {
        Ok(Object(line)) => decided(line, clock),
        Err(error) => Answer::Unreadable { error: error.to_string() },
    }
}

fn decided(line: Line, clock: &dyn Clock) -> Answer {
    let Line { facts, at, operation, role, sms_delivery } = line;
    let at = at.map_or_else(|| clock.now(), |at| at.0);
    let timeline = Timeline::of(&Facts::from(facts).with_overuse_seen(at));
    let question = Question {
        operation: operation.0,
        role: role.map_or(Role::User, |role| role.0),
        sms_delivery: sms_delivery.map_or(SmsDelivery::VendorCredits, |delivery| delivery.0),
    };
    let Decision { state, reason, until } = decide(&timeline, question, at);
    Answer::Decided {
        access: reason.access().name(),
        state: state.name(),
        reason: reason.name(),
        conditions: timeline.at(at).conditions.iter().map(|condition| condition.kind.name()).collect(),
        until: until.filter(|until| *until <= rfc3339::LAST).map(rfc3339::format),
    }
}

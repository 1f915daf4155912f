//! What was measured, as a table: each line a promise or a worst case.
//!
//! A time that was taken several times is told as its least, its median and its most. Machines are shared and noisy:
//! the median is held against the bar. Not here: measuring.

use std::{fmt, time::Duration};

use comfy_table::{Table, presets::ASCII_MARKDOWN};

/// All lines so far.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

struct Line {
    place: String,
    what: String,
    bar: Option<Duration>,
    measured: String,
    met: bool,
}

/// How long the same thing took, several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// What so many of a hundred do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last * percent).div_ceil(100)).copied().unwrap_or(Duration::MAX)
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, median, most] = [0, 50, 100].map(|percent| shown(self.percentile(percent)));
        write!(formatter, "{least} / {median} / {most}")
    }
}

impl Report {
    /// A promise: the median may take as long as `bar`.
    pub(crate) fn promise(&mut self, place: &str, what: &str, bar: Duration, times: &Times) {
        self.add(place, what.to_owned(), Some(bar), times.to_string(), times.median() <= bar);
    }

    /// What nothing is promised of.
    pub(crate) fn note(&mut self, place: &str, what: &str, measured: impl fmt::Display) {
        self.add(place, what.to_owned(), None, measured.to_string(), true);
    }

    pub(crate) fn is_met(&self) -> bool {
        self.lines.iter().all(|line| line.met)
    }

    fn add(&mut self, place: &str, what: String, bar: Option<Duration>, measured: String, met: bool) {
        // Said at once, too: a run takes long.
        println!("{place}: {what}: {measured}{}", if met { "" } else { "  MISSED" });
        self.lines.push(Line { place: place.to_owned(), what, bar, measured, met });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["where", "what", "bar", "measured: least / median / most", "met"]);
        for Line { place, what, bar, measured, met } in &self.lines {
            let (bar, met) = match bar {
                Some(bar) => (shown(*bar), if *met { "yes" } else { "NO" }),
                None => (String::new(), ""),
            };
            table.add_row([place.as_str(), what, &bar, measured, met]);
        }
        writeln!(formatter, "{table}")
    }
}

/// A time in few digits.
pub(crate) fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.1 { format!("{:.2} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

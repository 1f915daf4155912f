//! One line of the log for each event, whatever its fields hold: plain characters alone, and a bounded number of them.
//!
//! Not here: where lines go.

use std::fmt;

use anstyle::{AnsiColor, Style};
use serde_json::Value;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    Layer,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{Format, Full, Json, JsonFields, Writer},
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

use crate::escape::{escape_control, escape_json, shorten};

/// The longest line of text.
const LONGEST_LINE: usize = 8192;

/// The longest text in a line of JSON that would be longer than that.
const LONGEST_VALUE: usize = 1024;

/// Lines of text for people.
struct Text {
    fields: Format<Full, ()>,
    is_colored: bool,
}

/// Lines of JSON for programs.
struct JsonLines(Format<Json>);

/// Writes text; in color where somebody looks.
pub(super) fn text<S, W>(writer: W, is_colored: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    let fields = tracing_subscriber::fmt::format().without_time().with_level(false).with_target(false);
    tracing_subscriber::fmt::layer()
        .with_writer(writer)
        // Fields are escaped: a color in them would be as well.
        .with_ansi(false)
        // A reader that has gone must not take the sidecar with it.
        .log_internal_errors(false)
        .event_format(Text { fields, is_colored })
}

/// Writes JSON.
pub(super) fn json<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .log_internal_errors(false)
        .fmt_fields(JsonFields::new())
        .event_format(JsonLines(tracing_subscriber::fmt::format().json().flatten_event(true)))
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = String::new();
        self.fields.format_event(context, Writer::new(&mut fields), event)?;
        let fields = shorten(&escape_control(fields.trim_end_matches('\n')), LONGEST_LINE);
        let level = *event.metadata().level();
        let (dimmed, style) =
            if self.is_colored { (Style::new().dimmed(), color(level)) } else { Default::default() };
        write!(line, "{dimmed}")?;
        SystemTime.format_time(&mut line)?;
        writeln!(line, "{dimmed:#} {style}{:>5}{style:#} {fields}", level.as_str())
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut json = String::new();
        self.0.format_event(context, Writer::new(&mut json), event)?;
        let json = json.trim_end_matches('\n');
        let shortened = if LONGEST_LINE < json.len() { shortened(json) } else { None };
        writeln!(line, "{}", escape_json(shortened.as_deref().unwrap_or(json)))
    }
}

/// The same with each text in it shortened.
fn shortened(json: &str) -> Option<String> {
    let mut value: Value = serde_json::from_str(json).ok()?;
    let fields = value.as_object_mut()?;
    for text in fields.values_mut() {
        if let Value::String(text) = text {
            *text = shorten(text, LONGEST_VALUE);
        }
    }
    Some(value.to_string())
}

fn color(level: Level) -> Style {
    let color = match level {
        Level::ERROR => AnsiColor::Red,
        Level::WARN => AnsiColor::Yellow,
        Level::INFO => AnsiColor::Green,
        Level::DEBUG => AnsiColor::Blue,
        Level::TRACE => AnsiColor::Magenta,
    };
    color.on_default()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{layer::SubscriberExt as _, registry};

    use super::*;
    use crate::escape::is_plain;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            assert!(text.ends_with('\n'), "{text:?}");
            text[..text.len() - 1].split('\n').map(str::to_owned).collect()
        }
    }

    const HOSTILE: &str = "x\u{1b}[2J\r\n2027-01-01T00:00:00Z  INFO forged\u{9b}1m\u{2028}\u{202e}\u{e0041}";

    fn log_everything() {
        tracing::warn!("message: {HOSTILE}");
        tracing::warn!(text = HOSTILE, "a text");
        tracing::warn!(shown = %HOSTILE, debugged = ?HOSTILE, "values");
        let error = io::Error::other(HOSTILE);
        tracing::warn!(error = &error as &dyn std::error::Error, "an error");
        let _span = tracing::warn_span!("span", shown = %HOSTILE).entered();
        tracing::warn!("within");
        tracing::warn!("long: {}", HOSTILE.repeat(100_000));
    }

    #[test]
    fn each_event_is_one_line_of_plain_characters_and_of_bounded_length_whatever_its_fields_hold() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = registry().with(text(move || writer.clone(), false));
        tracing::subscriber::with_default(subscriber, log_everything);
        let lines = written.lines();
        assert_eq!(lines.len(), 6, "{lines:#?}");
        for line in lines {
            assert!(line.chars().all(is_plain), "{line:?}");
            assert!(line.contains("Z  WARN ") && line.chars().count() < 9000, "{line:?}");
        }

        let written = Written::default();
        let writer = written.clone();
        let subscriber = registry().with(json(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log_everything);
        let lines = written.lines();
        assert_eq!(lines.len(), 6, "{lines:#?}");
        for line in &lines {
            assert!(line.chars().all(is_plain) && line.len() < 30_000, "{line:?}");
            assert_eq!(serde_json::from_str::<Value>(line).unwrap()["level"], "WARN");
        }
        let told: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(told["text"], HOSTILE, "a program reads what was there");
    }
}

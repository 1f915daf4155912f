//! Which format of the page whoever asks reads, by the header `accept` (RFC 9110, 12.5.1).
//!
//! Not here: what is on the page.

use super::Format;

/// How much each format is wanted: nothing where it is not named.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    open_metrics: Option<f32>,
    prometheus: Option<f32>,
    /// `text/*`, `application/*`, `*/*`.
    text: Option<f32>,
    application: Option<f32>,
    anything: Option<f32>,
}

impl Format {
    /// What whoever sends this header reads: what it wants most, and the older format where it wants both as much but
    /// names neither, or wants none that there is.
    pub(in crate::server) fn accepted(accept: &str) -> Self {
        let mut wanted = Wanted::default();
        for range in accept.split(',') {
            wanted.add(range);
        }
        let of = |named: Option<f32>, kind: Option<f32>| named.or(kind).or(wanted.anything).unwrap_or(0.0);
        let open_metrics = of(wanted.open_metrics, wanted.application);
        let prometheus = of(wanted.prometheus, wanted.text);
        let is_named = wanted.open_metrics.is_some();
        if prometheus < open_metrics || (is_named && 0.0 < open_metrics && prometheus <= open_metrics) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

impl Wanted {
    /// One range of the header. What does not read, or is of a version there is not, wants nothing.
    fn add(&mut self, range: &str) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut quality = Some(1.0);
        let mut version = None;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = read_quality(value.trim()),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        let (slot, versions) = match kind.as_str() {
            "application/openmetrics-text" => (&mut self.open_metrics, Some("1.")),
            "text/plain" => (&mut self.prometheus, Some("0.")),
            "text/*" => (&mut self.text, None),
            "application/*" => (&mut self.application, None),
            "*/*" => (&mut self.anything, None),
            _ => return,
        };
        let is_spoken = version.zip(versions).is_none_or(|(version, versions)| version.starts_with(versions));
        if let Some(quality) = quality.filter(|_| is_spoken) {
            *slot = Some(slot.map_or(quality, |other| other.max(quality)));
        }
    }
}

/// From 0 to 1.
fn read_quality(text: &str) -> Option<f32> {
    text.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_most_is_written() {
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            // As Prometheus asks.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            ("text/plain, application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text; q=0.000", Format::Prometheus),
            ("text/plain;q=0.1, application/openmetrics-text;q=0.2", Format::OpenMetrics),
            ("text/plain;q=0.3, application/openmetrics-text;q=0.2", Format::Prometheus),
            ("text/plain;q=0.5, application/openmetrics-text;q=0.5", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.1, */*", Format::Prometheus),
            ("application/openmetrics-text;q=0, */*", Format::Prometheus),
            ("text/plain;q=0, */*", Format::OpenMetrics),
            ("text/*;q=0.1, application/*", Format::OpenMetrics),
            ("Application/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=1", Format::OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Format::Prometheus),
            ("application/openmetrics-text;q=2, text/plain", Format::Prometheus),
            ("application/openmetrics-text;q=nan, text/plain", Format::Prometheus),
            ("application/json", Format::Prometheus),
            ("nonsense;;=,,", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}

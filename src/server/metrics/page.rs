//! Rows of the page: a name, what it is, and values with their labels.
//!
//! Not here: which rows there are.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::domain::Instant;

/// The page while it is written.
pub(super) struct Page<'a>(DescriptorEncoder<'a>);

/// Rows without labels.
pub(super) const ALONE: [(&str, &str); 0] = [];

/// Before the names of what is ours alone.
const OURS: &str = "esa_sidecar_";

/// How long something took, many times.
pub(super) struct Took<'a> {
    /// How often it took at most as long as each bound, and longer than the one before.
    pub(super) buckets: &'a [(f64, u64)],
    pub(super) seconds: f64,
}

impl<'a> Page<'a> {
    pub(super) const fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// What only grows; `_total` is added to its name.
    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let rows = rows.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(&format!("{OURS}{name}"), help, MetricType::Counter, rows)
    }

    /// What comes and goes.
    pub(super) fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        self.gauges_of_all(&format!("{OURS}{name}"), help, rows)
    }

    /// The same under a name that many programs share.
    pub(super) fn gauges_of_all<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let rows = rows.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, rows)
    }

    /// What only grows, under a name that many programs share.
    pub(super) fn counter_of_all(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.family(name, help, MetricType::Counter, [(ALONE, ConstCounter::new(value))])
    }

    /// How long things take.
    pub(super) fn histograms<'t, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, Took<'t>)>,
    ) -> fmt::Result {
        self.family(&format!("{OURS}{name}"), help, MetricType::Histogram, rows)
    }

    fn family<L: EncodeLabelSet, V: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in rows {
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl EncodeMetric for Took<'_> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let all = self.buckets.iter().map(|(_, times)| times).sum();
        encoder.encode_histogram::<NoLabelSet>(self.seconds, all, self.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// One or zero.
pub(super) fn flag(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// Seconds since 1970.
pub(super) fn seconds(instant: Instant) -> f64 {
    instant.unix_nanos() as f64 / 1e9
}

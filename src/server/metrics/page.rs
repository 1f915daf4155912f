//! Rows of the page: a name, what it is, and values with their labels.
//!
//! Not here: which rows there are.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

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
        let name = format!("{OURS}{name}");
        let mut family = self.0.encode_descriptor(&name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
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
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// What only grows, under a name that many programs share.
    pub(super) fn counter_of_all(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(family)
    }

    /// How long things take.
    pub(super) fn histograms<'t, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, Took<'t>)>,
    ) -> fmt::Result {
        let name = format!("{OURS}{name}");
        let mut family = self.0.encode_descriptor(&name, help, None, MetricType::Histogram)?;
        for (labels, Took { buckets, seconds }) in rows {
            let all = buckets.iter().map(|(_, times)| times).sum();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(seconds, all, buckets, None)?;
        }
        Ok(())
    }
}

/// One or zero.
pub(super) fn flag(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

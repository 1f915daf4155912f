//! The connections of a listener, as they are seen from outside.
//!
//! Not here: who sees them.

use std::sync::Arc;

use super::{gate::Gate, tallied::Tallied, tls::Tls};
use crate::domain::Instant;

/// What is told of them; copies are the same.
#[derive(Clone, Debug)]
pub struct Connections {
    pub(super) tallied: Arc<Tallied>,
    pub(super) gate: Arc<Gate>,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Connections {
    /// What became of them.
    #[must_use]
    pub fn tallied(&self) -> &Tallied {
        &self.tallied
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.gate.open()
    }

    /// When the first certificate and the first list of each file that they speak TLS with is out of date, by the name of
    /// its key.
    #[must_use]
    pub fn tls_expires(&self) -> Vec<(&'static str, Instant)> {
        self.tls.as_ref().map(|tls| tls.expires()).unwrap_or_default()
    }
}

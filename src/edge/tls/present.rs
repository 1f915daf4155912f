//! The instant at which certificates are judged.
//!
//! Not here: whose clock tells it.

use std::{fmt, sync::Arc, time::Duration};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::{clock::Clock, domain::Instant};

/// A clock as rustls asks it, so that what is told of revocation lists is what they are judged by.
#[derive(Clone)]
pub(super) struct Present(pub(super) Arc<dyn Clock>);

impl Present {
    pub(super) fn now(&self) -> Instant {
        self.0.now()
    }
}

impl fmt::Debug for Present {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Present").field(&self.now()).finish()
    }
}

impl TimeProvider for Present {
    fn current_time(&self) -> Option<UnixTime> {
        let nanos = u64::try_from(self.now().unix_nanos()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(nanos)))
    }
}

//! The machine's wall clock as it is, for a licensing backend: it tells sidecars the time, and nobody tells it.
//!
//! Not here: what follows when it was ahead (see `licensing::authority`).

use futures_core::future::BoxFuture;
use rustix::time::ClockId;

use super::{Clock, nanos, sleep_until};
use crate::domain::Instant;

/// The wall clock. It may be set back: a backend that held on to an instant it once read would sign the future until it
/// is started again.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Instant {
        Instant::from_unix_nanos(nanos(ClockId::Realtime))
    }

    fn heard(&self, _issued_at: Instant) {}

    fn set_right(&self, _issued_at: Instant) {}

    fn sleep_until(&self, instant: Instant) -> BoxFuture<'static, ()> {
        Box::pin(sleep_until(*self, instant))
    }
}

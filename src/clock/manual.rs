//! A clock that is turned by hand, for tests and for whoever embeds the sidecar in one.

use futures_core::future::BoxFuture;
use tokio::sync::watch;

use super::Clock;
use crate::domain::{Instant, Span};

/// Stands still until it is told to move, and wakes whoever sleeps on it when it does.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: watch::Sender<Instant>,
}

impl ManualClock {
    /// Standing at `now`.
    #[must_use]
    pub fn at(now: Instant) -> Self {
        Self { now: watch::Sender::new(now) }
    }

    /// Moves to `instant`.
    pub fn set(&self, instant: Instant) {
        self.now.send_replace(instant);
    }

    /// Moves on by `span`.
    pub fn advance(&self, span: Span) {
        self.now.send_modify(|now| *now = *now + span);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        *self.now.borrow()
    }

    fn heard(&self, _issued_at: Instant) {}

    fn set_right(&self, _issued_at: Instant) {}

    fn sleep_until(&self, instant: Instant) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            if now.wait_for(|now| instant <= *now).await.is_err() {
                // The clock is gone, so the instant never comes.
                std::future::pending::<()>().await;
            }
        })
    }
}

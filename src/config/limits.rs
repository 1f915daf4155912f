//! How much is taken, of whom, for how long.

use std::time::Duration;

use super::Reader;
use crate::edge::bounds::Bounds;

/// How much is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `limits.batch_questions`: questions in one batch, default 1,000.
    pub batch_questions: usize,
    /// `limits.sms_in_report`: SMS in one report of usage, default 1,000.
    pub sms_in_report: usize,
    /// `limits.request_bytes`: bytes in one message, default 512 KiB.
    pub request_bytes: usize,
    /// `limits.question_bytes`: bytes in the message of one question, default 64 KiB.
    pub question_bytes: usize,
    /// `limits.watches`: watches open at a time, default 10,000.
    pub watches: usize,
    /// `limits.calls`: calls open at a time on each listener, streams and watches among them, default 20,000; health has
    /// as many places of its own.
    pub calls: usize,
    /// `limits.held_bytes`: bytes held at a time of messages that are not whole or not sent yet, on each listener, default
    /// 8 MiB; for health as many.
    pub held_bytes: usize,
    /// `limits.ahead_bytes`: bytes for what open calls may send ahead of what is read of them, `stream_window_bytes` for
    /// each that has not said all, on each listener, default 32 MiB, which is room for 1,024 calls of `StreamAuthorize`;
    /// for health as many.
    pub ahead_bytes: usize,
    /// `limits.caller_percent`: how much of `calls`, `held_bytes` and `ahead_bytes` one caller may have, default 50.
    pub caller_percent: usize,
    /// `limits.metrics_subscriptions`: subscriptions with rows of their own on the page of metrics, the first by ID, default
    /// 1,000; all are counted.
    pub metrics_subscriptions: usize,
    /// `limits.call_timeout`: how long a call may take until its answer begins, unless its caller wants less, default
    /// `30s`.
    pub call_timeout: Duration,
    /// Of each listener by itself:
    /// `limits.connections`: connections open at a time, default 20,000; one more takes the place of an idle one;
    /// `limits.connections_per_peer`: of one address or user, default 10,000;
    /// `limits.handshake`: how long a connection may take until it speaks HTTP/2, default `10s`;
    /// `limits.connection_age`: after which a connection is asked to come again, default `1h`;
    /// `limits.connection_grace`: how long its open calls have to end then, default `1m`;
    /// `limits.concurrent_streams`: calls open at a time on one connection, default 1,024;
    /// `limits.stream_window_bytes`: bytes that a call may send ahead of what is read of it, default 32 KiB;
    /// `limits.header_list_bytes`: bytes of headers in one call, default 8 KiB;
    /// `limits.pending_resets`: calls taken back before they were begun, default 20;
    /// `limits.malformed_calls`: after which a connection is closed, default 1,024;
    /// `limits.turn_bytes`: bytes read of a connection, of 32 calls at the most, before others have their turn, default 4 KiB;
    /// `limits.overhead_bytes`: bytes a second that a connection may say beside its calls (pings, settings, windows), what
    /// comes faster is read slower, default 64 KiB;
    /// `limits.overhead_patience`: how long a connection may go on saying more until it is closed, default `5s`;
    /// `limits.send_buffer_bytes`: bytes of answers that may wait to be sent in one call, default 400 KiB;
    /// `limits.keepalive_interval`: a silent connection is pinged after, default `30s`;
    /// `limits.keepalive_timeout`: and closed when it does not answer for, default `10s`.
    pub bounds: Bounds,
    /// `limits.hold`: how long connections stay open after their streams have ended, so that the last words arrive and
    /// balancers look elsewhere, default `100ms`.
    pub hold: Duration,
    /// `limits.drain`: how long calls may take to end once the sidecar stops, default `8s`.
    pub drain: Duration,
}

impl Limits {
    /// What one caller may have of `whole`; something, however little it is.
    #[must_use]
    pub fn share(&self, whole: usize) -> usize {
        // No `usize` of ours comes near its end: the largest whole is 2^40.
        (whole.saturating_mul(self.caller_percent) / 100).max(1)
    }

    /// Finds what leaves no room for a single call.
    pub(super) fn check_together(&self, reader: &mut Reader) {
        let Self { held_bytes, ahead_bytes, request_bytes, bounds, .. } = self;
        let window = bounds.stream_window_bytes;
        for (key, whole, one, what) in [
            ("limits.held_bytes", *held_bytes, *request_bytes, "the longest message (`limits.request_bytes`"),
            (
                "limits.ahead_bytes",
                *ahead_bytes,
                usize::try_from(window).unwrap_or(usize::MAX),
                "one call may send ahead (`limits.stream_window_bytes`",
            ),
        ] {
            if self.share(whole) < one {
                let what = format!(
                    "a caller's share of it is less than {what}, {one}); raise it, or `limits.caller_percent`"
                );
                reader.fault(key, what);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            batch_questions: reader.number("limits.batch_questions", 1_000, 1..=100_000),
            sms_in_report: reader.number("limits.sms_in_report", 1_000, 1..=100_000),
            request_bytes: reader.number("limits.request_bytes", 512 << 10, 1 << 10..=64 << 20),
            question_bytes: reader.number("limits.question_bytes", 64 << 10, 1 << 10..=64 << 20),
            watches: reader.number("limits.watches", 10_000, 1..=1_000_000),
            calls: reader.number("limits.calls", 20_000, 1..=1_000_000),
            held_bytes: reader.number("limits.held_bytes", 8 << 20, 1 << 20..=1 << 40),
            ahead_bytes: reader.number("limits.ahead_bytes", 32 << 20, 1 << 20..=1 << 40),
            caller_percent: reader.number("limits.caller_percent", 50, 1..=100),
            metrics_subscriptions: reader.number("limits.metrics_subscriptions", 1_000, 0..=10_000),
            call_timeout: reader.duration("limits.call_timeout", Duration::from_secs(30)),
            bounds: bounds(reader),
            hold: reader.duration("limits.hold", Duration::from_millis(100)),
            drain: reader.duration("limits.drain", Duration::from_secs(8)),
        }
    }
}

fn bounds(reader: &mut Reader) -> Bounds {
    Bounds {
        connections: reader.number("limits.connections", 20_000, 1..=1_000_000),
        // Nobody takes more than half of the places; behind a proxy, a whole fleet may be one address.
        connections_per_peer: reader.number("limits.connections_per_peer", 10_000, 1..=1_000_000),
        handshake: reader.duration("limits.handshake", Duration::from_secs(10)),
        connection_age: reader.duration("limits.connection_age", Duration::from_hours(1)),
        connection_grace: reader.duration("limits.connection_grace", Duration::from_mins(1)),
        concurrent_streams: reader.number("limits.concurrent_streams", 1_024, 1..=1_000_000),
        stream_window_bytes: reader.number("limits.stream_window_bytes", 32 << 10, 1 << 10..=16 << 20),
        header_list_bytes: reader.number("limits.header_list_bytes", 8 << 10, 1 << 10..=1 << 20),
        pending_resets: reader.number("limits.pending_resets", 20, 1..=100_000),
        malformed_calls: reader.number("limits.malformed_calls", 1_024, 1..=1_000_000),
        turn_bytes: reader.number("limits.turn_bytes", 4 << 10, 64..=1 << 20),
        overhead_bytes: reader.number("limits.overhead_bytes", 64 << 10, 1 << 10..=1 << 30),
        overhead_patience: reader.duration("limits.overhead_patience", Duration::from_secs(5)),
        send_buffer_bytes: reader.number("limits.send_buffer_bytes", 400 << 10, 1 << 10..=64 << 20),
        keepalive_interval: reader.duration("limits.keepalive_interval", Duration::from_secs(30)),
        keepalive_timeout: reader.duration("limits.keepalive_timeout", Duration::from_secs(10)),
    }
}

//! How much a listener takes of whoever connects, before any question is read.
//!
//! Each is a key of `limits` (see `config`), where its default stands. Not here: what a question may hold.

use std::time::Duration;

/// The bounds of one listener and its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections open at a time; what comes beyond takes the place of an idle one, or is closed at once.
    pub connections: usize,
    /// The same from one address, or of one user on a Unix socket.
    pub connections_per_peer: usize,
    /// How long a connection may take until it speaks HTTP/2.
    pub handshake: Duration,
    /// How old a connection grows before it is asked to come again, a tenth sooner or later.
    pub connection_age: Duration,
    /// How long its open calls have to end then.
    pub connection_grace: Duration,
    /// Calls open at a time on one connection; the protocol makes callers wait.
    pub concurrent_streams: u32,
    /// Bytes that a call may send ahead of what is read of it.
    pub stream_window_bytes: u32,
    /// Bytes of headers in one call.
    pub header_list_bytes: u32,
    /// Calls that callers took back before they were begun.
    pub pending_resets: usize,
    /// Calls of a connection that were malformed, before it is closed.
    pub malformed_calls: usize,
    /// Bytes read of a connection before others have their turn.
    pub turn_bytes: usize,
    /// Bytes a second that a connection may say beside its calls; what comes faster waits.
    pub overhead_bytes: usize,
    /// How long it may go on saying more, until it is closed.
    pub overhead_patience: Duration,
    /// Bytes of answers that may wait to be sent in one call.
    pub send_buffer_bytes: usize,
    /// A silent connection is pinged after.
    pub keepalive_interval: Duration,
    /// And closed when it does not answer for.
    pub keepalive_timeout: Duration,
}

//! Connections and calls of each listener.
//!
//! Not here: what was answered.

use std::fmt;

use super::{
    OfListener,
    page::{Page, Took, seconds},
};
use crate::{edge::Loss, server::tallied::BOUNDS};

pub(super) fn show(page: &mut Page<'_>, listeners: &[OfListener]) -> fmt::Result {
    connections(page, listeners)?;
    calls(page, listeners)
}

/// One row of each listener.
fn of_each<V>(
    listeners: &[OfListener],
    value: impl Fn(&OfListener) -> V,
) -> impl Iterator<Item = ([(&'static str, &'static str); 1], V)> {
    listeners.iter().map(move |listener| ([("listener", listener.name)], value(listener)))
}

fn connections(page: &mut Page<'_>, listeners: &[OfListener]) -> fmt::Result {
    page.gauges(
        "connections_open",
        "Connections that are open.",
        of_each(listeners, |listener| listener.connections.open() as f64),
    )?;
    page.counters(
        "connections",
        "Connections that were taken.",
        of_each(listeners, |listener| listener.connections.tallied().taken()),
    )?;
    let lost = listeners.iter().flat_map(|listener| {
        let lost = |why: Loss| {
            ([("listener", listener.name), ("reason", why.name())], listener.connections.tallied().lost(why))
        };
        Loss::ALL.map(lost)
    });
    page.counters(
        "connections_lost",
        "Connections that were not taken or did not last: closed at once because as many were open as may be (full) or as \
         one peer may have (peer_full), without agreement on TLS (tls) or gone before that (gone), without a word in time \
         (silent), idle where others needed room (idle), of a caller that is not known and went on asking (refused).",
        lost,
    )?;
    page.counters(
        "connections_slowed",
        "Connections that said more beside their calls (pings, settings, windows) than may be, and are read slower.",
        of_each(listeners, |listener| listener.connections.tallied().slowed()),
    )?;
    page.gauges(
        "tls_expiry_timestamp_seconds",
        "When the first certificate, or revocation list, of a file in use is out of date, in seconds since 1970.",
        listeners.iter().flat_map(|listener| {
            let rows = listener.connections.tls_expires().into_iter();
            rows.map(|(file, at)| ([("listener", listener.name), ("file", file)], seconds(at)))
        }),
    )?;
    page.counters(
        "accept_failures",
        "Times that no connection could be taken for want of descriptors or memory; it is tried again within a second.",
        of_each(listeners, |listener| listener.connections.tallied().times_short()),
    )
}

fn calls(page: &mut Page<'_>, listeners: &[OfListener]) -> fmt::Result {
    let taken = |which: fn([usize; 3]) -> usize| {
        listeners.iter().flat_map(move |listener| {
            let row = |(room, taken)| ([("listener", listener.name), ("room", room)], which(taken) as f64);
            listener.rooms.taken().map(row)
        })
    };
    page.gauges(
        "calls_open",
        "Calls that are open, streams and watches among them; the page itself is one.",
        taken(|[calls, ..]| calls),
    )?;
    page.gauges(
        "held_bytes",
        "Bytes held of messages that are not whole or not sent yet.",
        taken(|[_, held, _]| held),
    )?;
    page.gauges(
        "ahead_bytes",
        "Bytes that open calls may send ahead of what is read of them.",
        taken(|[.., ahead]| ahead),
    )?;
    page.counters(
        "calls_shed",
        "Calls refused at once because as many were open as may be, in all or of one caller.",
        of_each(listeners, |listener| listener.rooms.tallied().times_shed()),
    )?;
    let ended = listeners.iter().flat_map(|listener| {
        listener.rooms.tallied().methods().flat_map(|(method, calls)| {
            calls.codes().map(|(code, calls)| {
                let labels = [
                    ("listener", listener.name),
                    ("service", &*method.service),
                    ("method", &*method.name),
                    ("code", code),
                ];
                (labels, calls)
            })
        })
    });
    page.counters("calls", "Calls that have ended, by the code of their status.", ended)?;
    took(page, listeners)
}

fn took(page: &mut Page<'_>, listeners: &[OfListener]) -> fmt::Result {
    let bounds = BOUNDS.iter().map(std::time::Duration::as_secs_f64).chain([f64::INFINITY]);
    let mut rows = Vec::new();
    for listener in listeners {
        for (method, calls) in listener.rooms.tallied().methods().filter(|(method, _)| method.is_unary) {
            let labels =
                [("listener", listener.name), ("service", &*method.service), ("method", &*method.name)];
            let buckets: Vec<_> = bounds.clone().zip(calls.took()).collect();
            rows.push((labels, buckets, calls.took_in_all().as_secs_f64()));
        }
    }
    page.histograms(
        "call_duration_seconds",
        "From the headers of a call to the last of its answer leaving our hands, of calls with one message to one message.",
        rows.iter().map(|(labels, buckets, seconds)| (*labels, Took { buckets, seconds: *seconds })),
    )
}

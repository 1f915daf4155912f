//! Answers, refusals, and how facts are kept fresh.
//!
//! Not here: each subscription by itself.

use std::{collections::BTreeMap, fmt};

use super::{
    OfSidecar,
    page::{ALONE, Page, flag},
};
use crate::{enforcement::CallerRefusals, names::Named as _};

/// All of it, with the names of callers if `by_name`.
pub(super) fn show(page: &mut Page<'_>, sidecar: &OfSidecar, by_name: bool) -> fmt::Result {
    answers(page, sidecar, by_name)?;
    refreshes(page, sidecar)
}

fn answers(page: &mut Page<'_>, sidecar: &OfSidecar, by_name: bool) -> fmt::Result {
    let tallied = sidecar.enforcement.tallied();
    let decisions = tallied.decisions().map(|(operation, reason, times)| {
        let labels =
            [("operation", operation.name()), ("access", reason.access().name()), ("reason", reason.name())];
        (labels, times)
    });
    page.counters("decisions", "Questions that were decided on, by what was decided.", decisions)?;
    page.counters(
        "decisions_stale",
        "Those of them that were decided from stale facts.",
        [(ALONE, tallied.stale())],
    )?;
    page.counters(
        "roles_not_vouched",
        "Answers to an administrator whom the caller may not vouch for, and who was answered as a user.",
        [(ALONE, tallied.not_vouched())],
    )?;
    page.counters(
        "questions_refused",
        "Questions that had no answer, by the reason, on calls that were taken; a call refused as a whole is among the calls.",
        tallied.refusals().map(|(reason, times)| ([("reason", reason)], times)),
    )?;
    caller_refusals(page, &sidecar.enforcement.refusals(), by_name)?;
    let watches = sidecar.enforcement.watches() as f64;
    page.gauges("watches_open", "Watches of subscriptions that are open.", [(ALONE, watches)])
}

fn refreshes(page: &mut Page<'_>, sidecar: &OfSidecar) -> fmt::Result {
    let statuses = *sidecar.statuses.borrow();
    let is_ready = statuses.ready && !statuses.draining;
    page.gauges("ready", "Whether questions are answered.", [(ALONE, flag(is_ready))])?;
    page.gauges(
        "in_sync",
        "Whether the facts of every subscription are fresh.",
        [(ALONE, flag(statuses.in_sync))],
    )?;
    let tallied = sidecar.refresh.tallied();
    page.counters(
        "refreshes",
        "Times that facts were asked for, by how that ended.",
        tallied.refreshes().map(|(outcome, times)| ([("outcome", outcome)], times)),
    )?;
    let is_failing = sidecar.refresh.failure().is_some();
    page.gauges("refresh_failing", "Whether the last refresh failed.", [(ALONE, flag(is_failing))])?;
    page.counters(
        "facts_not_kept",
        "Times that facts could not be kept on disk.",
        [(ALONE, tallied.times_not_kept())],
    )?;
    page.gauges(
        "usage_sms_waiting",
        "SMS that were reported and that the licensing backend has not taken yet.",
        [(ALONE, sidecar.refresh.sms_waiting() as f64)],
    )?;
    page.gauges(
        "usage_sms_deferred",
        "Those of them that the licensing backend deferred.",
        [(ALONE, sidecar.refresh.sms_deferred() as f64)],
    )?;
    page.counters(
        "usage_set_aside",
        "Usage that the licensing backend will never take, by its kind.",
        sidecar.refresh.usage_set_aside().map(|(kind, items)| ([("kind", kind)], items)),
    )
}

fn caller_refusals(
    page: &mut Page<'_>,
    refused: &BTreeMap<String, CallerRefusals>,
    by_name: bool,
) -> fmt::Result {
    let (name, help) = ("caller_refusals", "What a caller was refused that others may ask.");
    let each = |CallerRefusals { not_entitled, over_quota }: &CallerRefusals| {
        [("NOT_ENTITLED", *not_entitled), ("OVER_QUOTA", *over_quota)]
    };
    if by_name {
        let rows = refused.iter().flat_map(|(caller, refused)| {
            each(refused).map(|(reason, times)| ([("caller", caller.as_str()), ("reason", reason)], times))
        });
        return page.counters(name, help, rows);
    }
    let mut all = CallerRefusals::default();
    for CallerRefusals { not_entitled, over_quota } in refused.values() {
        all.not_entitled += not_entitled;
        all.over_quota += over_quota;
    }
    page.counters(name, help, each(&all).map(|(reason, times)| ([("reason", reason)], times)))
}

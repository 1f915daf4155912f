//! The process itself, under the names that every exporter gives it, and its log.
//!
//! Not here: what it does.

use std::fmt;

use procfs::process::{LimitValue, Process};
use tracing_appender::non_blocking::ErrorCounter;

use super::page::{ALONE, Page};

pub(super) fn show(page: &mut Page<'_>, log: Option<&ErrorCounter>) -> fmt::Result {
    let version = [(("version", env!("CARGO_PKG_VERSION")), 1.0)];
    page.gauges(
        "build_info",
        "The version that runs; always 1.",
        version.map(|(label, value)| ([label], value)),
    )?;
    if let Some(log) = log {
        let dropped = u64::try_from(log.dropped_lines()).unwrap_or(u64::MAX);
        page.counters(
            "log_lines_dropped",
            "Lines of the log that found no room in its queue.",
            [(ALONE, dropped)],
        )?;
    }
    // Whoever hides /proc from this process hides this.
    usage(page).unwrap_or(Ok(()))
}

fn usage(page: &mut Page<'_>) -> Option<fmt::Result> {
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let open = process.fd_count().ok()?;
    let most = match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(most) => most as f64,
        LimitValue::Unlimited => f64::INFINITY,
    };
    let per_second = procfs::ticks_per_second() as f64;
    let started = procfs::boot_time_secs().ok()? as f64 + stat.starttime as f64 / per_second;
    let resident = stat.rss as f64 * procfs::page_size() as f64;
    let seconds = (stat.utime + stat.stime) as f64 / per_second;
    let shown = page
        .counter_of_all("process_cpu_seconds", "Processor time, user and system.", seconds)
        .and_then(|()| {
            [
                ("process_resident_memory_bytes", "Resident memory.", resident),
                ("process_virtual_memory_bytes", "Virtual memory.", stat.vsize as f64),
                ("process_open_fds", "Open file descriptors.", open as f64),
                ("process_max_fds", "The most file descriptors that may be open.", most),
                ("process_start_time_seconds", "When the process started, in seconds since 1970.", started),
            ]
            .into_iter()
            .try_for_each(|(name, help, value)| page.gauges_of_all(name, help, [(ALONE, value)]))
        });
    Some(shown)
}

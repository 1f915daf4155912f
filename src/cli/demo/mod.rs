//! `demo`: a licensing backend and a sidecar with a sample company, to try things on.

mod company;

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use clap::Args;
use tokio_util::sync::CancellationToken;

use self::company::{Company, SITES, Site};
use super::{
    CommandError, CommandResult,
    reread::Reread,
    run_server::Process,
    serve::{self, Listen},
};
use crate::{
    clock::{Clock, ManualClock, SystemClock, WallClock},
    config::{self, Config, Flag},
    domain::Instant,
    edge::{address::ListenAddress, passed::Passed},
    licensing::{Anew, Opened},
    rfc3339,
};

/// Run everything on this machine with a sample company, and say what to try
///
/// A licensing backend and a sidecar, with licenses and units of every status. Nothing is kept: the next demo starts
/// afresh. What the environment sets of `backend`, `listen` and `tls` does not count.
#[derive(Args)]
pub(super) struct Demo {
    #[command(flatten)]
    listen: Listen,
}

/// What the environment says of a real backend is not for a sample: neither its database, nor who reaches it, nor how.
const OWN: [&str; 3] = ["backend", "listen", "tls"];

impl Demo {
    pub(super) fn run(self) -> CommandResult {
        // Gone with the process, whatever becomes of it meanwhile.
        let folder = tempfile::Builder::new().prefix("esa-sidecar-demo-").tempdir()?;
        let mut flags = self.listen.flags();
        let data_dir = folder.path().display().to_string();
        flags.push(Flag { flag: "--data-dir", key: "data_dir", value: data_dir });
        let mut config = Config::read_without(&OWN, None, flags.clone()).map_err(CommandError::faults)?;
        config.licensing.subscription = Some(company::not_activated()?);
        Process::run(Passed::default(), Reread::new(None, flags, config), |mut process, config| async move {
            let ended = serve_company(&mut process, config, folder.path()).await;
            process.ended(ended)
        })
    }
}

async fn serve_company(process: &mut Process, config: Config, folder: &Path) -> CommandResult {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    // Whole seconds read better.
    let now = Instant::from_unix_seconds(rfc3339::split(clock.now()).0);
    found(&config, folder, now).await?;
    let settings = config.backend.clone();
    let opened =
        Opened::at(folder, settings, Arc::new(WallClock), process.stop.clone(), Anew::default()).await?;
    serve::embedded(process, config, opened, clock, greeting).await
}

/// Lets the company live through its last sixty days: every change is made as people make it, on a clock that is turned.
async fn found(config: &Config, folder: &Path, now: Instant) -> Result<(), CommandError> {
    let (clock, stop) = (ManualClock::at(now - company::AGE), CancellationToken::new());
    // Nobody of the company signs out in its sixty days.
    let year = Duration::from_hours(24 * 365);
    let settings = config::Backend { session_time: year, session_idle: year, ..config.backend.clone() };
    let opened = Opened::at(folder, settings, Arc::new(clock.clone()), stop, Anew::default()).await?;
    let password = opened.one_time_password.as_deref().unwrap_or_default();
    Company::new(&opened.backend, clock, now, folder).live(password).await?;
    opened.backend.close().await;
    Ok(())
}

fn greeting(asked_at: &ListenAddress, backend_at: &ListenAddress) -> String {
    let mut text = "\nA sample company:\n".to_owned();
    for Site { subscription, shows, .. } in SITES {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {subscription}  {shows}");
    }
    let other = |address: &ListenAddress, port, flag: &str| {
        let usual = *address == ListenAddress::loopback(port);
        if usual { String::new() } else { format!(" {flag} {address}") }
    };
    let server = other(asked_at, 50051, "--server");
    let licensing = other(backend_at, 50052, "--licensing");
    // As it was called, so that what is printed can be pasted.
    let program = std::env::args().next().unwrap_or_else(|| "esa-sidecar".to_owned());
    text += "\nTry, from another terminal:\n";
    for command in [
        "authorize enable_users --subscription ACM-EOK-001",
        "authorize enable_users --subscription ACM-EVL-005",
        "authorize disable_users --actor administrator --subscription ACM-EDI-007",
        "status --subscription ACM-EWA-002 --watch",
    ] {
        let _ = writeln!(text, "  {program} {command}{server}");
    }
    let _ = writeln!(text, "  {program} matrix\n\nManage its licenses and units:");
    let _ =
        writeln!(text, "  {program} accounts sign-in owner{licensing}   # password: {}", company::PASSWORD);
    for command in
        ["licenses list", "units list --status problem", "units list --connection red", "audit list"]
    {
        let _ = writeln!(text, "  {program} {command}{licensing}");
    }
    text + "\nThe security admins `anna` and `ben` have the same password. Ctrl-C stops it.\n"
}

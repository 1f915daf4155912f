//! `demo`: a sidecar with a sample company, to try things on.

use std::{fmt::Write as _, sync::Arc};

use clap::Args;

use super::{CommandError, CommandResult, run_server, serve::Listen};
use crate::{
    clock::{Clock, SystemClock},
    config::Config,
    domain::{
        Activation, Facts, Instant, Span, SubscriptionId,
        facts::{
            ActiveUsers, DisabledByLicensing, FairUse, LicensedUsers, NotASubscriptionId, SmsCredits, Users,
        },
    },
    edge::address::ListenAddress,
    rfc3339,
    source::embedded::EmbeddedSource,
};

/// Run everything on this machine with a sample company, and say what to try
///
/// Nothing is kept: the next demo starts afresh.
#[derive(Args)]
pub(super) struct Demo {
    #[command(flatten)]
    listen: Listen,
}

/// One subscription of the sample company and what there is to see in it.
struct Sample {
    facts: Facts,
    shows: &'static str,
}

impl Demo {
    pub(super) fn run(self) -> CommandResult {
        let config = Config::read(None, self.listen.flags()).map_err(CommandError::faults)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        // Whole seconds read better.
        let now = Instant::from_unix_seconds(rfc3339::split(clock.now()).0);
        let samples = samples(now).map_err(|_| CommandError::new("the sample company is misspelt"))?;
        let greeting = |address: &ListenAddress| greeting(&samples, address);
        let facts = samples.iter().map(|sample| sample.facts.clone()).collect();
        let source = EmbeddedSource::new(facts);
        run_server::until_signal(config, source, None, clock, greeting)
    }
}

/// A company with a subscription in every state, as of `now`.
fn samples(now: Instant) -> Result<Vec<Sample>, NotASubscriptionId> {
    let healthy = |id: &str| -> Result<Facts, NotASubscriptionId> {
        Ok(Facts {
            subscription_id: id.parse::<SubscriptionId>()?,
            activation: Activation::Active,
            expires_at: now + Span::days(200),
            disabled_by_licensing: None,
            users: Users { active: ActiveUsers(120), licensed: LicensedUsers(150), overused_since: None },
            all_users: FairUse { count: 400, limit: 1_000 },
            components: FairUse { count: 10, limit: 50 },
            sms_credits: Some(SmsCredits(500)),
        })
    };
    let overused = |active, since| Users {
        active: ActiveUsers(active),
        licensed: LicensedUsers(150),
        overused_since: Some(since),
    };
    let in_two_minutes = now + Span::from_nanos(120 * Span::SECOND.nanos());
    Ok(vec![
        Sample { facts: healthy("ACM-EOK-001")?, shows: "OK" },
        Sample {
            facts: Facts { expires_at: in_two_minutes, ..healthy("ACM-EWA-002")? },
            shows: "Warning; expires two minutes after the start",
        },
        Sample {
            facts: Facts { sms_credits: Some(SmsCredits(0)), ..healthy("ACM-ESM-003")? },
            shows: "SMS credits depleted",
        },
        Sample {
            facts: Facts { users: overused(157, now - Span::days(2)), ..healthy("ACM-EVF-004")? },
            shows: "Violation (full functionality): 157 users on 150 seats",
        },
        Sample {
            facts: Facts { expires_at: now - Span::days(12), ..healthy("ACM-EVL-005")? },
            shows: "Violation (limited functionality): expired 12 days ago",
        },
        Sample {
            facts: Facts { activation: Activation::NotActivated, ..healthy("ACM-ENA-006")? },
            shows: "Not activated",
        },
        Sample {
            facts: Facts {
                disabled_by_licensing: Some(DisabledByLicensing {
                    reason: "canceled".into(),
                    since: now - Span::days(40),
                }),
                ..healthy("ACM-EDI-007")?
            },
            shows: "ESET Secure Authentication disabled: canceled 40 days ago",
        },
    ])
}

fn greeting(samples: &[Sample], address: &ListenAddress) -> String {
    let mut text = "\nA sample company:\n".to_owned();
    for Sample { facts, shows } in samples {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}  {shows}", facts.subscription_id);
    }
    let server = match address {
        address if *address == ListenAddress::loopback(50051) => String::new(),
        address => format!(" --server {address}"),
    };
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
    text + "  " + &program + " matrix\n\nCtrl-C stops it.\n"
}

#[cfg(test)]
mod tests;

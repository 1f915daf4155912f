//! `report-usage`: what an authentication server counts, told to a running sidecar.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    CommandError, CommandResult,
    client::{self, Server, Subscription},
    output,
};
use crate::{
    proto::enforcement::{self as api, enforcement_service_client::EnforcementServiceClient},
    wire::usage::{Count, SmsCost, SmsId},
};

/// Report to a running sidecar what was counted: users, components, SMS sent
///
/// The report is kept on the sidecar's disk and handed to the licensing backend with its next sync.
#[derive(Args)]
#[group(id = "counted", required = true, multiple = true,
    args = ["active_users", "all_users", "components", "sms"])]
pub(super) struct ReportUsage {
    /// Users with at least one authentication method enabled, each once
    #[arg(long, value_name = "N")]
    active_users: Option<Count>,
    /// All users
    #[arg(long, value_name = "N")]
    all_users: Option<Count>,
    /// Components
    #[arg(long, value_name = "N")]
    components: Option<Count>,
    /// ID of an SMS that was sent, with its credits if it cost more than one; each ID counts once
    #[arg(long, value_name = "ID[=CREDITS]", value_parser = sms)]
    sms: Vec<api::SmsSent>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    subscription: Subscription,
    #[command(flatten)]
    server: Server,
}

impl ReportUsage {
    pub(super) fn run(self) -> CommandResult {
        let request = api::ReportUsageRequest {
            subscription_id: self.subscription.subscription_id,
            active_users: self.active_users.map(Count::get),
            all_users: self.all_users.map(Count::get),
            components: self.components.map(Count::get),
            sms_sent: self.sms,
        };
        let told = client::runtime()?.block_on(async {
            let mut client = EnforcementServiceClient::new(self.server.connect().await?);
            let told = client.report_usage(request).await.map_err(|status| client::failed(&status))?;
            Ok::<_, CommandError>(told.into_inner())
        })?;
        output::print(&if self.json { json_line(&told) } else { sentence(&told) })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn sms(text: &str) -> Result<api::SmsSent, String> {
    let (id, credits) = text.rsplit_once('=').unwrap_or((text, "1"));
    let credits = credits.parse().map_err(|_| format!("`{credits}` is no number of credits"))?;
    let id = SmsId::new(id).map_err(|invalid| invalid.to_string())?;
    let cost = SmsCost::new(credits).map_err(|invalid| invalid.to_string())?;
    Ok(api::SmsSent { id: id.to_string(), credits: cost.credits() })
}

fn json_line(told: &api::ReportUsageResponse) -> String {
    let api::ReportUsageResponse { sms_counted, sms_repeated, sms_credits, counts_taken } = told;
    output::json_line(&json!({
        "sms_counted": sms_counted,
        "sms_repeated": sms_repeated,
        "sms_credits": sms_credits,
        "counts_taken": counts_taken,
    }))
}

fn sentence(told: &api::ReportUsageResponse) -> String {
    let api::ReportUsageResponse { sms_counted, sms_repeated, sms_credits, counts_taken } = told;
    let counts =
        if *counts_taken { "go to the licensing backend" } else { "none taken by this source of facts" };
    let credits = sms_credits.map_or_else(|| "not bought".to_owned(), |credits| credits.to_string());
    format!(
        "reported\n  counts       {counts}\n  SMS          {sms_counted} counted, {sms_repeated} counted before\n  \
         SMS credits  {credits}\n"
    )
}

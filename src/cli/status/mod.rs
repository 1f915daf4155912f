//! `status`: what a running sidecar holds, for people or as JSON.

pub(super) mod json;
pub(super) mod text;
pub(super) mod values;

use std::process::ExitCode;

use clap::Args;

use super::{
    CommandError, CommandResult,
    client::{self, Server, Subscription},
    output,
};
use crate::proto::enforcement::{self as api, enforcement_service_client::EnforcementServiceClient};

/// Show what a running sidecar holds about a subscription
#[derive(Args)]
pub(super) struct Status {
    /// Stay, and show it again at every change
    #[arg(long)]
    watch: bool,
    /// Print JSON, one line for each description
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    subscription: Subscription,
    #[command(flatten)]
    server: Server,
}

impl Status {
    pub(super) fn run(self) -> CommandResult {
        let runtime = client::runtime()?;
        if self.watch { runtime.block_on(self.watch()) } else { runtime.block_on(self.once()) }
    }

    async fn once(&self) -> CommandResult {
        let mut client = EnforcementServiceClient::new(self.server.connect().await?);
        let request =
            api::GetSubscriptionRequest { subscription_id: self.subscription.subscription_id.clone() };
        let answer = client.get_subscription(request).await.map_err(|status| client::failed(&status))?;
        self.show(answer.into_inner().subscription)
    }

    async fn watch(&self) -> CommandResult {
        let mut client = EnforcementServiceClient::new(self.server.connect_to_watch().await?);
        let request =
            api::WatchSubscriptionRequest { subscription_id: self.subscription.subscription_id.clone() };
        let answers = client.watch_subscription(request).await.map_err(|status| client::failed(&status))?;
        let mut answers = answers.into_inner();
        while let Some(answer) = answers.message().await.map_err(|status| client::lost(&status))? {
            if let Some(at) = answer.subscription.as_ref().and_then(|told| told.evaluated_at.as_ref())
                && !self.json
            {
                output::print(&format!("── {} ──\n", values::instant_for_people(at)))?;
            }
            self.show(answer.subscription)?;
        }
        if !self.json {
            output::print("the sidecar is stopping\n")?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, subscription: Option<api::Subscription>) -> CommandResult {
        let subscription =
            subscription.ok_or_else(|| CommandError::new("the sidecar answered without a subscription"))?;
        let shown =
            if self.json { output::json_line(&json::of(&subscription)) } else { text::of(&subscription) };
        output::print(&shown)?;
        Ok(ExitCode::SUCCESS)
    }
}

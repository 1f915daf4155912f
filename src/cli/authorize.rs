//! `authorize`: one question to a running sidecar.

use std::process::ExitCode;

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use serde_json::json;

use super::{
    CommandResult,
    client::{self, Server, Subscription},
    output,
    status::{text, values},
};
use crate::{
    domain::{Operation, Role, SmsDelivery},
    names::{NameError, Named},
    proto::enforcement::{self as api, enforcement_service_client::EnforcementServiceClient},
};

/// Ask a running sidecar whether an operation may go ahead
///
/// Exit status 0: allowed. 1: disabled. 2: no answer, and why on standard error.
#[derive(Args)]
pub(super) struct Authorize {
    /// What is about to be done
    #[arg(value_parser = named::<Operation>())]
    operation: Operation,
    /// In which role somebody acts
    #[arg(long, value_name = "ROLE", default_value = "user", value_parser = named::<Role>())]
    actor: Role,
    /// Who acts, for the sidecar's log
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    actor_id: String,
    /// How an SMS goes
    #[arg(long, value_name = "HOW", default_value = "vendor_credits", value_parser = named::<SmsDelivery>())]
    sms_delivery: SmsDelivery,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    subscription: Subscription,
    #[command(flatten)]
    server: Server,
}

/// Reads a name, and tells help and completions which there are.
fn named<T: Named + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let names =
        T::ALL.iter().map(|value| PossibleValue::new(value.name()).alias(value.name().replace('_', "-")));
    PossibleValuesParser::new(names).try_map(|name| -> Result<T, NameError> { T::named(&name) })
}

impl Authorize {
    pub(super) fn run(self) -> CommandResult {
        let answer = client::runtime()?.block_on(async {
            let mut client = EnforcementServiceClient::new(self.server.connect().await?);
            let answer = client.authorize(self.question()).await.map_err(|status| client::failed(&status))?;
            Ok::<_, super::CommandError>(answer.into_inner())
        })?;
        let allowed = answer.access() == api::Access::Allowed;
        output::print(&if self.json { json_line(&answer) } else { sentence(&answer) })?;
        Ok(ExitCode::from(u8::from(!allowed)))
    }

    fn question(&self) -> api::AuthorizeRequest {
        api::AuthorizeRequest {
            subscription_id: self.subscription.subscription_id.clone(),
            operation: api::Operation::from(self.operation).into(),
            actor: Some(api::Actor {
                role: api::ActorRole::from(self.actor).into(),
                id: self.actor_id.clone(),
            }),
            sms_delivery: api::SmsDelivery::from(self.sms_delivery).into(),
        }
    }
}

fn json_line(answer: &api::AuthorizeResponse) -> String {
    output::json_line(&json!({
        "access": values::access(answer.access),
        "state": values::state(answer.state),
        "reason": values::reason(answer.reason),
        "until": answer.until.as_ref().map(values::instant),
        "as_of": answer.as_of.as_ref().map(values::instant),
        "revision": answer.revision,
        "stale": answer.stale,
        "role_not_vouched": answer.role_not_vouched,
    }))
}

fn sentence(answer: &api::AuthorizeResponse) -> String {
    let style = values::access_style(answer.access);
    let until = format!("{} if no fact changes", text::until(answer.until.as_ref()));
    let as_of = answer.as_of.as_ref().map_or_else(|| "none".to_owned(), values::instant_for_people);
    let rows = [
        (
            "state",
            if answer.as_of.is_some() { values::state(answer.state) } else { "no facts held".to_owned() },
        ),
        ("reason", values::reason(answer.reason)),
        ("holds", until),
        ("facts of", format!("{as_of}{}", if answer.stale { " (stale)" } else { "" })),
        ("revision", answer.revision.to_string()),
    ];
    let mut text = format!("{style}{}{style:#}\n", values::access(answer.access));
    for (name, value) in rows {
        text += &format!("  {name:<9} {value}\n");
    }
    if answer.role_not_vouched {
        text += "  this caller may not vouch for an administrator: answered as for a user\n";
    }
    text
}

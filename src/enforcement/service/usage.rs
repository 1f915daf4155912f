//! `ReportUsage`: what an authentication server counts, checked as the licensing backend checks it (semantics 7.26).
//!
//! Not here: how it is kept, and when it is handed over (see `refresh`).

use super::Inner;
use crate::{
    enforcement::{convert::Unreadable, refusal::Refusal},
    proto::enforcement as api,
    refresh::{NotReported, UsageReport},
    source::{
        Counts,
        usage::{CountKind, SmsSent},
    },
    wire::usage::{Count, SmsCost, SmsId},
};

impl Inner {
    pub(super) async fn report(
        &self,
        request: api::ReportUsageRequest,
    ) -> Result<api::ReportUsageResponse, Refusal> {
        let api::ReportUsageRequest { subscription_id, active_users, all_users, components, sms_sent } =
            request;
        let counts = Counts {
            active_users: count(CountKind::ActiveUsers, active_users)?,
            all_users: count(CountKind::AllUsers, all_users)?,
            components: count(CountKind::Components, components)?,
        };
        let sent = self.sms_sent(&sms_sent)?;
        let id = self.held(&subscription_id)?.facts.subscription_id;
        let counts = Some(counts).filter(|counts| *counts != Counts::default());
        let reported = self.refresh.report(id, counts, sent).await.map_err(|error| match error {
            NotReported::NotKept(error) => Refusal::UsageNotKept(error.to_string()),
            NotReported::NotHeld => Refusal::SubscriptionNotHeld(id),
        });
        let UsageReport { counted, repeated, credits, counts_taken } = reported?;
        Ok(api::ReportUsageResponse {
            sms_counted: counted,
            sms_repeated: repeated,
            sms_credits: credits,
            counts_taken,
        })
    }

    fn sms_sent(&self, sent: &[api::SmsSent]) -> Result<Vec<SmsSent>, Refusal> {
        let (count, most) = (sent.len(), self.limits.sms_in_report);
        if most < count {
            return Err(Refusal::TooMany { field: "sms_sent", count, most });
        }
        let read = |(position, api::SmsSent { id, credits }): (usize, &api::SmsSent)| {
            let at = |field: &str| format!("sms_sent[{position}].{field}");
            Ok(SmsSent {
                id: SmsId::new(id).map_err(|invalid| invalid.at(at("id")))?,
                cost: SmsCost::new(*credits).map_err(|invalid| invalid.at(at("credits")))?,
            })
        };
        sent.iter().enumerate().map(read).collect::<Result<_, Unreadable>>().map_err(Refusal::from)
    }
}

fn count(kind: CountKind, count: Option<u64>) -> Result<Option<Count>, Unreadable> {
    count.map(|count| Count::new(count).map_err(|invalid| invalid.at(kind.name()))).transpose()
}

//! `SyncService`.

use std::pin::Pin;

use futures_core::Stream;
use tonic::{Request, Response, Status};

use super::read;
use crate::{
    licensing::{
        Backend, caller,
        refusal::Refusal,
        sync::{Syncing, Usage},
        usage::{Counts, Sms},
    },
    proto::licensing::{self as api, sync_service_server::SyncService},
    wire,
};

/// SMS in one sync.
const MOST_SMS: usize = 1_000;

/// Longest ID of an SMS, in bytes.
const LONGEST_SMS_ID: usize = 64;

#[tonic::async_trait]
impl SyncService for Backend {
    async fn sync(&self, request: Request<api::SyncRequest>) -> Result<Response<api::SyncResponse>, Status> {
        let anonymous = caller::is_anonymous(request.metadata());
        let asked = request.get_ref();
        let nonce = read::nonce(&asked.nonce)?;
        let facts = if anonymous && asked.unit.is_none() {
            let id = wire::subscription_id(&asked.subscription_id).map_err(Refusal::from)?;
            let missing =
                Refusal::unreadable("subscription_id", "missing: without a unit, name the subscription");
            self.not_activated(id.ok_or(missing)?, nonce)?
        } else {
            let (id, secret) = caller::unit(request.metadata())?;
            let unit = self.proven(id, &secret).await?;
            self.sync(unit, &syncing(asked, id)?, nonce).await?
        };
        Ok(Response::new(api::SyncResponse { facts: Some(facts) }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<api::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (id, secret) = caller::unit(request.metadata())?;
        let api::WatchRequest { unit_id, nonce } = request.get_ref();
        same_unit("unit_id", unit_id, id)?;
        let nonce = read::nonce(nonce)?.to_vec();
        let unit = self.proven(id, &secret).await?;
        Ok(Response::new(Box::pin(self.watch(unit, nonce).await?)))
    }
}

fn syncing(asked: &api::SyncRequest, id: &str) -> Result<Syncing, Refusal> {
    let api::SyncRequest { unit, usage, nonce: _, subscription_id: _ } = asked;
    let unit = unit.as_ref().ok_or_else(|| Refusal::unreadable("unit", "missing"))?;
    let api::SyncingUnit { unit_id, product_version, subunits } = unit;
    same_unit("unit.unit_id", unit_id, id)?;
    Ok(Syncing {
        product_version: read::text("unit.product_version", product_version, 0, 64)?,
        subunits: subunits.map(|subunits| read::count("unit.subunits", subunits)).transpose()?,
        usage: usage.as_ref().map(read_usage).transpose()?.filter(Usage::is_any),
    })
}

impl Usage {
    fn is_any(&self) -> bool {
        self.counts.is_some() || !self.sms_sent.is_empty()
    }
}

fn read_usage(usage: &api::Usage) -> Result<Usage, Refusal> {
    let api::Usage { installation, counts, sms_sent } = usage;
    if MOST_SMS < sms_sent.len() {
        let what = format!("{} given, at most {MOST_SMS} are taken in one sync; sync again", sms_sent.len());
        return Err(Refusal::unreadable("usage.sms_sent", what));
    }
    let sms = |(position, api::SmsSent { id, credits }): (usize, &api::SmsSent)| {
        let field = format!("usage.sms_sent[{position}].id");
        if LONGEST_SMS_ID < id.len() {
            let what = format!("{} bytes; it has 1 to {LONGEST_SMS_ID}", id.len());
            return Err(Refusal::unreadable(field, what));
        }
        Ok(Sms { id: read::text(&field, id, 1, LONGEST_SMS_ID)?, credits: (*credits).max(1) })
    };
    Ok(Usage {
        installation: read::text("usage.installation", installation, 0, 255)?,
        counts: counts.as_ref().map(read_counts).transpose()?,
        sms_sent: sms_sent.iter().enumerate().map(sms).collect::<Result<_, Refusal>>()?,
    })
}

fn read_counts(counts: &api::Counts) -> Result<Counts, Refusal> {
    let api::Counts { active_users, all_users, components, counted_at } = counts;
    let count = |field: &str, count: &Option<u64>| {
        count.map(|count| read::count(&format!("usage.counts.{field}"), count)).transpose()
    };
    Ok(Counts {
        active_users: count("active_users", active_users)?,
        all_users: count("all_users", all_users)?,
        components: count("components", components)?,
        counted_at: read::optional_instant("usage.counts.counted_at", counted_at.as_ref())?,
    })
}

fn same_unit(field: &str, told: &str, proven: &str) -> Result<(), Refusal> {
    if told == proven {
        return Ok(());
    }
    Err(Refusal::unreadable(field, "it is not the unit of the credential"))
}

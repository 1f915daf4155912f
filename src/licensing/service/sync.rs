//! `SyncService`.

use std::{pin::Pin, time::Duration};

use futures_core::Stream;
use tonic::{Request, Response, Status};

use super::read;
use crate::{
    licensing::{
        Backend,
        refusal::Refusal,
        sign_in::Address,
        sms::{Deferred, Sms},
        sync::{Synced, Syncing, Usage},
        token,
        usage::Counts,
    },
    proto::licensing::{self as api, sync_service_server::SyncService},
    wire::{
        self,
        usage::{Count, Installation, Invalid, MOST_SMS, ProductVersion, SmsCost, SmsId},
    },
};

#[tonic::async_trait]
impl SyncService for Backend {
    async fn sync(&self, request: Request<api::SyncRequest>) -> Result<Response<api::SyncResponse>, Status> {
        let anonymous = token::is_anonymous(request.metadata());
        let asked = request.get_ref();
        let nonce = read::nonce(&asked.nonce)?;
        let (facts, refused) = if anonymous && asked.unit.is_none() {
            let id = wire::subscription_id(&asked.subscription_id).map_err(Refusal::from)?;
            let missing =
                Refusal::unreadable("subscription_id", "missing: without a unit, name the subscription");
            (self.not_activated(id.ok_or(missing)?, nonce)?, Vec::new())
        } else {
            let (id, secret) = token::unit(request.metadata())?;
            let proven = self.proven(id, &secret, &Address::of(&request)).await?;
            let (mut syncing, mut refused) = syncing(asked, id)?;
            syncing.secret_sha256 = secret;
            let Synced { facts, counts_deferred, deferred, sms_refused } =
                self.sync(proven, &syncing, nonce).await?;
            if let Some(why) = sms_refused {
                let all = asked.usage.as_ref().map_or(0, |usage| usage.sms_sent.len());
                refused.retain(|refused| refused.sms_position.is_none());
                refused.push(of_sms("usage.sms_sent", 0, all, why, None));
            }
            refused
                .extend(counts_deferred.map(|(why, wait)| later(self::refused("usage.counts", &why), wait)));
            refused.extend(grouped(deferred));
            (facts, refused)
        };
        Ok(Response::new(api::SyncResponse { facts: Some(facts), refused }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<api::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (id, secret) = token::unit(request.metadata())?;
        let api::WatchRequest { unit_id, nonce } = request.get_ref();
        same_unit("unit_id", unit_id, id)?;
        let nonce = read::nonce(nonce)?.to_vec();
        let (proven, turn) = self.proven(id, &secret, &Address::of(&request)).await?;
        drop(turn);
        let proven = self.uses(proven, &secret).await?;
        Ok(Response::new(Box::pin(self.watch(proven, secret, nonce).await?)))
    }
}

/// What a unit says, and what of it is not taken: a part that does not read keeps nothing else back.
fn syncing(asked: &api::SyncRequest, id: &str) -> Result<(Syncing, Vec<api::RefusedUsage>), Refusal> {
    let api::SyncRequest { unit, usage, nonce: _, subscription_id: _, next_secret_sha256, held_sequence } =
        asked;
    let unit = unit.as_ref().ok_or_else(|| Refusal::unreadable("unit", "missing"))?;
    let api::SyncingUnit { unit_id, product_version, subunits, instance } = unit;
    same_unit("unit.unit_id", unit_id, id)?;
    let mut refused = Refused::default();
    let version = ProductVersion::new(product_version);
    let subunits = subunits.and_then(|subunits| refused.unless("unit.subunits", Count::new(subunits)));
    let is_instance = instance.is_empty()
        || ((16..=64).contains(&instance.len()) && instance.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if !is_instance {
        refused.0.push(self::refused("unit.instance", "it has 16 to 64 letters and digits"));
    }
    let is_hash = next_secret_sha256.is_empty() || read::is_sha256(next_secret_sha256);
    if !is_hash {
        refused.0.push(self::refused("next_secret_sha256", read::SHA256));
    }
    let syncing = Syncing {
        secret_sha256: String::new(),
        next_secret_sha256: Some(next_secret_sha256).filter(|_| is_hash).cloned().unwrap_or_default(),
        instance: Some(Some(instance).filter(|_| is_instance).cloned().unwrap_or_default()),
        held_sequence: Some(i64::try_from(*held_sequence).unwrap_or(i64::MAX)),
        product_version: refused.unless("unit.product_version", version).unwrap_or_default(),
        subunits: subunits.map(Count::get),
        usage: usage.as_ref().map(|usage| refused.usage(usage)).filter(Usage::is_any),
    };
    Ok((syncing, refused.0))
}

impl Usage {
    fn is_any(&self) -> bool {
        self.counts.is_some() || !self.sms_sent.is_empty()
    }
}

/// What is not taken.
#[derive(Default)]
struct Refused(Vec<api::RefusedUsage>);

impl Refused {
    /// The value, unless it is none.
    fn unless<T>(&mut self, field: &str, value: Result<T, Invalid>) -> Option<T> {
        value.map_err(|invalid| self.0.push(refused(field, &invalid.to_string()))).ok()
    }

    fn usage(&mut self, usage: &api::Usage) -> Usage {
        let api::Usage { installation, counts, sms_sent } = usage;
        let installation = self.unless("usage.installation", Installation::new(installation));
        // Nobody knows what the counts of an unknown installation add to.
        let counts =
            counts.as_ref().filter(|_| installation.is_some()).and_then(|counts| self.counts(counts));
        let mut sms = Vec::with_capacity(sms_sent.len().min(MOST_SMS));
        for (position, api::SmsSent { id, credits }) in sms_sent.iter().enumerate().take(MOST_SMS) {
            let at = |field: &str| format!("usage.sms_sent[{position}].{field}");
            let read = SmsId::new(id).map_err(|invalid| (at("id"), invalid)).and_then(|id| {
                let cost = SmsCost::new(*credits).map_err(|invalid| (at("credits"), invalid))?;
                Ok(Sms { id, cost, position })
            });
            match read {
                Ok(read) => sms.push(read),
                Err((field, invalid)) => self.sms(&field, position, 1, &invalid.to_string(), None),
            }
        }
        if let Some(more) = sms_sent.len().checked_sub(MOST_SMS).filter(|more| 0 < *more) {
            let what = format!("{more} more than the {MOST_SMS} taken in one sync; sync again");
            self.sms("usage.sms_sent", MOST_SMS, more, &what, Some(AT_ONCE));
        }
        Usage { installation: installation.unwrap_or_default(), counts, sms_sent: sms }
    }

    fn counts(&mut self, counts: &api::Counts) -> Option<Counts> {
        let api::Counts { active_users, all_users, components, counted_at } = counts;
        let field = "usage.counts.counted_at";
        let counted_at = counted_at.as_ref().map(|at| wire::instant(at, field)).transpose();
        let counted_at = self.unless(field, counted_at.map_err(Invalid::from))?;
        let mut count = |field: &str, count: &Option<u64>| {
            count.and_then(|count| self.unless(&format!("usage.counts.{field}"), Count::new(count)))
        };
        Some(Counts {
            active_users: count("active_users", active_users),
            all_users: count("all_users", all_users),
            components: count("components", components),
            counted_at,
        })
    }

    fn sms(&mut self, field: &str, first: usize, count: usize, why: &str, retry_after: Option<Duration>) {
        self.0.push(of_sms(field, first, count, why, retry_after));
    }
}

fn of_sms(
    field: &str,
    first: usize,
    count: usize,
    why: &str,
    retry_after: Option<Duration>,
) -> api::RefusedUsage {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    api::RefusedUsage {
        sms_position: Some(number(first)),
        sms_count: number(count),
        retry_after: retry_after.and_then(|wait| wait.try_into().ok()),
        ..refused(field, why)
    }
}

fn later(refused: api::RefusedUsage, wait: Duration) -> api::RefusedUsage {
    api::RefusedUsage { retry_after: wait.try_into().ok(), ..refused }
}

/// What is deferred for one reason and follows one another, as one.
fn grouped(deferred: Vec<Deferred>) -> Vec<api::RefusedUsage> {
    let mut groups: Vec<(usize, usize, Deferred)> = Vec::new();
    for next in deferred {
        match groups.last_mut() {
            Some((first, count, last)) if *first + *count == next.position && last.why == next.why => {
                *count += 1
            }
            _ => groups.push((next.position, 1, next)),
        }
    }
    let told = |(first, count, Deferred { why, retry_after, .. }): (usize, usize, Deferred)| {
        of_sms("usage.sms_sent", first, count, &why, Some(retry_after))
    };
    groups.into_iter().map(told).collect()
}

/// What is too much for one sync.
const AT_ONCE: Duration = Duration::from_secs(1);

fn refused(field: &str, why: &str) -> api::RefusedUsage {
    api::RefusedUsage { field: field.to_owned(), reason: why.to_owned(), ..Default::default() }
}

fn same_unit(field: &str, told: &str, proven: &str) -> Result<(), Refusal> {
    if told == proven {
        return Ok(());
    }
    Err(Refusal::unreadable(field, "it is not the unit of the credential"))
}

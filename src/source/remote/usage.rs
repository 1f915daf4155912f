//! A unit's sync with what it says of itself and what was counted. Nothing of that keeps facts back (semantics 7.26).
//!
//! A backend names what it does not take. One that refuses the whole sync for a part of it, as another version may, is
//! asked for the facts alone, and then told in ever smaller parts, until what it refuses stands by itself. Not here: how a
//! single question is asked (see `ask`).

use std::{collections::BTreeSet, ops::Range};

use tokio::time::Instant as Tick;
use tracing::warn;

use super::{
    Shared,
    ask::{Asker, Failure, Synced},
    replicas::Unacceptable,
};
use crate::{
    proto::licensing::{self as api, RefusedUsage, SyncRequest},
    source::{
        Told,
        units::{Secret, Unit, version_or_own},
        usage::{CountKind, Counted, NotTaken, Usage, UsageAnswer},
    },
    wire::{self, usage::ProductVersion},
};

/// A part of usage that is taken or refused by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Count(CountKind),
    /// By position.
    Sms(usize),
}

/// A unit that syncs.
struct Syncing<'a> {
    shared: &'a Shared,
    unit: &'a Unit,
    asker: Asker,
    usage: &'a Usage,
    /// The number of the facts that are held; 0 if none are.
    held: u64,
    /// Whether the backend takes the version of the product.
    tells_version: bool,
    answer: UsageAnswer,
}

/// Characters of what a backend says of a part.
const LONGEST_REASON: usize = 300;

/// Parts that are told in one go at the most: what is left is told the next time.
const MOST_PARTS: usize = 32;

/// Syncs `unit` and hands over its usage: the facts, and what became of the usage.
pub(super) async fn sync(
    shared: &Shared,
    unit: &Unit,
    usage: Option<&Usage>,
    held: u64,
) -> Result<(Told, UsageAnswer), Failure> {
    let nothing = Usage::default();
    let usage = usage.unwrap_or(&nothing);
    let items = items(usage);
    let (asker, answer) = (Asker::of(unit), UsageAnswer::default());
    let mut syncing = Syncing { shared, unit, asker, usage, held, tells_version: true, answer };
    let told = match syncing.tell(&items).await {
        Ok(told) => told,
        Err(Failure { unacceptable: Some(why), .. }) => syncing.tell_in_parts(&items, &why).await?,
        Err(failure) => return Err(failure),
    };
    Ok((told, syncing.answer))
}

fn items(usage: &Usage) -> Vec<Item> {
    let counts = usage.counts.iter().flat_map(|counted| counted.counts.kinds()).map(Item::Count);
    counts.chain((0..usage.sms.len()).map(Item::Sms)).collect()
}

impl Syncing<'_> {
    /// Tells these items; what is refused of them is noted.
    async fn tell(&mut self, items: &[Item]) -> Result<Told, Failure> {
        let synced = self.shared.ask(self.request(items), Some(self.unit), &self.asker).await?;
        let Synced { told, refused } = synced;
        // Nobody vouches for these: of more than there are parts, the rest says nothing new.
        let most = items.len() + CountKind::ALL.len();
        let unknown: Vec<_> =
            refused.into_iter().take(most).filter_map(|refused| self.note(items, refused)).collect();
        if let Some(first) = unknown.first() {
            warn!(
                others = unknown.len() - 1,
                "the licensing backend does not take what {} says: {}",
                self.asker.name,
                wire::one_line(&format!("{first:?}"), LONGEST_REASON)
            );
        }
        Ok(self.shared.memory().synced(&self.unit.unit_id, told))
    }

    /// Asks for the facts first, and then tells what is taken. `why` it was not taken as a whole.
    async fn tell_in_parts(&mut self, items: &[Item], why: &Unacceptable) -> Result<Told, Failure> {
        let mut told = match self.tell(&[]).await {
            Err(Failure { unacceptable: Some(why), .. }) if why.for_good => {
                warn!("{} says nothing of its version any more: {}", self.asker.name, why.what);
                self.tells_version = false;
                self.tell(&[]).await?
            }
            told => told?,
        };
        let until = Tick::now() + self.shared.settings.timeout;
        let mut parts = split(items, 0..items.len(), why);
        let mut told_parts = 0;
        while let Some(part) = parts.pop() {
            let of = items.get(part.clone()).unwrap_or_default();
            if told_parts < MOST_PARTS && Tick::now() < until {
                told_parts += 1;
                match self.tell(of).await {
                    Ok(newer) => {
                        told = newer;
                        continue;
                    }
                    Err(Failure { unacceptable: Some(why), .. }) if 1 < of.len() => {
                        parts.extend(split(items, part, &why));
                        continue;
                    }
                    Err(Failure { unacceptable: Some(why), .. }) if why.for_good => {
                        self.put(of, &NotTaken::Refused(why.what));
                        continue;
                    }
                    // What has been taken is taken; the rest is tried again.
                    Err(_) => told_parts = MOST_PARTS,
                }
            }
            self.put(of, &NotTaken::Unanswered);
        }
        Ok(told)
    }

    fn request(&self, items: &[Item]) -> SyncRequest {
        let Unit { unit_id, product_version, installation, .. } = self.unit;
        let version = Some(version_or_own(product_version))
            .filter(|version| self.tells_version && ProductVersion::new(version).is_ok());
        let unit = api::SyncingUnit {
            unit_id: unit_id.clone(),
            product_version: version.unwrap_or_default().to_owned(),
            // An authentication server has none.
            subunits: None,
            instance: self.shared.instance.clone(),
        };
        let usage = (!items.is_empty()).then(|| usage_of(self.usage, items, installation));
        SyncRequest {
            unit: Some(unit),
            usage,
            next_secret_sha256: self.unit.next_secret.as_ref().map(Secret::sha256).unwrap_or_default(),
            held_sequence: self.held,
            ..SyncRequest::default()
        }
    }

    /// Notes what the backend names as refused of `items`, which it was told; what it says if it names none of them.
    fn note(&mut self, items: &[Item], refused: RefusedUsage) -> Option<NotTaken> {
        let RefusedUsage { field, sms_position, sms_count, reason, retry_after } = refused;
        let why = wire::one_line(&format!("{field}: {reason}"), LONGEST_REASON);
        let why = match retry_after.map(std::time::Duration::try_from) {
            Some(wait) => NotTaken::Deferred(why, wait.unwrap_or(SOONEST).clamp(SOONEST, LATEST)),
            None => NotTaken::Refused(why),
        };
        let named: Vec<Item> = match sms_position {
            Some(first) => {
                let sms = items.iter().filter(|item| matches!(item, Item::Sms(_)));
                let count = usize::try_from(sms_count.max(1)).unwrap_or(usize::MAX);
                sms.skip(usize::try_from(first).unwrap_or(usize::MAX)).take(count).copied().collect()
            }
            None => items.iter().filter(|item| is_named(**item, &field)).copied().collect(),
        };
        if named.is_empty() {
            return Some(why);
        }
        self.put(&named, &why);
        None
    }

    fn put(&mut self, items: &[Item], why: &NotTaken) {
        for item in items {
            match item {
                Item::Count(kind) => drop(self.answer.counts.entry(*kind).or_insert_with(|| why.clone())),
                Item::Sms(position) => drop(self.answer.sms.entry(*position).or_insert_with(|| why.clone())),
            }
        }
    }
}

/// Deferred usage waits for no less and no more, whatever the backend says.
const SOONEST: std::time::Duration = std::time::Duration::from_secs(1);
const LATEST: std::time::Duration = std::time::Duration::from_hours(24);

/// Whether a refusal of this field, or of what holds it, is one of this count.
fn is_named(item: Item, field: &str) -> bool {
    let Item::Count(kind) = item else { return false };
    match field.strip_prefix("usage.counts") {
        Some(rest) => match rest.strip_prefix('.') {
            Some(name) => name == kind.name() || CountKind::ALL.iter().all(|kind| kind.name() != name),
            None => true,
        },
        // Without its installation no count is of any use.
        None => field == "usage.installation",
    }
}

/// Smaller parts of `part`, the first to be told at the end. What is named stands by itself.
fn split(items: &[Item], part: Range<usize>, why: &Unacceptable) -> Vec<Range<usize>> {
    let Range { start, end } = part;
    let named = why.field.as_deref().and_then(|field| {
        let of = items.get(start..end)?;
        let named = match sms_position(field) {
            Some(position) => {
                let mut sms = of.iter().enumerate().filter(|(_, item)| matches!(item, Item::Sms(_)));
                sms.nth(position).map(|(place, _)| place)
            }
            None => of.iter().position(|item| is_named(*item, field)),
        };
        Some(start + named?)
    });
    let parts = match named {
        Some(named) => [named + 1..end, start..named, named..named + 1],
        None => {
            let middle = start + (end - start) / 2;
            [middle..end, start..middle, 0..0]
        }
    };
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

/// The position in `usage.sms_sent[3].id`.
fn sms_position(field: &str) -> Option<usize> {
    field.strip_prefix("usage.sms_sent[")?.split_once(']')?.0.parse().ok()
}

fn usage_of(usage: &Usage, items: &[Item], installation: &str) -> api::Usage {
    let kinds: BTreeSet<CountKind> = items
        .iter()
        .filter_map(|item| match item {
            Item::Count(kind) => Some(*kind),
            Item::Sms(_) => None,
        })
        .collect();
    let counts = usage.counts.filter(|_| !kinds.is_empty()).map(|Counted { counts, at }| {
        let counts = counts.only(&kinds);
        let of = |kind| counts.get(kind).map(wire::usage::Count::get);
        api::Counts {
            active_users: of(CountKind::ActiveUsers),
            all_users: of(CountKind::AllUsers),
            components: of(CountKind::Components),
            counted_at: wire::timestamp(at),
        }
    });
    let sms = items.iter().filter_map(|item| match item {
        Item::Count(_) => None,
        Item::Sms(position) => usage.sms.get(*position),
    });
    let sms_sent = sms.map(|sms| api::SmsSent { id: sms.id.to_string(), credits: sms.cost.credits() });
    // Only counts belong to an installation: what is wrong with its name is not to keep SMS back.
    let installation = if counts.is_some() { installation } else { "" };
    api::Usage { installation: installation.to_owned(), counts, sms_sent: sms_sent.collect() }
}

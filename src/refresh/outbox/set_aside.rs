//! Usage that nobody will ever take, in a file for people: one JSON object a line, the newest at the end.
//!
//! The file is bounded: the oldest lines go first. Not here: what is set aside, and why (see the parent).

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use tracing::error;

use super::{Inner, Medium};
use crate::{
    domain::SubscriptionId,
    folder,
    source::facts_json::{IdJson, InstantJson},
    wire::one_line,
};

/// An SMS or a count.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct SetAside {
    subscription_id: IdJson,
    /// When; none where it was found at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<InstantJson>,
    #[serde(flatten)]
    what: What,
    reason: String,
}

/// What is set aside.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum What {
    /// An SMS.
    Sms {
        /// Its ID, whatever it is.
        sms_id: String,
        /// What it cost.
        credits: u32,
    },
    /// A count.
    Count {
        /// Which.
        count: String,
        /// How many.
        value: u64,
    },
}

/// How much is set aside of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) count: u64,
    pub(super) last_reason: String,
}

/// The name of the file.
pub(super) const NAME: &str = "usage.set-aside.jsonl";
/// Items that are written to the log when the disk refuses them.
const LOGGED: usize = 100;
/// Of the file.
const MOST_BYTES: usize = 1 << 20;
/// Of a reason, which comes from outside.
const MOST_REASON: usize = 200;

impl SetAside {
    pub(super) fn new(
        id: SubscriptionId,
        at: Option<crate::domain::Instant>,
        what: What,
        reason: &str,
    ) -> Self {
        let reason = one_line(reason, MOST_REASON);
        Self { subscription_id: IdJson(id), at: at.map(InstantJson), what, reason }
    }

    pub(super) const fn id(&self) -> SubscriptionId {
        self.subscription_id.0
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) const fn is_sms(&self) -> bool {
        matches!(self.what, What::Sms { .. })
    }

    /// As it stands in the file.
    pub(super) fn line(&self) -> String {
        // Texts and numbers alone: there is no way to fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Puts `items` at the end of the file in `folder`.
pub(super) fn append(folder: &Path, items: &[SetAside]) -> io::Result<()> {
    let before = read(folder)?;
    let new: Vec<String> = items.iter().map(SetAside::line).collect();
    let mut lines: VecDeque<&str> = before.lines().chain(new.iter().map(String::as_str)).collect();
    let mut bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    while MOST_BYTES < bytes
        && let Some(oldest) = lines.pop_front()
    {
        bytes -= oldest.len() + 1;
    }
    let text: String = lines.into_iter().flat_map(|line| [line, "\n"]).collect();
    folder::make(folder)?;
    folder::replace(folder, NAME, text.as_bytes())
}

/// How much the file in `folder` holds of each subscription; what does not read is passed over.
pub(super) fn totals(folder: &Path) -> BTreeMap<SubscriptionId, Total> {
    let mut totals: BTreeMap<SubscriptionId, Total> = BTreeMap::new();
    let text = read(folder).unwrap_or_default();
    for item in text.lines().filter_map(|line| serde_json::from_str::<SetAside>(line).ok()) {
        note(&mut totals, &item);
    }
    totals
}

pub(super) fn note(totals: &mut BTreeMap<SubscriptionId, Total>, item: &SetAside) {
    let total = totals.entry(item.id()).or_default();
    total.count = total.count.saturating_add(1);
    item.reason.clone_into(&mut total.last_reason);
}

fn read(folder: &Path) -> io::Result<String> {
    let mut contents = Vec::new();
    if let Some(mut file) = folder::open(&folder.join(NAME))? {
        file.read_to_end(&mut contents)?;
    }
    Ok(String::from_utf8_lossy(&contents).into_owned())
}

impl Inner {
    pub(super) fn put_aside(&self, medium: &Medium) {
        match medium {
            Medium::Memory | Medium::Unread(_) => self.write_aside(None),
            Medium::Disk(_, folder) => self.write_aside(Some(folder)),
        }
    }

    /// Puts what is to be set aside into its file. Should the disk refuse, the log alone has it: it must keep nothing back.
    pub(super) fn write_aside(&self, folder: Option<&Path>) {
        let aside = self.state().take_aside();
        let Some(last) = aside.last() else { return };
        let sms = aside.iter().filter(|item| item.is_sms()).count();
        self.sms_set_aside.add(0, sms as u64);
        self.counts_set_aside.add(0, (aside.len() - sms) as u64);
        let path = folder.map(|folder| folder.join(NAME).display().to_string());
        match folder.map_or(Ok(()), |folder| append(folder, &aside)) {
            Ok(()) => error!(
                subscription = %last.id(),
                items = aside.len(),
                file = path,
                "usage will never be taken by the licensing backend and is set aside: {}",
                last.reason()
            ),
            Err(error) => {
                let lines: Vec<String> = aside.iter().take(LOGGED).map(SetAside::line).collect();
                error!(
                    items = aside.len(),
                    "usage will never be taken by the licensing backend, and cannot be set aside on disk ({error}): {}",
                    lines.join(" ")
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sms(number: usize) -> SetAside {
        let id = "3A8-WN7-7TD".parse().unwrap();
        SetAside::new(id, None, What::Sms { sms_id: format!("a\n{number}"), credits: 2 }, "because\nof this")
    }

    #[test]
    fn the_newest_are_kept_within_the_bound_one_on_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let many: Vec<SetAside> = (0..20_000).map(sms).collect();
        append(folder.path(), &many).unwrap();
        append(folder.path(), &[sms(20_000)]).unwrap();
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert!(text.len() <= MOST_BYTES && MOST_BYTES / 2 < text.len(), "{} bytes", text.len());
        let last =
            r#"{"subscription_id":"3A8-WN7-7TD","sms_id":"a\n20000","credits":2,"reason":"because�of this"}"#;
        assert_eq!(text.lines().last(), Some(last));
        let total = totals(folder.path()).into_values().next().unwrap();
        assert_eq!(total.count, text.lines().count() as u64);
    }
}

//! Who may ask what: the table `[[callers]]`.
//!
//! Not here: how a caller is told apart (see `edge`), and what comes of it (see `enforcement`).

use std::{collections::BTreeSet, num::NonZeroU32};

use serde::Deserialize;

use super::Reader;
use crate::{
    domain::{Operation, SubscriptionId},
    names::Named as _,
};

/// One row: a caller and what it may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `name`: what it is called in the log and in refusals.
    pub name: String,
    /// How it is known.
    pub identity: Identity,
    /// `operations`: those it may ask about; default what its role asks.
    pub operations: BTreeSet<&'static str>,
    /// `subscriptions`: those it may ask about; default all.
    pub subscriptions: Option<BTreeSet<SubscriptionId>>,
    /// `vouches_for_administrators`: whether the role it names for an actor counts (semantics 4.4).
    pub vouches_for_administrators: bool,
    /// `reads`: whether it may see and watch subscriptions, and simulate.
    pub reads: bool,
    /// `reports_usage`: whether it may report usage.
    pub reports_usage: bool,
    /// `refreshes`: whether it may ask for a refresh.
    pub refreshes: bool,
    /// `questions_per_second` and `burst`: how many questions it may ask; default any number.
    pub quota: Option<Quota>,
}

/// How a caller is known. Exactly one is given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// `certificate`: a DNS name or URI (SPIFFE ID) in its certificate.
    Certificate(String),
    /// `user`: the number of a user, on a Unix socket.
    User(u32),
    /// `loopback = true`: whoever calls from this machine over TCP without a certificate.
    Loopback,
}

/// How many questions a caller may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// In a second, in the long run.
    pub per_second: NonZeroU32,
    /// At once, after a silence.
    pub burst: NonZeroU32,
}

/// What a kind of caller may ask, unless its row says otherwise.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    AuthenticationServer,
    ProvisioningServer,
    Probe,
}

/// A row as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    role: Role,
    certificate: Option<String>,
    user: Option<u32>,
    loopback: Option<bool>,
    operations: Option<Vec<String>>,
    subscriptions: Option<Vec<String>>,
    vouches_for_administrators: Option<bool>,
    reads: Option<bool>,
    reports_usage: Option<bool>,
    refreshes: Option<bool>,
    questions_per_second: Option<NonZeroU32>,
    burst: Option<NonZeroU32>,
}

/// Reads the table; without one there is none, which is not the same as an empty one.
pub(super) fn read(reader: &mut Reader) -> Option<Vec<Caller>> {
    let rows = reader.tables("callers")?;
    let mut callers: Vec<Caller> = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let key = |field: &str| format!("callers[{number}]{field}");
        let row = match row.deserialize::<Row>() {
            Ok(row) => row,
            Err(error) => {
                let field = error.path.iter().fold(String::new(), |path, part| format!("{path}.{part}"));
                reader.fault(&key(&field), error.kind.to_string());
                continue;
            }
        };
        let Some(caller) = caller(row, |field, what| reader.fault(&key(field), what)) else { continue };
        if let Some(twin) = callers.iter().find(|other| other.identity == caller.identity) {
            reader.fault(&key(""), format!("it is known the same way as `{}`", twin.name));
        }
        callers.push(caller);
    }
    Some(callers)
}

fn caller(row: Row, mut fault: impl FnMut(&str, String)) -> Option<Caller> {
    let Row {
        name,
        role,
        certificate,
        user,
        loopback,
        operations,
        subscriptions,
        vouches_for_administrators,
        reads,
        reports_usage,
        refreshes,
        questions_per_second,
        burst,
    } = row;
    let serves_users = matches!(role, Role::AuthenticationServer);
    let quota =
        questions_per_second.map(|per_second| Quota { per_second, burst: burst.unwrap_or(per_second) });
    if quota.is_none() && burst.is_some() {
        fault(".burst", "it goes with `questions_per_second`".to_owned());
    }
    let identities = [
        certificate.map(Identity::Certificate),
        user.map(Identity::User),
        loopback.filter(|loopback| *loopback).map(|_| Identity::Loopback),
    ];
    let identity = match identities.into_iter().flatten().collect::<Vec<_>>().as_slice() {
        [identity] => Some(identity.clone()),
        _ => {
            fault(
                "",
                "say how it is known, in one way: `certificate`, `user` or `loopback = true`".to_owned(),
            );
            None
        }
    };
    let named = operations.map(|names| {
        let read = names.iter().filter_map(|name| {
            let known = Operation::ALL.into_iter().find(|operation| operation.name() == name);
            if known.is_none() {
                fault(".operations", format!("`{name}` is no operation"));
            }
            known.map(|operation| operation.name())
        });
        read.collect()
    });
    let subscriptions = subscriptions.map(|ids| {
        let read = ids.iter().filter_map(|id| {
            let read = id.parse::<SubscriptionId>().ok();
            if read.is_none() {
                fault(
                    ".subscriptions",
                    format!("`{id}` is no public license ID; it looks like `3A8-WN7-7TD`"),
                );
            }
            read
        });
        read.collect()
    });
    Some(Caller {
        name,
        identity: identity?,
        operations: named.unwrap_or_else(|| role.operations()),
        subscriptions,
        vouches_for_administrators: vouches_for_administrators.unwrap_or(serves_users),
        reads: reads.unwrap_or(serves_users),
        reports_usage: reports_usage.unwrap_or(serves_users),
        refreshes: refreshes.unwrap_or(serves_users),
        quota,
    })
}

impl Role {
    fn operations(self) -> BTreeSet<&'static str> {
        match self {
            Self::AuthenticationServer => {
                Operation::ALL.into_iter().map(|operation| operation.name()).collect()
            }
            // It asks before Send Application, and nothing else (footnote 1).
            Self::ProvisioningServer => BTreeSet::from([Operation::ProvisionUsers.name()]),
            // Health is told to anybody.
            Self::Probe => BTreeSet::new(),
        }
    }
}

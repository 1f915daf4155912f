//! Who may ask what: the table `[[callers]]`.
//!
//! Not here: how a caller is told apart (see `edge`), and what comes of it (see `enforcement`).

use std::{collections::BTreeSet, num::NonZeroU32};

use figment::error::Kind;
use serde::Deserialize;

use super::{Reader, repeated::without};
use crate::{
    domain::{Operation, SubscriptionId},
    edge::tls::DnsName,
    names::Named as _,
    wire,
};

/// One row: a caller and what it may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `name`: what it is called in the log, in refusals and on the page of metrics; its share of what there is room for
    /// and its quota are of this name, too.
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
    /// `certificate_dns`: a DNS name in its certificate, in any case of letters.
    Dns(DnsName),
    /// `certificate_uri`: a URI (SPIFFE ID) in its certificate, letter for letter.
    Uri(String),
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
    /// What `certificate_dns` and `certificate_uri` were: an authority that is held to DNS names could give it as a URI.
    certificate: Option<String>,
    certificate_dns: Option<String>,
    certificate_uri: Option<String>,
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
                reader.fault(&key(&field), in_words(&error.kind));
                continue;
            }
        };
        let Some(caller) = caller(row, |field, what| reader.fault(&key(field), what)) else { continue };
        if let Some(twin) = callers.iter().find(|other| other.identity == caller.identity) {
            reader.fault(&key(""), format!("it is known the same way as `{}`", twin.name));
        }
        if callers.iter().any(|other| other.name == caller.name) {
            reader.fault(
                &key(".name"),
                format!("another row is called `{}`; choose another name", caller.name),
            );
        }
        callers.push(caller);
    }
    Some(callers)
}

/// What is wrong with a row, in words that repeat nothing of it but the names of keys.
fn in_words(kind: &Kind) -> String {
    let one_of = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match kind {
        Kind::MissingField(name) => format!("`{name}` is missing"),
        Kind::UnknownField(_, known) => format!("there is no such key; there are {}", one_of(known)),
        Kind::UnknownVariant(_, known) => format!("it is none of {}", one_of(known)),
        Kind::InvalidType(_, wanted) | Kind::InvalidValue(_, wanted) | Kind::InvalidLength(_, wanted) => {
            let wanted = match wanted.as_str() {
                "a string" => "a text in quotes",
                "a boolean" => "`true` or `false`",
                "a sequence" => "an array of texts",
                "u32" => "a whole number",
                "a nonzero u32" => "a whole number from 1",
                other => other,
            };
            format!("{wanted} is expected here")
        }
        Kind::Message(_)
        | Kind::DuplicateField(_)
        | Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..) => "something else is expected here".to_owned(),
    }
}

/// What whoever is in no row is called, with a table and without one.
const RESERVED: [&str; 2] = ["unknown", "anybody"];

/// Characters in the name of a row.
const LONGEST_NAME: usize = 255;

const EMPTY: &str = "it is empty; write a name";

fn caller(row: Row, mut fault: impl FnMut(&str, String)) -> Option<Caller> {
    let Row {
        name,
        role,
        certificate,
        certificate_dns,
        certificate_uri,
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
    if let Err(what) = name_of(&name) {
        fault(".name", what);
    }
    let is_certificate_refused = certificate.is_some();
    if let Some(name) = certificate {
        let key = if name.contains("://") { "certificate_uri" } else { "certificate_dns" };
        fault(".certificate", format!("names of different kinds are told apart; call this one `{key}`"));
    }
    let count =
        [certificate_dns.is_some(), certificate_uri.is_some(), user.is_some(), loopback == Some(true)];
    if !is_certificate_refused && count.into_iter().filter(|given| *given).count() != 1 {
        let what = "say how it is known, in one way: `certificate_dns`, `certificate_uri`, `user` or `loopback = true`";
        fault("", what.to_owned());
    }
    let dns =
        certificate_dns.and_then(|name| dns_of(&name).map_err(|what| fault(".certificate_dns", what)).ok());
    let uri =
        certificate_uri.and_then(|uri| uri_of(&uri).map_err(|what| fault(".certificate_uri", what)).ok());
    let identity = dns
        .map(Identity::Dns)
        .or(uri.map(Identity::Uri))
        .or(user.map(Identity::User))
        .or(loopback.filter(|loopback| *loopback).map(|_| Identity::Loopback));
    let named = operations.map(|names| {
        let read = names.iter().filter_map(|name| {
            let known = Operation::ALL.into_iter().find(|operation| operation.name() == name);
            if known.is_none() {
                fault(".operations", without(&format!("`{name}` is no operation"), name));
            }
            known.map(|operation| operation.name())
        });
        read.collect()
    });
    let subscriptions = subscriptions.map(|ids| {
        let read = ids.iter().filter_map(|id| {
            let read = id.parse::<SubscriptionId>().ok();
            if read.is_none() {
                let what = format!("`{id}` is no public license ID; it looks like `3A8-WN7-7TD`");
                fault(".subscriptions", without(&what, id));
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

/// A name is told in logs and on the page of metrics, where one that is not seen is none.
fn name_of(name: &str) -> Result<(), String> {
    if name.trim().is_empty() {
        return Err(EMPTY.to_owned());
    }
    if name.trim() != name {
        return Err("it begins or ends with a blank; leave that out".to_owned());
    }
    wire::text("name", name, 1, LONGEST_NAME).map_err(|unreadable| unreadable.what)?;
    if RESERVED.contains(&name) {
        return Err(format!("`{name}` is what callers are called that no row knows; choose another"));
    }
    Ok(())
}

/// A DNS name in a certificate.
fn dns_of(text: &str) -> Result<DnsName, String> {
    if text.trim().is_empty() {
        return Err(EMPTY.to_owned());
    }
    text.parse::<DnsName>().map_err(|error| without(&error.to_string(), text))
}

/// A URI as certificates have it: a scheme and what follows, in ASCII.
fn uri_of(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err(EMPTY.to_owned());
    }
    let scheme = text.split_once(':').filter(|(_, rest)| !rest.is_empty()).map(|(scheme, _)| scheme);
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    if scheme.is_some_and(is_scheme) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let what = format!("`{text}` is not a URI; it looks like `spiffe://example.org/esa/auth-1`");
    Err(without(&what, text))
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

//! The file of the last facts, line by line: a header, and a subscription on each further line.
//!
//! Not here: how it comes to be on the disk whole (see the parent). Format 1, of versions before there were signatures,
//! is still read.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Persisted, PersistedRecord, Trusted};
use crate::{
    domain::Instant,
    proto::licensing::SignedFacts,
    sha256,
    signing::{Refused, VerifiedFacts},
    source::{
        Proof, Told,
        facts_json::{self, FactsJson, InstantJson, Object},
    },
};

const FORMAT: &str = "esa-sidecar facts 2";
const FORMAT_1: &str = "esa-sidecar facts 1";

/// A file that reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// What may be used.
    pub(super) persisted: Persisted,
    /// What may not.
    pub(super) refused: Vec<RefusedLine>,
}

/// A subscription that is not taken from the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RefusedLine {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) why: Refused,
}

/// The first line; each further line is a `Line`.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    source: String,
    /// Of all facts, in format 1; since then each has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    as_of: Option<InstantJson>,
    /// In format 1. No signature vouches for it, so it is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_at: Option<InstantJson>,
    revision: u64,
    subscriptions: usize,
    /// SHA-256 of all that follows this line.
    sha256: String,
}

/// A subscription: facts as the backend signed them, or facts nobody signed.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    revision: u64,
    overuse_seen: Option<InstantJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed: Option<Object<SignedJson>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    as_of: Option<InstantJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    facts: Option<FactsJson>,
}

/// Signed facts as they came, every byte, in base64.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SignedJson {
    payload: String,
    signature: String,
    key_id: String,
}

/// The header, and all that follows it.
pub(super) fn render(persisted: &Persisted) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let Persisted { source, revision, records } = persisted;
    let mut body = Vec::new();
    for PersistedRecord { told, as_of, revision, overuse_seen } in records {
        let (revision, overuse_seen) = (*revision, overuse_seen.map(InstantJson));
        let line = match &told.proof {
            Some(Proof { signed, .. }) => {
                let signed = Some(Object(SignedJson::from(signed)));
                Line { revision, overuse_seen, signed, as_of: None, facts: None }
            }
            None => {
                let (as_of, facts) = (Some(InstantJson(*as_of)), Some((&told.facts).into()));
                Line { revision, overuse_seen, signed: None, as_of, facts }
            }
        };
        serde_json::to_writer(&mut body, &line)?;
        body.push(b'\n');
    }
    let mut header = serde_json::to_vec(&Header {
        format: FORMAT.to_owned(),
        source: source.clone(),
        as_of: None,
        issued_at: None,
        revision: *revision,
        subscriptions: records.len(),
        sha256: sha256::hex(&body),
    })?;
    header.push(b'\n');
    Ok((header, body))
}

/// Reads the whole file; what is damaged in it, or what is in it and what may not be used.
pub(super) fn parse(contents: &[u8], trusted: Option<&Trusted>) -> Result<Parsed, String> {
    let end = contents.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let (header, body) = contents.split_at(end + 1);
    let header: Header = read(header, 1)?;
    if header.format != FORMAT && header.format != FORMAT_1 {
        return Err(format!("its format is `{}`, not `{FORMAT}`", header.format));
    }
    if header.sha256 != sha256::hex(body) {
        return Err("its SHA-256 does not match its contents".to_owned());
    }
    let mut persisted = Persisted { source: header.source, revision: header.revision, records: Vec::new() };
    let mut refused = Vec::new();
    let mut lines = 0;
    for (line, number) in body.split_inclusive(|byte| *byte == b'\n').zip(2..) {
        lines += 1;
        let line: Line = read(line, number)?;
        let told = line.told(header.as_of, trusted).map_err(|what| format!("line {number}: {what}"))?;
        match told {
            Ok(record) => persisted.records.push(record),
            Err(why) => refused.push(RefusedLine { line: number, why }),
        }
    }
    if lines != header.subscriptions {
        return Err(format!("it holds {lines} subscriptions, not {}", header.subscriptions));
    }
    Ok(Parsed { persisted, refused })
}

fn read<T: DeserializeOwned>(line: &[u8], number: usize) -> Result<T, String> {
    let read: Result<Object<T>, _> = facts_json::read(line);
    read.map(|Object(read)| read).map_err(|error| format!("line {number}: {error}"))
}

impl Line {
    /// What it tells, or why that is not to be used; what is wrong with it when it is neither.
    fn told(
        self,
        as_of_all: Option<InstantJson>,
        trusted: Option<&Trusted>,
    ) -> Result<Result<PersistedRecord, Refused>, String> {
        let Self { revision, overuse_seen, signed, as_of, facts } = self;
        let overuse_seen = overuse_seen.map(|seen| seen.0);
        let record = |told, as_of| PersistedRecord { told, as_of, revision, overuse_seen };
        match (signed, facts, as_of.or(as_of_all)) {
            (Some(Object(signed)), None, None) => {
                let nobody = Trusted::default();
                Ok(verified(signed.try_into()?, trusted.unwrap_or(&nobody))
                    .map(|(told, issued_at)| record(told, issued_at)))
            }
            // Whoever is told signed facts keeps no others: what is not signed has been put there.
            (None, Some(_), Some(_)) if trusted.is_some() => Ok(Err(Refused::Unsigned)),
            (None, Some(facts), Some(InstantJson(as_of))) => {
                Ok(Ok(record(Told { facts: facts.into(), proof: None }, as_of)))
            }
            _ => Err("it has neither `signed` alone nor `facts` with `as_of`".to_owned()),
        }
    }
}

/// Kept facts are verified like those that come over the wire: somebody may have put them there.
fn verified(signed: SignedFacts, trusted: &Trusted) -> Result<(Told, Instant), Refused> {
    let told = trusted.keys.verify(&signed)?;
    trusted.issued_to.check(&told)?;
    let VerifiedFacts { sequence, issued_at, nonce: _, unit_id: _, facts } = told;
    Ok((Told { facts, proof: Some(Proof { signed, sequence, issued_at }) }, issued_at))
}

impl From<&SignedFacts> for SignedJson {
    fn from(signed: &SignedFacts) -> Self {
        let SignedFacts { payload, signature, key_id } = signed;
        Self {
            payload: STANDARD.encode(payload),
            signature: STANDARD.encode(signature),
            key_id: key_id.clone(),
        }
    }
}

impl TryFrom<SignedJson> for SignedFacts {
    type Error = String;

    fn try_from(json: SignedJson) -> Result<Self, String> {
        let SignedJson { payload, signature, key_id } = json;
        let bytes = |text, field| {
            STANDARD.decode(text).map_err(|error| format!("`signed.{field}` is no base64: {error}"))
        };
        Ok(Self { payload: bytes(payload, "payload")?, signature: bytes(signature, "signature")?, key_id })
    }
}

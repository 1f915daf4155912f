//! Pages: how many at most, and tokens that say where the last one ended.
//!
//! A token holds a place in an order, not a number of rows to skip: it survives whatever changes in between. It belongs
//! to one list and says so when it is used for another. Not here: the lists.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{licensing::refusal::Refusal, sha256};

const USUAL: usize = 50;
const MOST: usize = 1_000;

/// Bytes of the messages on a page.
pub(in crate::licensing) const BYTES: usize = 1 << 20;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Token<P> {
    list: String,
    place: P,
}

/// How many a page holds.
pub(super) fn size(asked: i32) -> Result<usize, Refusal> {
    match usize::try_from(asked) {
        Ok(0) => Ok(USUAL),
        Ok(size) if size <= MOST => Ok(size),
        _ => Err(Refusal::unreadable(
            "page_size",
            format!("{asked}; a page holds 1 to {MOST}, or 0 for {USUAL}"),
        )),
    }
}

/// Which list a request is about: the request without its page.
pub(super) fn list(request: &impl Message, caller: &str) -> String {
    let written = [caller.as_bytes(), &request.encode_to_vec()].concat();
    sha256::hex(&written).chars().take(16).collect()
}

/// Longest token, in bytes: a place is a sorted value and two IDs. What is read of a long one takes many times its memory.
const LONGEST: usize = 16 << 10;

/// The place a token names; none for the first page.
pub(super) fn place<P: DeserializeOwned>(token: &str, list: &str) -> Result<Option<P>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let malformed = || Refusal::unreadable("page_token", "it does not read; begin with the first page");
    if LONGEST < token.len() {
        return Err(malformed());
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
    let token: Value = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
    // No value that is kept holds a NUL, and PostgreSQL takes none.
    if holds_nul(&token) {
        return Err(malformed());
    }
    let token: Token<P> = serde_json::from_value(token).map_err(|_| malformed())?;
    if token.list == list {
        return Ok(Some(token.place));
    }
    let what = "it is of another list; with a page token everything else has to be as it was";
    Err(Refusal::unreadable("page_token", what))
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        // Names of fields are our own, or refused.
        Value::Object(fields) => fields.values().any(holds_nul),
    }
}

/// The token of a place; empty when there is no further page.
pub(super) fn token<P: Serialize>(place: Option<P>, list: &str) -> String {
    let written = |place| serde_json::to_vec(&Token { list: list.to_owned(), place }).unwrap_or_default();
    place.map(|place| URL_SAFE_NO_PAD.encode(written(place))).unwrap_or_default()
}

/// How many of these messages a page holds: it ends by their bytes as well, or few large ones would be an answer that no
/// caller takes. One it holds whatever its size.
pub(in crate::licensing) fn fitting(bytes: impl Iterator<Item = usize>) -> usize {
    let fits = bytes.scan(0_usize, |all, bytes| {
        *all = all.saturating_add(bytes);
        Some(*all)
    });
    fits.take_while(|all| *all <= BYTES).count().max(1)
}

/// The first `size` of what was found, as far as their `bytes` fit, and the place to go on from if there was more.
pub(super) fn cut<T, P>(
    mut found: Vec<T>,
    size: usize,
    bytes: impl Fn(&T) -> usize,
    place: impl Fn(&T) -> P,
) -> (Vec<T>, Option<P>) {
    let size = size.min(fitting(found.iter().map(bytes)));
    let more = size < found.len();
    found.truncate(size);
    let place = found.last().filter(|_| more).map(place);
    (found, place)
}

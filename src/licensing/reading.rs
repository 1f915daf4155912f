//! Whose turn it is to read: its customer's, or that of where a call comes from as long as nobody knows whose it is
//! (semantics 7.39).
//!
//! What a token or a license key opened a moment ago is remembered by its hash, so that whoever has it does not wait behind
//! strangers at the same address. That decides on the line alone: what it opens now is in the database.
//! Not here: the lines themselves (see `turns`).

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
};

use super::{
    Backend,
    refusal::Refusal,
    sign_in::Address,
    turns::{Asks, Turn, Whose},
};

/// It is somebody's turn to read until this is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub(super) struct Reading {
    _turns: [Turn; 2],
    /// Whose it is, where that was known.
    customer_id: Option<String>,
}

/// Customers of what opened something lately, by what it is known by.
#[derive(Debug, Default)]
pub(super) struct RecentCustomers(Mutex<Generations>);

/// The older one is forgotten whole once the younger one is full.
#[derive(Debug, Default)]
struct Generations {
    younger: HashMap<String, String>,
    older: HashMap<String, String>,
}

/// Remembered in one generation.
const REMEMBERED: usize = 20_000;

impl RecentCustomers {
    fn of(&self, known_by: &str) -> Option<String> {
        let Generations { younger, older } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        younger.get(known_by).or_else(|| older.get(known_by)).cloned()
    }

    fn remember(&self, known_by: &str, customer_id: &str) {
        let Generations { younger, older } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if younger.contains_key(known_by) {
            return;
        }
        if REMEMBERED <= younger.len() {
            *older = mem::take(younger);
        }
        younger.insert(known_by.to_owned(), customer_id.to_owned());
    }

    fn forget(&self, known_by: &str) {
        let Generations { younger, older } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        younger.remove(known_by);
        older.remove(known_by);
    }
}

impl Reading {
    /// Whose turn it is, where that was known before anything was read.
    pub(super) fn customer_id(&self) -> Option<&str> {
        self.customer_id.as_deref()
    }
}

impl Backend {
    /// Waits for the turn of whoever comes with a token or key that is known by this.
    pub(super) async fn turn_to_look_up(
        &self,
        asks: Asks,
        known_by: &str,
        address: &Address,
    ) -> Result<Reading, Refusal> {
        match self.recent.of(known_by) {
            Some(customer_id) => self.turn_to_read(asks, known_by, &customer_id).await,
            None => self.turn_of_strangers(asks, address).await,
        }
    }

    /// Waits for the turn of a customer.
    pub(super) async fn turn_to_read(
        &self,
        asks: Asks,
        known_by: &str,
        customer_id: &str,
    ) -> Result<Reading, Refusal> {
        let own = self.turns.wait(Whose::Reader(asks, known_by)).await?;
        let customer = self.turns.wait(Whose::Readers(asks, customer_id)).await?;
        Ok(Reading { _turns: [own, customer], customer_id: Some(customer_id.to_owned()) })
    }

    /// Waits for the turn of an address.
    pub(super) async fn turn_of_strangers(&self, asks: Asks, address: &Address) -> Result<Reading, Refusal> {
        let address = self.turns.wait(Whose::Strangers(asks, address.as_str())).await?;
        let all = self.turns.wait(Whose::AllStrangers(asks)).await?;
        Ok(Reading { _turns: [address, all], customer_id: None })
    }

    /// Goes on in the line of the customer whose it is, and remembers it.
    pub(super) async fn found_out(
        &self,
        reading: Reading,
        asks: Asks,
        known_by: &str,
        customer_id: &str,
    ) -> Result<Reading, Refusal> {
        self.recent.remember(known_by, customer_id);
        if reading.customer_id() == Some(customer_id) {
            return Ok(reading);
        }
        drop(reading);
        self.turn_to_read(asks, known_by, customer_id).await
    }

    /// What is known by this opens nothing: whoever has it is a stranger.
    pub(super) fn opens_nothing(&self, known_by: &str) {
        self.recent.forget(known_by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opened_something_lately_is_remembered_and_what_did_long_ago_is_not() {
        let recent = RecentCustomers::default();
        recent.remember("first", "acme");
        for number in 0..REMEMBERED {
            recent.remember(&number.to_string(), "beta");
        }
        assert_eq!(recent.of("first").as_deref(), Some("acme"));
        for number in 0..REMEMBERED {
            recent.remember(&format!("more {number}"), "beta");
        }
        assert_eq!(recent.of("first"), None);
        recent.remember("first", "acme");
        recent.forget("first");
        assert_eq!(recent.of("first"), None);
    }
}

//! How many calls are open at a time, whatever connections they are on, and how many bytes are held for them.
//!
//! Not here: which calls share a room, and what one is told that finds no place (see `server`).

use std::sync::Arc;

use super::budget::Budget;

/// Room for so many open calls.
#[derive(Clone, Debug)]
pub struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    /// Held once by the room and once by each open call: the count of its holders is the count of calls, so that a
    /// call costs an addition and a subtraction and nothing else.
    open: Arc<()>,
    bytes: Budget,
}

/// The place of one open call; it is free again when this is dropped.
#[derive(Debug)]
pub struct OpenCall {
    _open: Arc<()>,
}

impl Room {
    /// Room for `most` calls at a time, and `bytes` of their messages.
    #[must_use]
    pub fn new(most: usize, bytes: usize) -> Self {
        Self(Arc::new(Inner { most, open: Arc::new(()), bytes: Budget::new(bytes) }))
    }

    /// How many find a place in it.
    #[must_use]
    pub fn most(&self) -> usize {
        self.0.most
    }

    /// What is held for its calls.
    #[must_use]
    pub fn bytes(&self) -> &Budget {
        &self.0.bytes
    }

    /// A place for one more call, if there is any. Of several that come at once for the last place none may get it;
    /// there are never more than `most`.
    #[must_use]
    pub fn enter(&self) -> Option<OpenCall> {
        let call = OpenCall { _open: Arc::clone(&self.0.open) };
        // The room itself holds one.
        (Arc::strong_count(&self.0.open) <= self.0.most.saturating_add(1)).then_some(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_places_as_it_says_and_each_is_free_again() {
        let room = Room::new(2, 0);
        let first = room.enter().unwrap();
        let _second = room.clone().enter().unwrap();
        // One that is refused leaves nothing behind.
        assert!(room.enter().is_none() && room.enter().is_none());
        drop(first);
        let _third = room.enter().unwrap();
        assert!(room.enter().is_none());
    }
}

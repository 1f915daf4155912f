//! What each client has: something of its own, as long as it has any of it, and places of which it has a share.
//!
//! Not here: who is one client (see `peer`), and what the places are for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::{
    peer::ClientKey,
    room::{Full, Room, Share, Size},
};

/// Something of each client.
#[derive(Debug)]
pub struct PerClient<T>(Mutex<HashMap<ClientKey, Weak<T>>>);

/// Places for what stays open, of which one client has a share at the most.
#[derive(Debug)]
pub struct Places {
    room: Room,
    most_of_client: usize,
    clients: PerClient<Share>,
}

/// A place that is taken; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place(Arc<Share>);

impl<T> PerClient<T> {
    /// What `client` has; the same as long as anybody has it.
    pub fn of(&self, client: ClientKey, new: impl FnOnce() -> T) -> Arc<T> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = clients.get(&client).and_then(Weak::upgrade) {
            return there;
        }
        // Those who have gone are forgotten before there is room made for more of them.
        if clients.len() == clients.capacity() {
            clients.retain(|_, there| 0 < there.strong_count());
        }
        let new = Arc::new(new());
        clients.insert(client, Arc::downgrade(&new));
        new
    }
}

impl<T> Default for PerClient<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl Places {
    /// So many, and so many of them for one client.
    #[must_use]
    pub fn new(most: usize, most_of_client: usize) -> Self {
        Self {
            room: Room::new(Size { calls: most, bytes: 0 }),
            most_of_client,
            clients: PerClient::default(),
        }
    }

    /// One more place for `client`, if there is any.
    pub fn take(&self, client: ClientKey) -> Result<Place, Full> {
        let size = Size { calls: self.most_of_client, bytes: 0 };
        let share = self.clients.of(client, || self.room.share(size));
        share.enter()?;
        Ok(Place(share))
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.room.taken().calls
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_with_its_share_leaves_the_rest_to_others_and_is_forgotten_when_it_has_none() {
        let places = Places::new(3, 2);
        let named = |name: &str| ClientKey::Caller(name.to_owned());
        let first = places.take(named("greedy")).unwrap();
        let second = places.take(named("greedy")).unwrap();
        assert_eq!(places.take(named("greedy")).unwrap_err(), Full::Share(2));
        let other = places.take(named("other")).unwrap();
        assert_eq!(places.take(named("third")).unwrap_err(), Full::Room(3));
        assert_eq!(places.taken(), 3);
        drop(first);
        let third = places.take(named("third")).unwrap();
        drop((second, other, third));
        assert_eq!(places.taken(), 0);
        for number in 0..1_000 {
            places.take(named(&number.to_string())).unwrap();
        }
        assert!(places.clients.0.lock().unwrap().len() < 100);
    }
}

//! How many calls are open at a time, whatever connections they are on, and how many bytes are held for them: in all,
//! and of each caller, so that none takes the room of others.
//!
//! Not here: which calls share a room, who is one caller, and what one is told that finds no place (see `server`).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Room for so much.
#[derive(Clone, Debug)]
pub struct Room(Arc<Count>);

/// One caller's share of a room.
#[derive(Clone, Debug)]
pub struct Share(Arc<Part>);

#[derive(Debug)]
struct Part {
    own: Count,
    room: Room,
}

/// How much there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Calls open at a time.
    pub calls: usize,
    /// Bytes held of their messages.
    pub bytes: usize,
}

#[derive(Debug)]
struct Count {
    size: Size,
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

/// What is held for a call; nothing any more when this is dropped.
#[derive(Debug)]
pub struct Held {
    share: Share,
    bytes: AtomicUsize,
}

/// What is full, and how much it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The room.
    Room(usize),
    /// The caller's share of it.
    Share(usize),
}

impl Full {
    /// How much it takes.
    #[must_use]
    pub const fn most(self) -> usize {
        match self {
            Self::Room(most) | Self::Share(most) => most,
        }
    }
}

impl Room {
    /// Room for so much.
    #[must_use]
    pub fn new(size: Size) -> Self {
        Self(Arc::new(Count::new(size)))
    }

    /// How much of it is taken now.
    #[must_use]
    pub fn taken(&self) -> Size {
        self.0.taken()
    }

    /// The share of one more caller.
    #[must_use]
    pub fn share(&self, size: Size) -> Share {
        Share(Arc::new(Part { own: Count::new(size), room: self.clone() }))
    }
}

impl Share {
    /// Takes a place for one more call, if there is any, until the call leaves it.
    pub fn enter(&self) -> Result<(), Full> {
        let Part { own, room: Room(all) } = &*self.0;
        if !take(&own.calls, 1, own.size.calls) {
            return Err(Full::Share(own.size.calls));
        }
        if !take(&all.calls, 1, all.size.calls) {
            give_back(&own.calls, 1);
            return Err(Full::Room(all.size.calls));
        }
        Ok(())
    }

    /// How much of it is taken now.
    #[must_use]
    pub fn taken(&self) -> Size {
        self.0.own.taken()
    }

    /// Gives back the place of a call that entered.
    pub fn leave(&self) {
        let Part { own, room: Room(all) } = &*self.0;
        give_back(&own.calls, 1);
        give_back(&all.calls, 1);
    }

    /// Nothing yet, of what the call sends or hears.
    #[must_use]
    pub fn hold(&self) -> Held {
        Held { share: self.clone(), bytes: AtomicUsize::new(0) }
    }
}

impl Held {
    /// From now on `bytes` are held, in place of those before. Where there is no room for them nothing is held.
    pub fn set(&self, bytes: usize) -> Result<(), Full> {
        let Part { own, room: Room(all) } = &*self.share.0;
        let before = self.bytes.swap(0, Ordering::Relaxed);
        if 0 < before {
            give_back(&own.bytes, before);
            give_back(&all.bytes, before);
        }
        if bytes == 0 {
            return Ok(());
        }
        if !take(&own.bytes, bytes, own.size.bytes) {
            return Err(Full::Share(own.size.bytes));
        }
        if !take(&all.bytes, bytes, all.size.bytes) {
            give_back(&own.bytes, bytes);
            return Err(Full::Room(all.size.bytes));
        }
        // Of two that set it at once neither may be forgotten.
        let other = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        debug_assert_eq!(other, 0, "one message at a time");
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _nothing_is_always_held = self.set(0);
    }
}

impl Count {
    fn new(size: Size) -> Self {
        Self { size, calls: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    fn taken(&self) -> Size {
        Size { calls: self.calls.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// Whether there is room for `more`. Of several that come at once for the last of it none may get it; there is never
/// more than `most`. Nothing else is read or written by it: the number alone counts.
fn take(taken: &AtomicUsize, more: usize, most: usize) -> bool {
    if most < more {
        return false;
    }
    let before = taken.fetch_add(more, Ordering::Relaxed);
    let fits = before <= most - more;
    if !fits {
        give_back(taken, more);
    }
    fits
}

fn give_back(taken: &AtomicUsize, less: usize) {
    let before = taken.fetch_sub(less, Ordering::Relaxed);
    debug_assert!(less <= before, "{less} given back of {before}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(calls: usize, bytes: usize) -> Size {
        Size { calls, bytes }
    }

    #[test]
    fn there_are_as_many_places_as_it_says_and_each_is_free_again() {
        let share = Room::new(size(2, 0)).share(size(9, 0));
        assert_eq!((share.enter(), share.clone().enter()), (Ok(()), Ok(())));
        // One that is refused leaves nothing behind.
        assert_eq!(share.enter().unwrap_err(), Full::Room(2));
        assert_eq!(share.enter().unwrap_err(), Full::Room(2));
        share.leave();
        assert_eq!((share.enter(), share.enter()), (Ok(()), Err(Full::Room(2))));
    }

    #[test]
    fn a_caller_that_has_its_share_leaves_the_rest_to_others() {
        let room = Room::new(size(3, 10));
        let (greedy, other) = (room.share(size(2, 6)), room.share(size(2, 6)));
        assert_eq!([greedy.enter(), greedy.enter(), greedy.enter()], [Ok(()), Ok(()), Err(Full::Share(2))]);
        assert_eq!([other.enter(), other.enter()], [Ok(()), Err(Full::Room(3))]);
        let (first, second) = (greedy.hold(), greedy.hold());
        assert_eq!((first.set(4), second.set(3)), (Ok(()), Err(Full::Share(6))));
        assert_eq!((second.set(2), other.hold().set(5)), (Ok(()), Err(Full::Room(10))));
        assert_eq!(other.hold().set(4), Ok(()));
        drop((first, second));
        greedy.leave();
        assert!(other.enter().is_ok() && other.hold().set(6).is_ok());
    }

    #[test]
    fn bytes_are_held_up_to_the_bound_and_free_again() {
        let call = Room::new(size(1, 10)).share(size(1, 99));
        let (first, second) = (call.hold(), call.hold());
        assert!(first.set(6).is_ok());
        assert!(second.set(4).is_ok() && second.set(5).is_err() && second.set(4).is_ok());
        assert!(call.hold().set(1).is_err() && call.hold().set(0).is_ok());
        assert!(first.set(3).is_ok() && call.hold().set(3).is_ok());
        drop(second);
        assert!(call.hold().set(7).is_ok());
        assert!(call.hold().set(8).is_err() && call.hold().set(usize::MAX).is_err());
    }
}

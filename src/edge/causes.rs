//! An error and what caused it, down to the bottom.
//!
//! Not here: what people are told of it (see each place where an error is told).

use std::{error::Error, io, iter};

/// An error, its cause, the cause of that, and so on. What an error of input and output carries is its cause: it hides
/// it from those who ask for its source.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error| cause_of(*error))
}

fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(carried) => Some(carried),
        None => error.source(),
    }
}

/// All of it in one line. What says the same as the one before is said once.
#[must_use]
pub fn in_full(error: &(dyn Error + 'static)) -> String {
    let mut said: Vec<String> = causes(error).map(ToString::to_string).collect();
    said.dedup();
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it ended")]
    struct Ended(#[source] io::Error);

    #[test]
    fn what_an_error_carries_is_said_and_once() {
        let bottom = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = Ended(io::Error::other(Ended(bottom)));
        assert_eq!(in_full(&error), "it ended: connection reset");
        let error = Ended(io::Error::other("too late"));
        assert_eq!(in_full(&error), "it ended: too late");
        assert_eq!(in_full(&io::Error::other("alone")), "alone");
    }
}

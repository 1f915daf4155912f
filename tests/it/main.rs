//! The integration tests, in one binary: a whole sidecar behind real sockets, with a clock turned by hand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod cli;
mod drain;
mod health;
mod layers;
mod names;
mod persistence;
mod publication;
mod questions;
mod refreshing;
mod sidecar;
mod watching;

//! The integration tests, in one binary: a whole sidecar behind real sockets, with a clock turned by hand.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]
#![expect(clippy::print_stdout, reason = "a test may tell what it measured")]

mod backend;
mod callers;
mod certificates;
mod cli;
mod client_tls;
mod connections;
mod crashes;
mod drain;
mod health;
mod keys;
mod layers;
mod licensing;
mod names;
mod overload;
mod persistence;
mod publication;
mod questions;
mod quotas;
mod refreshing;
mod revocation;
mod scripted_backend;
mod sidecar;
mod starvation;
mod syncing;
mod unit_management;
mod usage_kills;
mod watching;
mod wire;

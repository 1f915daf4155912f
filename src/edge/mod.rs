//! Where calls come in: addresses, listeners, and the connections on them.
//!
//! Not here: what a call means (see `enforcement`), and which services are on a listener (see `server`).

mod accept;
mod activity;
pub mod address;
mod at_once;
pub mod bounds;
mod by_client;
pub mod causes;
pub mod clients;
mod connection;
mod first_bytes;
mod frames;
mod gate;
pub mod listener;
mod overhead;
pub mod passed;
pub mod peer;
mod queue;
mod rarely;
pub mod remote;
pub mod room;
mod seen;
pub mod socket_file;
mod socket_lock;
mod streams;
mod tallied;
pub mod tls;
mod together;
mod workers;

pub use self::{
    accept::{Acceptor, Ending},
    seen::Connections,
    tallied::{Loss, Tallied},
    workers::{Workers, WorkersError, serve_here},
};

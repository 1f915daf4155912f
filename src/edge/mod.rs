//! Where calls come in: addresses and listeners.
//!
//! Not here: what a call means (see `enforcement`).

pub mod address;
pub mod backend;
pub mod listener;

//! The licensing backend: licences, units, accounts, and the facts that follow for every subscription.
//!
//! The authority behind the sidecar. The sidecar that runs in the same process goes through the same door as any
//! other. Not here: the rules themselves (see `domain`).

pub mod store;

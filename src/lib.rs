//! ESA Sidecar tells an authentication server what its subscription allows.
//!
//! ```text
//!  licensing backend ─▶ source ─▶ refresh ─▶ cache ─▶ decision ─▶ response
//!   (authority)          facts     derive     publish   operation,   access,
//!                        told      timeline   load once instant      reason, until
//! ```
//!
//! Facts flow one way; each room leans only on those before it. Modules in reading order:
//!
//! | module | what it is |
//! |---|---|
//! | [`domain`] | the rules of the two documents, pure: facts × instant × question → decision |
//! | [`names`], [`rfc3339`], [`sha256`] | how the domain's values, instants and digests are written |
//! | [`tally`] | counts that many threads add to |
//! | [`escape`] | text from elsewhere, made safe to show |
//! | [`byte_order_mark`] | text files as editors save them |
//! | [`folder`] | files that are their owner's alone, replaced whole |
//! | [`wire`] | facts and instants as the protocol carries them |
//! | [`backoff`] | how long to wait before asking again |
//! | [`signing`] | who vouches for facts: keys, signatures, and what is refused |
//! | [`clock`] | the only door for the present |
//! | [`source`] | where facts come from |
//! | [`cache`] | the published snapshots, read without a lock |
//! | [`refresh`] | fetch, derive, persist, publish |
//! | [`freshness`] | how old facts may be |
//! | [`proto`], [`enforcement`] | the question on the wire and its answer |
//! | [`health`] | ready, alive, in sync |
//! | [`licensing`] | the authority: licences, units, accounts, audit |
//! | [`config`], [`telemetry`], [`edge`] | what an operator sets, sees, and opens |
//! | [`server`] | puts them together |
//! | [`cli`] | the command line |
//!
//! Words: a **subscription** is what the sidecar holds and enforces; **facts** are what it is told about one;
//! **conditions**, **state** and **timeline** are what follows; a **decision** answers one question at one instant. A
//! **licence** and the **units** activated with it are what the licensing backend manages.

pub mod backoff;
pub mod byte_order_mark;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod edge;
pub mod enforcement;
pub mod escape;
pub mod folder;
pub mod freshness;
pub mod health;
pub mod licensing;
pub mod names;
pub mod proto;
pub mod refresh;
pub mod rfc3339;
pub mod server;
pub mod sha256;
pub mod signing;
pub mod source;
pub mod tally;
pub mod telemetry;
pub mod wire;

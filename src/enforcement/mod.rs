//! The question on the wire and its answer: `esa.enforcement.v1`.
//!
//! Not here: what the answer is (see `domain`), and where facts come from (see `refresh`).

mod answer;
pub mod caller;
mod callers;
pub mod convert;
mod describe;
mod refusal;
mod service;
mod simulate;
mod table;
mod watch;

pub use self::{callers::Callers, refusal::DOMAIN, service::Enforcement};

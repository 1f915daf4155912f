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
mod tallied;
mod watch;

pub use self::{
    caller::CallerRefusals, callers::Callers, refusal::DOMAIN, service::Enforcement, tallied::Tallied,
};

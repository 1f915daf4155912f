//! The question on the wire and its answer: `esa.enforcement.v1`.
//!
//! Not here: what the answer is (see `domain`), and where facts come from (see `refresh`).

mod answer;
pub mod caller;
pub mod convert;
mod describe;
mod refusal;
mod service;
mod simulate;
mod table;
mod watch;

pub use self::{refusal::DOMAIN, service::Enforcement};

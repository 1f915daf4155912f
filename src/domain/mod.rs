//! The rules of the two documents as pure functions: facts, an instant and a question in, a decision out.
//!
//! Not here: a clock, a thread, I/O, protocol types, serialization or logging. Nothing in this folder can fail.

pub mod decision;
pub mod facts;
pub mod instant;
pub mod license;
pub mod limits;
pub mod matrix;
pub mod question;
pub mod rules;
pub mod state;
pub mod timeline;
pub mod unit;

pub use decision::{Decision, Reason};
pub use facts::{Activation, Facts, SubscriptionId};
pub use instant::{Instant, Span};
pub use matrix::{Access, Row};
pub use question::{Operation, Question, Role, SmsDelivery};
pub use state::{Condition, ConditionKind, Conditions, SubscriptionState};
pub use timeline::Timeline;

//! `esa.licensing.v1` on the wire: each call reads its request, hands it on, and wraps the answer.
//!
//! Not here: what a call does (see the rooms beside this one).

mod accounts;
mod audit;
mod known;
mod licenses;
mod once;
pub(super) mod pages;
pub(super) mod read;
mod sync;
mod units;

use tonic::Status;

use self::once::Attempt;
use super::{Backend, caller::Caller, refusal::Refusal};

impl Backend {
    /// The end of a change that was asked for, as `ended`, with its target as it is kept.
    async fn tried<T>(
        &self,
        caller: &Caller,
        attempt: &Attempt<'_>,
        done: Result<T, Refusal>,
    ) -> Result<T, Status> {
        let target = match &done {
            Ok(_) => String::new(),
            Err(_) => self.kept_target(caller, attempt).await,
        };
        self.ended(caller, attempt.action, &target, done).await
    }

    /// The end of a change that was asked for: what was refused is written to the audit log.
    async fn ended<T>(
        &self,
        caller: &Caller,
        action: &'static str,
        target: &str,
        done: Result<T, Refusal>,
    ) -> Result<T, Status> {
        if let Err(refusal) = &done
            && is_audited(refusal)
        {
            self.attempted(caller.failed(&caller.customer_id, action, target, refusal.to_string())).await;
        }
        Ok(done?)
    }
}

/// Whether a refusal was of an attempt: what does not read, or met a database that was away, was none.
fn is_audited(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Unreadable { .. }
        | Refusal::RequestIdReused(_)
        | Refusal::Deaf
        | Refusal::Store(_)
        | Refusal::TooSoon(_)
        | Refusal::TooMany(_)
        | Refusal::TooFast(..) => false,
        Refusal::Unauthenticated(_)
        | Refusal::WrongPassword
        | Refusal::OneTimePasswordEnded
        | Refusal::PasswordChangeRequired
        | Refusal::NotAllowed(_)
        | Refusal::NotFound { .. }
        | Refusal::Taken { .. }
        | Refusal::NotActivated { .. }
        | Refusal::UsedUp { .. }
        | Refusal::Precondition(_) => true,
    }
}

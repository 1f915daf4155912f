//! Entries of the audit log, and who did what they are about: by kind and by name, so that no name passes for another kind.
//!
//! Not here: how entries are written (see `change`), and read (see `audit`).

use super::caller::Caller;
pub(super) use crate::proto::licensing::ActorKind;

/// Who did it.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) kind: ActorKind,
    /// An account may have any name, that of another kind as well.
    pub(super) name: String,
    /// The ID of the API credential, or of the session, that an account did it with; empty where there is none.
    pub(super) credential: String,
}

/// An entry of the audit log (semantics 6.10).
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Whom it concerns.
    pub(super) customer_id: String,
    /// Who.
    pub(super) actor: Actor,
    /// What, such as `unit.deactivate`.
    pub(super) action: &'static str,
    /// On what.
    pub(super) target: String,
    /// Done, or refused.
    pub(super) done: bool,
    /// More, for people.
    pub(super) detail: String,
}

impl Actor {
    fn new(kind: ActorKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into(), credential: String::new() }
    }

    /// Somebody who signed in.
    pub(super) fn session(account: &str) -> Self {
        Self::new(ActorKind::Session, account)
    }

    /// A program with an API credential of this account.
    pub(super) fn api_credential(account: &str) -> Self {
        Self::new(ActorKind::ApiCredential, account)
    }

    /// With this API credential, or in this session.
    pub(super) fn with(self, credential: &str) -> Self {
        Self { credential: credential.to_owned(), ..self }
    }

    /// A unit.
    pub(super) fn unit(unit_id: &str) -> Self {
        Self::new(ActorKind::Unit, format!("unit {unit_id}"))
    }

    /// Whoever has the key of this license.
    pub(super) fn license_key(license_id: &str) -> Self {
        Self::new(ActorKind::LicenseKey, format!("license key of {license_id}"))
    }

    /// The backend, of its own accord.
    pub(super) fn backend() -> Self {
        Self::new(ActorKind::Backend, "backend")
    }

    /// Whoever may start the backend, on its command line.
    pub(super) fn operator() -> Self {
        Self::new(ActorKind::Operator, "operator")
    }

    /// Somebody who did not show to be who this account is.
    pub(super) fn stranger_to(account: &str) -> Self {
        Self::new(ActorKind::Unauthenticated, account)
    }

    /// Somebody who did not show to be anybody.
    pub(super) fn nobody() -> Self {
        Self::new(ActorKind::Unauthenticated, "nobody known")
    }

    /// The entry about something that was done.
    pub(super) fn did(
        self,
        customer_id: &str,
        action: &'static str,
        target: &str,
        detail: impl Into<String>,
    ) -> Entry {
        let (customer_id, target, detail) = (customer_id.to_owned(), target.to_owned(), detail.into());
        Entry { customer_id, actor: self, action, target, done: true, detail }
    }

    /// The entry about something that was refused, or is wrong.
    pub(super) fn failed(
        self,
        customer_id: &str,
        action: &'static str,
        target: &str,
        why: impl Into<String>,
    ) -> Entry {
        Entry { done: false, ..self.did(customer_id, action, target, why) }
    }
}

impl Caller {
    /// The entry about something that it did.
    pub(super) fn did(
        &self,
        customer_id: &str,
        action: &'static str,
        target: &str,
        detail: impl Into<String>,
    ) -> Entry {
        self.actor_within(customer_id).did(customer_id, action, target, detail)
    }

    /// The entry about something that it was refused.
    pub(super) fn failed(
        &self,
        customer_id: &str,
        action: &'static str,
        target: &str,
        why: impl Into<String>,
    ) -> Entry {
        self.actor_within(customer_id).failed(customer_id, action, target, why)
    }
}

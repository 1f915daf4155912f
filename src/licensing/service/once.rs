//! Changes that are made once, however often they are asked for.
//!
//! A retry after an answer that was lost has the same request ID: it gets the same answer, but for secrets, which are told
//! once and kept nowhere. It gets it only while it still may do what it asked for.
//! Not here: how an answer is kept (see `change`).

use std::{collections::HashSet, future::Future};

use prost::Message;
use tonic::{Response, Status};

use super::read;
use crate::{
    licensing::{
        Backend, accounts, archive,
        caller::Caller,
        change::Change,
        delegation,
        licenses::{self, Eye},
        refusal::Refusal,
        sign_in::Address,
        store::{Store, sought},
        turns::{Asks, Spender, Whose},
        units::{self, By},
    },
    proto::licensing as api,
};

/// A request for a change.
pub(super) trait Asked: Message {
    /// What the caller knows a repetition by.
    fn request_id(&self) -> &str;
}

/// The answer to one.
pub(super) trait Answered: Message + Clone + Default {
    /// As it is kept for whoever asks the same again: without secrets, and without what can be said again.
    #[must_use]
    fn for_keeping(self) -> Self {
        self
    }
}

/// A change that an account asks for.
pub(super) struct Attempt<'a> {
    /// What is written to the audit log should it be refused.
    pub(super) action: &'static str,
    /// On what, for the audit log.
    pub(super) target: &'a str,
    /// The right it takes.
    pub(super) right: Right<'a>,
}

/// The right that a change takes. The change itself looks at it, with everything it concerns locked; for an answer that is
/// only repeated it is looked at here: what a caller has lost the right to do, it hears nothing more of.
pub(super) enum Right<'a> {
    /// To do with one's own account what the change does.
    Own,
    /// To make credentials of one's own account: a session.
    Session,
    /// To make accounts of the customer named; the caller's own when empty.
    MakeAccounts(&'a str),
    /// To manage the account named.
    Manage(&'a str),
    /// To manage it by disabling it.
    Disable(&'a str),
    /// To issue licenses.
    Issue,
    /// To change a license.
    Edit(&'a str),
    /// To replace the key of a license.
    RotateKey(&'a str),
    /// To delegate a license to the account named, and to take it back.
    Delegate(&'a str, &'a str),
    /// To accept a license.
    Accept(&'a str),
    /// To activate with an account or a license key.
    Activate(&'a By),
    /// To deactivate units: of each it is looked at by itself.
    Deactivate,
    /// To archive the audit log.
    Archive,
}

/// Who asks for a change.
#[derive(Clone, Copy)]
enum Who<'a> {
    Account(&'a Caller),
    /// Whoever has a license key, by what its requests are remembered under.
    LicenseKey(&'a str),
}

/// A change, made but not kept yet, and its answer.
pub(super) type Made<A> = Result<(Change, A), Refusal>;

/// An answer, and whether it was only repeated.
pub(super) struct Done<A> {
    pub(super) answer: A,
    pub(super) repeated: bool,
    /// Bytes that were written of it: the answer that is kept, and what it added to the audit log.
    written: usize,
}

impl Backend {
    /// Does `work` for the caller, unless the same request was answered before. All of it happens, or nothing.
    pub(super) async fn once<Q: Asked, A: Answered, F>(
        &self,
        caller: &Caller,
        attempt: Attempt<'_>,
        request: &Q,
        work: impl Fn(Change) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Made<A>>,
    {
        let Done { answer, .. } = self.once_or_again(caller, attempt, request, work).await?;
        Ok(Response::new(answer))
    }

    /// The same, telling whether the answer was repeated.
    pub(super) async fn once_or_again<Q: Asked, A: Answered, F>(
        &self,
        caller: &Caller,
        attempt: Attempt<'_>,
        request: &Q,
        work: impl Fn(Change) -> F,
    ) -> Result<Done<A>, Status>
    where
        F: Future<Output = Made<A>>,
    {
        let right = &attempt.right;
        self.tried(caller, &attempt, right.must_be_for(caller)).await?;
        self.spend(caller, right, request.encoded_len())?;
        let _own = self.turns.wait(Whose::One(caller.comes_with())).await?;
        let _customer = self.turns.wait(Whose::Customer(&caller.customer_id)).await?;
        let done = Store::retrying(|| self.change(Who::Account(caller), right, request, &work)).await;
        if let Ok(Done { written, .. }) = &done {
            spenders(caller, right).for_each(|spender| self.turns.charge(spender, *written));
        }
        self.tried(caller, &attempt, done).await
    }

    /// Takes a change from the budgets it counts for. What ends somebody's rights is never too much, in a session: whoever
    /// spends an account's budget keeps nobody from ending that.
    fn spend(&self, caller: &Caller, right: &Right<'_>, bytes: usize) -> Result<(), Refusal> {
        spenders(caller, right).try_for_each(|spender| self.turns.spend(spender, bytes))
    }

    /// What an attempt was about, as the audit log names it whatever was typed.
    pub(super) async fn kept_target(&self, caller: &Caller, attempt: &Attempt<'_>) -> String {
        let Attempt { target, right, .. } = attempt;
        match right {
            Right::Manage(name) | Right::Disable(name) => {
                let Ok(_turn) = self.turn_of(caller).await else { return (*target).to_owned() };
                let kept = accounts::kept_name(self.store.reads(), caller, name).await;
                kept.unwrap_or_else(|_| (*target).to_owned())
            }
            Right::Edit(_)
            | Right::RotateKey(_)
            | Right::Delegate(..)
            | Right::Accept(_)
            | Right::Activate(_) => target.to_ascii_uppercase(),
            Right::Own | Right::Deactivate => sought(target),
            Right::Session | Right::MakeAccounts(_) | Right::Issue | Right::Archive => (*target).to_owned(),
        }
    }

    /// Does `work` for whoever has a license key, with nothing to be written of a refusal.
    pub(super) async fn once_by_key<Q: Asked, A: Answered, F>(
        &self,
        by: &By,
        address: &Address,
        request: &Q,
        work: impl Fn(Change) -> F,
    ) -> Result<A, Refusal>
    where
        F: Future<Output = Made<A>>,
    {
        let (key, right) = (by.key(), Right::Activate(by));
        // A key that opens nothing keeps no change waiting.
        let turn = self.turn_to_look_up(Asks::Calls, &key, address).await?;
        let customer_id = units::customer_of(self.store.reads(), by).await;
        let customer_id = customer_id.inspect_err(|_| self.opens_nothing(&key))?;
        let turn = self.found_out(turn, Asks::Calls, &key, &customer_id).await?;
        let is_known = self.is_known(&key, request).await?;
        drop(turn);
        if !is_known {
            self.turns.spend(Spender::LicenseKey(&key), request.encoded_len())?;
        }
        let _own = self.turns.wait(Whose::One(&key)).await?;
        let _units = self.turns.wait(Whose::Units(&customer_id)).await?;
        let done = Store::retrying(|| self.change(Who::LicenseKey(&key), &right, request, &work)).await?;
        Ok(done.answer)
    }

    /// Whether `once` knows a request of the caller of this key by its ID: it then repeats an answer, or refuses what is
    /// another request.
    pub(super) async fn is_known<Q: Asked>(&self, caller: &str, request: &Q) -> Result<bool, Refusal> {
        let request_id = read::text("request_id", request.request_id(), 1, 64)?;
        let known = sqlx::query("SELECT 1 AS one FROM requests WHERE caller = $1 AND request_id = $2");
        let known = known.bind(caller.to_owned()).bind(request_id);
        Ok(known.fetch_optional(self.store.reads()).await?.is_some())
    }

    async fn change<Q: Asked, A: Answered, F>(
        &self,
        who: Who<'_>,
        right: &Right<'_>,
        request: &Q,
        work: impl Fn(Change) -> F,
    ) -> Result<Done<A>, Refusal>
    where
        F: Future<Output = Made<A>>,
    {
        let (mut change, key) = match who {
            Who::Account(caller) => {
                let mut change = Change::begin(self).await?;
                change.admit(caller, right.other_account()).await?;
                (change, caller.key())
            }
            Who::LicenseKey(key) => (Change::begin_of_unit(self).await?, key),
        };
        if let Some(answer) = change.answered(key, request.request_id(), request).await? {
            right.held_by(&mut change, who).await?;
            return Ok(Done { answer, repeated: true, written: 0 });
        }
        let (change, answer) = work(change).await?;
        let kept = answer.clone().for_keeping();
        let written = change.written() + kept.encoded_len();
        self.told(change.answer(&kept).await?);
        Ok(Done { answer, repeated: false, written })
    }
}

/// The budgets that a change counts for.
fn spenders<'a>(caller: &'a Caller, right: &Right<'_>) -> impl Iterator<Item = Spender<'a>> {
    let (first, second) = match caller.credential_id() {
        Some(id) => (Some(Spender::Credential(id)), Some(Spender::Credentials(&caller.account_id))),
        None if right.ends() => (None, None),
        None => (Some(Spender::Account(&caller.account_id)), None),
    };
    first.into_iter().chain(second)
}

impl Right<'_> {
    /// Whether the session or API credential of the call is one for this.
    fn must_be_for(&self, caller: &Caller) -> Result<(), Refusal> {
        match self {
            Self::Own => Ok(()),
            Self::Session | Self::MakeAccounts(_) | Self::Manage(_) | Self::Disable(_) | Self::Archive => {
                caller.must_be_session().map(drop)
            }
            Self::Issue | Self::Edit(_) | Self::Delegate(..) | Self::Accept(_) => {
                caller.must_be_for(api::ApiScope::ManageLicenses)
            }
            // A key that an API credential of an owner made would outlive its revocation.
            Self::RotateKey(_) if !caller.may_issue => caller.must_be_session().map(drop),
            Self::RotateKey(_) => caller.must_be_for(api::ApiScope::ManageLicenses),
            Self::Activate(_) | Self::Deactivate => caller.must_be_for(api::ApiScope::ManageUnits),
        }
    }

    /// Whether it ends what somebody may do.
    const fn ends(&self) -> bool {
        matches!(self, Self::Own | Self::Disable(_))
    }

    /// The account a change is about beside the caller's.
    fn other_account(&self) -> &str {
        match self {
            Self::Manage(name) | Self::Disable(name) | Self::Delegate(_, name) => name,
            Self::Own
            | Self::Session
            | Self::MakeAccounts(_)
            | Self::Issue
            | Self::Edit(_)
            | Self::RotateKey(_)
            | Self::Accept(_)
            | Self::Activate(_)
            | Self::Deactivate
            | Self::Archive => "",
        }
    }

    /// Whether the caller has it still.
    async fn held_by(&self, change: &mut Change, who: Who<'_>) -> Result<(), Refusal> {
        if let Self::Activate(by) = self {
            return units::license_of(change, by).await.map(drop);
        }
        let Who::Account(caller) = who else { return Ok(()) };
        match self {
            Self::Own | Self::Deactivate | Self::Activate(_) => Ok(()),
            Self::Session => caller.must_be_session().map(drop),
            Self::Archive => archive::may_archive(caller),
            Self::MakeAccounts(customer) => accounts::may_make(change, caller, customer).await.map(drop),
            Self::Manage(name) | Self::Disable(name) => {
                accounts::managed(change, caller, name).await.map(drop)
            }
            Self::Issue => caller.must_issue(),
            Self::Edit(id) => {
                licenses::seen(&mut *change.tx, caller, Eye::on_licenses(caller), id).await?;
                caller.must_issue()
            }
            Self::RotateKey(id) => {
                licenses::seen(&mut *change.tx, caller, Eye::on_licenses(caller), id).await?;
                caller.must_own_or_issue()
            }
            Self::Delegate(id, account) => delegation::owned(change, caller, id, account).await.map(drop),
            Self::Accept(id) => licenses::seen(&mut *change.tx, caller, Eye::Delegated, id).await.map(drop),
        }
    }
}

/// Requests and answers that are pairs, the answers without anything secret.
macro_rules! asked_and_answered {
    ($($request:ident => $response:ident),+ $(,)?) => {
        $(impl Asked for api::$request {
            fn request_id(&self) -> &str {
                &self.request_id
            }
        }

        impl Answered for api::$response {})+
    };
}

/// The same for answers with a secret, in this field.
macro_rules! asked_and_answered_in_secret {
    ($($request:ident => $response:ident . $secret:ident),+ $(,)?) => {
        $(impl Asked for api::$request {
            fn request_id(&self) -> &str {
                &self.request_id
            }
        }

        impl Answered for api::$response {
            fn for_keeping(mut self) -> Self {
                self.$secret.clear();
                self
            }
        })+
    };
}

asked_and_answered! {
    ActivateUnitRequest => ActivateUnitResponse,
    RevokeUnitSecretRequest => RevokeUnitSecretResponse,
    UpdateLicenseRequest => UpdateLicenseResponse,
    SuspendLicenseRequest => SuspendLicenseResponse,
    ResumeLicenseRequest => ResumeLicenseResponse,
    RenewLicenseRequest => RenewLicenseResponse,
    DelegateLicenseRequest => DelegateLicenseResponse,
    AcceptLicenseRequest => AcceptLicenseResponse,
    RevokeLicenseRequest => RevokeLicenseResponse,
    SetAccountDisabledRequest => SetAccountDisabledResponse,
    RevokeApiCredentialRequest => RevokeApiCredentialResponse,
    ArchiveAuditEntriesRequest => ArchiveAuditEntriesResponse,
}

asked_and_answered_in_secret! {
    CreateLicenseRequest => CreateLicenseResponse.license_key,
    RotateLicenseKeyRequest => RotateLicenseKeyResponse.license_key,
    CreateAccountRequest => CreateAccountResponse.one_time_password,
    ResetPasswordRequest => ResetPasswordResponse.one_time_password,
    CreateApiCredentialRequest => CreateApiCredentialResponse.token,
}

impl Asked for api::DeactivateUnitsRequest {
    fn request_id(&self) -> &str {
        &self.request_id
    }
}

impl Answered for api::DeactivateUnitsResponse {
    /// Of each unit once what became of it; the request that is repeated says again of which.
    fn for_keeping(self) -> Self {
        let mut named = HashSet::new();
        let results = self.results.into_iter().filter(|result| named.insert(result.unit_id.clone()));
        let nameless =
            |result| api::DeactivatedUnit { unit_id: String::new(), message: String::new(), ..result };
        Self { results: results.map(nameless).collect() }
    }
}

impl Asked for api::ImportLicensesRequest {
    fn request_id(&self) -> &str {
        &self.request_id
    }
}

impl Answered for api::ImportLicensesResponse {
    fn for_keeping(self) -> Self {
        Self { licenses: self.licenses.into_iter().map(Answered::for_keeping).collect() }
    }
}

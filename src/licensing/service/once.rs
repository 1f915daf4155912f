//! Changes that are made once, however often they are asked for.
//!
//! A retry after an answer that was lost has the same request ID: it gets the same answer, but for secrets, which are told
//! once and kept nowhere. Not here: how an answer is kept (see `change`).

use std::future::Future;

use prost::Message;
use tonic::{Response, Status};

use super::read;
use crate::{
    licensing::{Backend, caller::Caller, change::Change, refusal::Refusal, store::Store},
    proto::licensing as api,
};

/// A request for a change.
pub(super) trait Asked: Message {
    /// What the caller knows a repetition by.
    fn request_id(&self) -> &str;
}

/// The answer to one.
pub(super) trait Answered: Message + Clone + Default {
    /// As it is kept, and told to whoever asks the same again.
    #[must_use]
    fn without_secrets(self) -> Self {
        self
    }
}

/// What is written to the audit log should it be refused.
pub(super) struct Attempt<'a> {
    pub(super) action: &'static str,
    pub(super) target: &'a str,
}

/// A change, made but not kept yet, and its answer.
pub(super) type Made<A> = Result<(Change, A), Refusal>;

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
        let done = Store::retrying(|| self.change(caller.key(), request, &work)).await;
        self.ended(caller, attempt.action, attempt.target, done).await.map(Response::new)
    }

    /// Whether `once` knows the request by its ID: it then repeats an answer, or refuses what is another request.
    pub(super) async fn is_known<Q: Asked>(&self, caller: &Caller, request: &Q) -> Result<bool, Refusal> {
        let request_id = read::text("request_id", request.request_id(), 1, 64)?;
        let known = sqlx::query("SELECT 1 AS one FROM requests WHERE caller = $1 AND request_id = $2");
        let known = known.bind(caller.key().to_owned()).bind(request_id);
        Ok(known.fetch_optional(self.store.reads()).await?.is_some())
    }

    /// The same for a caller who is known by `key` alone, and with nothing to be written of a refusal.
    pub(super) async fn change<Q: Asked, A: Answered, F>(
        &self,
        key: &str,
        request: &Q,
        work: impl Fn(Change) -> F,
    ) -> Result<A, Refusal>
    where
        F: Future<Output = Made<A>>,
    {
        let mut change = Change::begin(&self.store, self.clock.now()).await?;
        if let Some(before) = change.answered(key, request.request_id(), request).await? {
            return Ok(before);
        }
        let (change, answer) = work(change).await?;
        self.told(change.answer(&answer.clone().without_secrets()).await?);
        Ok(answer)
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
            fn without_secrets(mut self) -> Self {
                self.$secret.clear();
                self
            }
        })+
    };
}

asked_and_answered! {
    ActivateUnitRequest => ActivateUnitResponse,
    DeactivateUnitsRequest => DeactivateUnitsResponse,
    UpdateLicenseRequest => UpdateLicenseResponse,
    SuspendLicenseRequest => SuspendLicenseResponse,
    ResumeLicenseRequest => ResumeLicenseResponse,
    RenewLicenseRequest => RenewLicenseResponse,
    DelegateLicenseRequest => DelegateLicenseResponse,
    AcceptLicenseRequest => AcceptLicenseResponse,
    RevokeLicenseRequest => RevokeLicenseResponse,
    SetAccountDisabledRequest => SetAccountDisabledResponse,
    RevokeApiCredentialRequest => RevokeApiCredentialResponse,
}

asked_and_answered_in_secret! {
    CreateLicenseRequest => CreateLicenseResponse.license_key,
    RotateLicenseKeyRequest => RotateLicenseKeyResponse.license_key,
    CreateAccountRequest => CreateAccountResponse.one_time_password,
    ResetPasswordRequest => ResetPasswordResponse.one_time_password,
    CreateApiCredentialRequest => CreateApiCredentialResponse.token,
}

impl Asked for api::ImportLicensesRequest {
    fn request_id(&self) -> &str {
        &self.request_id
    }
}

impl Answered for api::ImportLicensesResponse {
    fn without_secrets(self) -> Self {
        Self { licenses: self.licenses.into_iter().map(Answered::without_secrets).collect() }
    }
}

//! `AccountService`.

use prost::Message;
use sqlx::AssertSqlSafe;
use tokio::sync::OnceCell;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{
    once::{Asked, Attempt, Right},
    pages, read,
};
use crate::{
    licensing::{
        Backend, accounts, caller::Caller, credentials::NewCredential, keys, refusal::Refusal,
        scopes::Scopes, sign_in::Address, store::sought, wire as states,
    },
    proto::licensing::{self as api, account_service_server::AccountService},
    wire,
};

#[tonic::async_trait]
impl AccountService for Backend {
    async fn sign_in(
        &self,
        request: Request<api::SignInRequest>,
    ) -> Result<Response<api::SignInResponse>, Status> {
        let address = Address::of(&request);
        let api::SignInRequest { name, password } = request.into_inner();
        let session = self.open_session(&name, &Zeroizing::new(password), &address).await?;
        Ok(Response::new(api::SignInResponse {
            token: session.token,
            expires_at: states::timestamp(session.expires_at),
            account: Some(session.account.told()),
        }))
    }

    async fn sign_out(
        &self,
        request: Request<api::SignOutRequest>,
    ) -> Result<Response<api::SignOutResponse>, Status> {
        let caller = self.any_caller(&request).await?;
        self.sign_out_of(&caller).await?;
        Ok(Response::new(api::SignOutResponse {}))
    }

    async fn list_sessions(
        &self,
        request: Request<api::ListSessionsRequest>,
    ) -> Result<Response<api::ListSessionsResponse>, Status> {
        let (caller, _turn) = self.caller_reading(&request).await?;
        let sessions = self.ended(&caller, "account.list_sessions", "", self.sessions(&caller).await).await?;
        Ok(Response::new(api::ListSessionsResponse { sessions }))
    }

    async fn end_session(
        &self,
        request: Request<api::EndSessionRequest>,
    ) -> Result<Response<api::EndSessionResponse>, Status> {
        let caller = self.caller(&request).await?;
        let session_id = &sought(&request.get_ref().session_id);
        let ended = self.end_session_of(&caller, session_id).await;
        self.ended(&caller, "account.end_session", session_id, ended).await?;
        Ok(Response::new(api::EndSessionResponse {}))
    }

    async fn get_caller(
        &self,
        request: Request<api::GetCallerRequest>,
    ) -> Result<Response<api::GetCallerResponse>, Status> {
        let (caller, _turn) = self.any_caller_reading(&request).await?;
        let account = accounts::by_id(self.store.reads(), &caller.account_id).await.map_err(Refusal::from)?;
        Ok(Response::new(api::GetCallerResponse { account: account.map(|account| account.told()) }))
    }

    async fn change_password(
        &self,
        request: Request<api::ChangePasswordRequest>,
    ) -> Result<Response<api::ChangePasswordResponse>, Status> {
        let caller = self.any_caller(&request).await?;
        let api::ChangePasswordRequest { request_id, old_password, new_password } = request.into_inner();
        let (old, new) = (Zeroizing::new(old_password), Zeroizing::new(new_password));
        self.change_password(&caller, &request_id, &old, &new).await?;
        Ok(Response::new(api::ChangePasswordResponse {}))
    }

    async fn list_accounts(
        &self,
        request: Request<api::ListAccountsRequest>,
    ) -> Result<Response<api::ListAccountsResponse>, Status> {
        let (caller, _turn) = self.reader(&request, api::ApiScope::Read).await?;
        self.ended(&caller, "account.list", "", caller.must_be_owner()).await?;
        let mut asked = request.into_inner();
        let size = pages::size(std::mem::take(&mut asked.page_size))?;
        let token = std::mem::take(&mut asked.page_token);
        let list = pages::list(&asked, &caller.account_id);
        let after: String = pages::place(&token, &list)?.unwrap_or_default();
        let sql =
            format!("{} WHERE a.customer_id = $1 AND $2 < a.name ORDER BY a.name LIMIT $3", accounts::SELECT);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(caller.customer_id).bind(after);
        let rows =
            query.bind(i64::try_from(size + 1).unwrap_or(i64::MAX)).fetch_all(self.store.reads()).await;
        let rows = rows.map_err(Refusal::from)?;
        let found = rows.iter().map(accounts::read).collect::<Result<Vec<_>, _>>().map_err(Refusal::from)?;
        let bytes = |account: &accounts::Account| account.told().encoded_len();
        let (page, place) = pages::cut(found, size, bytes, |account| account.name.clone());
        let accounts = page.iter().map(accounts::Account::told).collect();
        Ok(Response::new(api::ListAccountsResponse { accounts, next_page_token: pages::token(place, &list) }))
    }

    async fn create_account(
        &self,
        request: Request<api::CreateAccountRequest>,
    ) -> Result<Response<api::CreateAccountResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let name = &read::account_name("name", &request.name)?;
        let customer = &read::text("customer", &request.customer, 0, 255)?;
        let role = match api::AccountRole::try_from(request.role) {
            Ok(api::AccountRole::Unspecified) => return Err(Refusal::unreadable("role", "missing").into()),
            Ok(role @ (api::AccountRole::Owner | api::AccountRole::SecurityAdmin)) => role,
            Err(_) => return Err(Refusal::from(wire::unknown("role", request.role)).into()),
        };
        let attempt =
            Attempt { action: "account.create", target: name, right: Right::MakeAccounts(customer) };
        let once = self.one_time(caller, request).await;
        let once = &self.tried(caller, &attempt, once).await?;
        self.once(caller, attempt, request, |mut change| async move {
            let hash = self.hash_of(caller, once).await?;
            let account = self.make_account(&mut change, caller, name, role, customer, hash).await?;
            let (account, one_time_password) = (Some(account.told()), once.password.clone());
            Ok((change, api::CreateAccountResponse { account, one_time_password }))
        })
        .await
    }

    async fn set_account_disabled(
        &self,
        request: Request<api::SetAccountDisabledRequest>,
    ) -> Result<Response<api::SetAccountDisabledResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let action = if request.disabled { "account.disable" } else { "account.enable" };
        let name = &request.name;
        let right = if request.disabled { Right::Disable(name) } else { Right::Manage(name) };
        let attempt = Attempt { action, target: name, right };
        self.once(caller, attempt, request, |mut change| async move {
            let account = self.set_disabled(&mut change, caller, &request.name, request.disabled).await?;
            let response = api::SetAccountDisabledResponse { account: Some(account.told()) };
            Ok((change, response))
        })
        .await
    }

    async fn reset_password(
        &self,
        request: Request<api::ResetPasswordRequest>,
    ) -> Result<Response<api::ResetPasswordResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let attempt = Attempt {
            action: "account.reset_password",
            target: &request.name,
            right: Right::Manage(&request.name),
        };
        let once = self.one_time(caller, request).await;
        let once = &self.tried(caller, &attempt, once).await?;
        self.once(caller, attempt, request, |mut change| async move {
            let hash = self.hash_of(caller, once).await?;
            self.reset_password(&mut change, caller, &request.name, hash).await?;
            Ok((change, api::ResetPasswordResponse { one_time_password: once.password.clone() }))
        })
        .await
    }

    async fn create_api_credential(
        &self,
        request: Request<api::CreateApiCredentialRequest>,
    ) -> Result<Response<api::CreateApiCredentialResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let new = &NewCredential {
            name: read::text("name", &request.name, 1, 64)?,
            scopes: Scopes::read("scopes", &request.scopes)?,
            expires_at: read::optional_instant("expires_at", request.expires_at.as_ref())?,
        };
        let attempt = Attempt { action: "credential.create", target: &new.name, right: Right::Session };
        self.once(caller, attempt, request, |mut change| async move {
            let (credential, token) = self.make_credential(&mut change, caller, new).await?;
            Ok((change, api::CreateApiCredentialResponse { credential: Some(credential), token }))
        })
        .await
    }

    async fn list_api_credentials(
        &self,
        request: Request<api::ListApiCredentialsRequest>,
    ) -> Result<Response<api::ListApiCredentialsResponse>, Status> {
        let (caller, _turn) = self.reader(&request, api::ApiScope::Read).await?;
        let mut asked = request.into_inner();
        let size = pages::size(std::mem::take(&mut asked.page_size))?;
        let token = std::mem::take(&mut asked.page_token);
        let list = pages::list(&asked, &caller.account_id);
        let after: String = pages::place(&token, &list)?.unwrap_or_default();
        let most = i64::try_from(size + 1).unwrap_or(i64::MAX);
        let found = self.credentials(&caller, &after, most).await.map_err(Refusal::from)?;
        let (credentials, place) =
            pages::cut(found, size, Message::encoded_len, |credential| credential.credential_id.clone());
        let next_page_token = pages::token(place, &list);
        Ok(Response::new(api::ListApiCredentialsResponse { credentials, next_page_token }))
    }

    async fn revoke_api_credential(
        &self,
        request: Request<api::RevokeApiCredentialRequest>,
    ) -> Result<Response<api::RevokeApiCredentialResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let attempt =
            Attempt { action: "credential.revoke", target: &request.credential_id, right: Right::Own };
        self.once(caller, attempt, request, |mut change| async move {
            let credential = self.revoke_credential(&mut change, caller, &request.credential_id).await?;
            let response = api::RevokeApiCredentialResponse { credential: Some(credential) };
            Ok((change, response))
        })
        .await
    }
}

/// A one-time password and its hash.
struct OneTime {
    password: String,
    hash: OnceCell<String>,
}

impl Backend {
    /// A one-time password for a change the caller may make. To hash it takes long and a place among the few: that is done
    /// before the change holds anything, and not for an answer that is only repeated.
    async fn one_time<Q: Asked>(&self, caller: &Caller, request: &Q) -> Result<OneTime, Refusal> {
        caller.must_be_session()?;
        caller.must_be_owner()?;
        let once = OneTime { password: keys::one_time_password()?, hash: OnceCell::new() };
        let turn = self.turn_of(caller).await?;
        let is_known = self.is_known(caller.key(), request).await?;
        drop(turn);
        if !is_known {
            self.hash_of(caller, &once).await?;
        }
        Ok(once)
    }

    async fn hash_of<'a>(&self, caller: &Caller, once: &'a OneTime) -> Result<&'a String, Refusal> {
        once.hash.get_or_try_init(|| self.passwords.hash(caller.lane(), &once.password)).await
    }
}

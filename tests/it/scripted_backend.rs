//! A licensing backend that answers as a test tells it to, and remembers what it was asked.

use std::{
    any::Any,
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use esa_sidecar::proto::licensing::{
    self as api,
    account_service_server::{AccountService, AccountServiceServer},
    audit_service_server::{AuditService, AuditServiceServer},
    license_service_server::{LicenseService, LicenseServiceServer},
    unit_service_server::{UnitService, UnitServiceServer},
};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

type Answer = Box<dyn FnMut(&dyn Any) -> Result<Box<dyn Any>, Status> + Send>;

/// It runs on a thread of its own until it is dropped.
pub(crate) struct ScriptedBackend {
    pub(crate) address: SocketAddr,
    script: Script,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How calls are answered, by their name, and what was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<HashMap<&'static str, Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// One call.
struct Asked {
    call: &'static str,
    authorization: Option<String>,
    request: Box<dyn Any + Send>,
}

impl ScriptedBackend {
    pub(crate) fn start() -> Self {
        let script = Script::default();
        let (tell_address, told_address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = script.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell_address.send(listener.local_addr().unwrap()).unwrap();
                let serving = Server::builder()
                    .add_service(UnitServiceServer::new(served.clone()))
                    .add_service(LicenseServiceServer::new(served.clone()))
                    .add_service(AccountServiceServer::new(served.clone()))
                    .add_service(AuditServiceServer::new(served))
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    ended = serving => ended.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        let address = told_address.recv().unwrap();
        Self { address, script, stop: Some(stop), thread: Some(thread) }
    }

    /// Answers `call` like this from now on.
    pub(crate) fn on<Q: 'static, A: 'static>(
        &self,
        call: &'static str,
        mut answer: impl FnMut(&Q) -> Result<A, Status> + Send + 'static,
    ) {
        let answer = move |request: &dyn Any| {
            let request = request.downcast_ref::<Q>().expect("the script answers another question");
            answer(request).map(|answer| Box::new(answer) as Box<dyn Any>)
        };
        self.script.answers.lock().unwrap().insert(call, Box::new(answer));
    }

    /// What `call` was asked with, in order.
    pub(crate) fn asked<Q: Clone + 'static>(&self, call: &str) -> Vec<Q> {
        let asked = self.script.asked.lock().unwrap();
        let asked = asked.iter().filter(|asked| asked.call == call);
        asked.map(|asked| asked.request.downcast_ref::<Q>().unwrap().clone()).collect()
    }

    /// The names of all calls and the authorization each came with.
    pub(crate) fn calls(&self) -> Vec<(&'static str, Option<String>)> {
        let asked = self.script.asked.lock().unwrap();
        asked.iter().map(|asked| (asked.call, asked.authorization.clone())).collect()
    }
}

impl Drop for ScriptedBackend {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

impl Script {
    fn answer<Q: Send + 'static, A: 'static>(
        &self,
        call: &'static str,
        request: Request<Q>,
    ) -> Result<Response<A>, Status> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        let request = request.into_inner();
        let answer = match self.answers.lock().unwrap().get_mut(call) {
            Some(answer) => answer(&request),
            None => Err(Status::unimplemented(format!("the script has no answer to {call}"))),
        };
        self.asked.lock().unwrap().push(Asked { call, authorization, request: Box::new(request) });
        Ok(Response::new(*answer?.downcast::<A>().expect("the script has another answer")))
    }
}

macro_rules! scripted {
    ($service:ident: $($call:ident $request:ident $response:ident;)+) => {
        #[tonic::async_trait]
        impl $service for Script {
            $(async fn $call(
                &self,
                request: Request<api::$request>,
            ) -> Result<Response<api::$response>, Status> {
                self.answer(stringify!($call), request)
            })+
        }
    };
}

scripted! { UnitService:
    list_units ListUnitsRequest ListUnitsResponse;
    get_unit GetUnitRequest GetUnitResponse;
    activate_unit ActivateUnitRequest ActivateUnitResponse;
    deactivate_units DeactivateUnitsRequest DeactivateUnitsResponse;
    revoke_unit_secret RevokeUnitSecretRequest RevokeUnitSecretResponse;
}

scripted! { LicenseService:
    list_licenses ListLicensesRequest ListLicensesResponse;
    get_license GetLicenseRequest GetLicenseResponse;
    create_license CreateLicenseRequest CreateLicenseResponse;
    update_license UpdateLicenseRequest UpdateLicenseResponse;
    suspend_license SuspendLicenseRequest SuspendLicenseResponse;
    resume_license ResumeLicenseRequest ResumeLicenseResponse;
    renew_license RenewLicenseRequest RenewLicenseResponse;
    rotate_license_key RotateLicenseKeyRequest RotateLicenseKeyResponse;
    import_licenses ImportLicensesRequest ImportLicensesResponse;
    delegate_license DelegateLicenseRequest DelegateLicenseResponse;
    accept_license AcceptLicenseRequest AcceptLicenseResponse;
    revoke_license RevokeLicenseRequest RevokeLicenseResponse;
}

scripted! { AccountService:
    sign_in SignInRequest SignInResponse;
    sign_out SignOutRequest SignOutResponse;
    list_sessions ListSessionsRequest ListSessionsResponse;
    end_session EndSessionRequest EndSessionResponse;
    get_caller GetCallerRequest GetCallerResponse;
    change_password ChangePasswordRequest ChangePasswordResponse;
    list_accounts ListAccountsRequest ListAccountsResponse;
    create_account CreateAccountRequest CreateAccountResponse;
    set_account_disabled SetAccountDisabledRequest SetAccountDisabledResponse;
    reset_password ResetPasswordRequest ResetPasswordResponse;
    create_api_credential CreateApiCredentialRequest CreateApiCredentialResponse;
    list_api_credentials ListApiCredentialsRequest ListApiCredentialsResponse;
    revoke_api_credential RevokeApiCredentialRequest RevokeApiCredentialResponse;
}

scripted! { AuditService:
    list_audit_entries ListAuditEntriesRequest ListAuditEntriesResponse;
    archive_audit_entries ArchiveAuditEntriesRequest ArchiveAuditEntriesResponse;
}

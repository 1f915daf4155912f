//! Whether the sender of a call is known, where its message could not be read: who is not hears that, and nothing of what
//! is wrong with the message.
//!
//! Not here: who may do what (see each call).

use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderValue},
};
use tonic::{Request, Status, metadata::MetadataMap};

use crate::{
    edge::peer::Peer,
    licensing::{Backend, sign_in::Address, token},
    proto::licensing::{
        account_service_server, audit_service_server, license_service_server, sync_service_server,
        unit_service_server,
    },
};

/// Calls that may come without a credential.
const ANONYMOUS: [(&str, &str); 3] = [
    (account_service_server::SERVICE_NAME, "SignIn"),
    (unit_service_server::SERVICE_NAME, "ActivateUnit"),
    (sync_service_server::SERVICE_NAME, "Sync"),
];

/// All services that ask for one.
const SERVICES: [&str; 5] = [
    account_service_server::SERVICE_NAME,
    audit_service_server::SERVICE_NAME,
    license_service_server::SERVICE_NAME,
    sync_service_server::SERVICE_NAME,
    unit_service_server::SERVICE_NAME,
];

impl Backend {
    /// Refuses the sender of a call at `path` by `peer` whose `credential` opens nothing.
    pub async fn known(
        &self,
        path: &str,
        credential: Option<HeaderValue>,
        peer: &Peer,
    ) -> Result<(), Status> {
        let Some((service, call)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return Ok(());
        };
        let is_anonymous = ANONYMOUS.contains(&(service, call)) && (credential.is_none() || call == "SignIn");
        if is_anonymous || !SERVICES.contains(&service) {
            return Ok(());
        }
        let headers = credential.into_iter().map(|credential| (AUTHORIZATION, credential));
        let mut request = Request::new(());
        *request.metadata_mut() = MetadataMap::from_headers(headers.collect::<HeaderMap>());
        request.extensions_mut().insert(peer.clone());
        if let Ok((id, secret)) = token::unit(request.metadata()) {
            drop(self.proven(id, &secret, &Address::of(&request)).await?);
            return Ok(());
        }
        self.any_caller(&request).await?;
        Ok(())
    }
}

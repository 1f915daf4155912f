//! Whether a backend that says it made a unit is one: the unit syncs, and a key this server trusts vouches for what it is
//! told (semantics 5.5).
//!
//! Not here: when that is asked (see `activate`), and all later syncs (see `source::remote`).

use tonic::{Request, metadata::MetadataValue, transport::Endpoint};
use zeroize::Zeroizing;

use super::CommandError;
use crate::{
    config::Config,
    escape::escape_and_shorten,
    proto::licensing::{SyncRequest, SyncingUnit, sync_service_client::SyncServiceClient},
    signing::{Expected, KeyError, SigningKeys, TrustedKeys},
    source::units::Unit,
};

/// Bytes of an answer: facts have some hundred.
const LONGEST_ANSWER: usize = 64 << 10;

/// The keys this server trusts: those of the configuration and those that were pinned, and beside a licensing backend in
/// one process those of that.
pub(super) fn trusted(config: &Config) -> Result<Vec<TrustedKeys>, CommandError> {
    let pinned = TrustedKeys::read(&TrustedKeys::file_in(&config.data_dir))?;
    let mut trusted = vec![config.licensing.keys.and(&pinned)?];
    if config.licensing.urls.is_empty() {
        match SigningKeys::open_existing(&SigningKeys::folder_in(&config.data_dir)) {
            Ok(keys) => trusted.push(TrustedKeys::of(keys.public_keys())?),
            Err(KeyError::NoSigningKey(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(trusted)
}

/// Syncs as `unit`; why nothing confirms that it is one.
pub(super) async fn confirm(endpoint: Endpoint, trusted: &[TrustedKeys], unit: &Unit) -> Result<(), String> {
    let Unit { unit_id, subscription_id, secret, .. } = unit;
    let mut nonce = vec![0; 32];
    getrandom::fill(&mut nonce).map_err(|error| format!("no random bytes for a question: {error}"))?;
    let syncing = SyncingUnit { unit_id: unit_id.clone(), ..SyncingUnit::default() };
    let mut request =
        Request::new(SyncRequest { unit: Some(syncing), nonce: nonce.clone(), ..SyncRequest::default() });
    let bearer = Zeroizing::new(format!("Bearer {}", secret.token(unit_id)));
    let mut bearer = MetadataValue::try_from(bearer.as_str()).map_err(|error| error.to_string())?;
    bearer.set_sensitive(true);
    request.metadata_mut().insert("authorization", bearer);
    let mut client =
        SyncServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(LONGEST_ANSWER);
    let answer = client.sync(request).await.map_err(|status| escape_and_shorten(status.message()))?;
    let signed = answer.into_inner().facts.unwrap_or_default();
    let expected = Expected { nonce: &nonce, unit_id, subscription_id: Some(*subscription_id), held: None };
    let mut why = "no key of a licensing backend is trusted".to_owned();
    for keys in trusted.iter().filter(|keys| !keys.keys().is_empty()) {
        match keys.verify(&signed).and_then(|facts| facts.check(&expected)) {
            Ok(()) => return Ok(()),
            Err(refused) => why = refused.to_string(),
        }
    }
    Err(why)
}

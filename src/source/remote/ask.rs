//! One question to the backend, at one replica after the other, and what is taken for an answer.
//!
//! Not here: which questions there are (see `sync` and `watch`).

use tonic::{Request, metadata::MetadataValue};

use super::{
    Shared,
    replicas::{Replica, Trouble, Unacceptable},
};
use crate::{
    domain::{Instant, SubscriptionId},
    proto::licensing::{
        RefusedUsage, SignedFacts, SyncRequest, SyncResponse, sync_service_client::SyncServiceClient,
    },
    signing::{Expected, VerifiedFacts},
    source::{Proof, SourceError, Told, units::Unit},
};

/// Who asks: a unit, or a server that is not activated.
pub(super) struct Asker {
    pub(super) unit_id: String,
    pub(super) subscription_id: SubscriptionId,
    /// For people.
    pub(super) name: String,
}

/// What a replica answered to a sync.
pub(super) struct Synced {
    pub(super) told: Told,
    /// What it did not take of what was said.
    pub(super) refused: Vec<RefusedUsage>,
}

/// Why none of them did.
pub(super) struct Failure {
    pub(super) error: SourceError,
    /// A replica does not take something that was said.
    pub(super) unacceptable: Option<Unacceptable>,
    /// A replica does not take the secret.
    pub(super) unauthenticated: bool,
}

/// Bytes of an answer: facts have some hundred, and what is refused of a thousand SMS, each by itself, 200 KiB.
pub(super) const LONGEST_ANSWER: usize = 512 << 10;

impl Shared {
    /// Asks one replica after the other until one answers with facts that are taken. A refusal ends nothing: it may be
    /// that of something on the way to a replica, or of one that is behind.
    pub(super) async fn ask(
        &self,
        request: SyncRequest,
        unit: Option<&Unit>,
        asker: &Asker,
    ) -> Result<Synced, Failure> {
        let held = self.memory().newest(&asker.unit_id);
        let (mut failure, mut unacceptable, mut unauthenticated) = (None, None, false);
        for replica in self.replicas.in_order() {
            match self.ask_replica(replica, request.clone(), unit, asker, held).await {
                Ok(synced) => {
                    self.replicas.answered(replica);
                    return Ok(synced);
                }
                Err(trouble) => {
                    if let Trouble::Unacceptable(what) = &trouble
                        && (what.for_good || unacceptable.is_none())
                    {
                        unacceptable = Some(what.clone());
                    }
                    unauthenticated |= matches!(trouble, Trouble::Unauthenticated(_));
                    failure = Some(joined(failure, trouble.into()));
                }
            }
        }
        let error =
            failure.unwrap_or_else(|| SourceError::Refused("no licensing backend is named".to_owned()));
        Err(Failure { error, unacceptable, unauthenticated })
    }

    async fn ask_replica(
        &self,
        replica: &Replica,
        request: SyncRequest,
        unit: Option<&Unit>,
        asker: &Asker,
        held: Option<(u64, Instant)>,
    ) -> Result<Synced, Trouble> {
        let nonce = nonce()?;
        let request = authorized(SyncRequest { nonce: nonce.clone(), ..request }, unit)?;
        let timeout = self.settings.timeout;
        let mut client = SyncServiceClient::new(replica.channel()).max_decoding_message_size(LONGEST_ANSWER);
        let answered = tokio::time::timeout(timeout, client.sync(request)).await;
        let answered = answered.map_err(|_| replica.silent(timeout))?;
        let answer = answered.map_err(|status| replica.trouble(&status, &asker.name))?.into_inner();
        let SyncResponse { facts, refused } = answer;
        let told = self.verified(replica, facts, &nonce, asker, held).await?;
        Ok(Synced { told, refused })
    }

    /// Facts a trusted key vouches for, for this asker, in answer to this question, and no older than what is held.
    pub(super) async fn verified(
        &self,
        replica: &Replica,
        signed: Option<SignedFacts>,
        nonce: &[u8],
        asker: &Asker,
        held: Option<(u64, Instant)>,
    ) -> Result<Told, Trouble> {
        let signed = signed.unwrap_or_default();
        let trusted = self.trusted().await;
        let expected =
            Expected { nonce, unit_id: &asker.unit_id, subscription_id: Some(asker.subscription_id), held };
        let verified =
            trusted.verify(&signed).and_then(|verified| verified.check(&expected).map(|()| verified));
        let VerifiedFacts { sequence, issued_at, facts, .. } = verified.map_err(|refused| {
            self.memory().refused_by = Some(trusted);
            Trouble::Untrusted(format!(
                "licensing backend {}, asked by {}: {refused}",
                replica.address, asker.name
            ))
        })?;
        Ok(Told { facts, proof: Some(Proof { signed, sequence, issued_at }) })
    }
}

impl Asker {
    pub(super) fn of(unit: &Unit) -> Self {
        let Unit { unit_id, subscription_id, .. } = unit;
        let name = format!("this server as the unit `{unit_id}` of `{subscription_id}`");
        Self { unit_id: unit_id.clone(), subscription_id: *subscription_id, name }
    }
}

impl From<Trouble> for SourceError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unreachable(what) => Self::Unreachable(what),
            Trouble::Untrusted(what) | Trouble::Refused(what) | Trouble::Unauthenticated(what) => {
                Self::Refused(what)
            }
            Trouble::Unacceptable(Unacceptable { what, for_good: true, .. }) => Self::Refused(what),
            Trouble::Unacceptable(Unacceptable { what, for_good: false, .. }) => Self::Unreachable(what),
        }
    }
}

impl From<Failure> for SourceError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl From<getrandom::Error> for Trouble {
    fn from(error: getrandom::Error) -> Self {
        Self::Unreachable(format!("no random bytes for a question: {error}"))
    }
}

/// Both.
pub(super) fn joined(before: Option<SourceError>, error: SourceError) -> SourceError {
    match before {
        Some(before) => before.and(error),
        None => error,
    }
}

/// Random bytes, so that an answer to an earlier question is none to this one.
pub(super) fn nonce() -> Result<Vec<u8>, getrandom::Error> {
    let mut nonce = vec![0; 32];
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

pub(super) fn authorized<T>(message: T, unit: Option<&Unit>) -> Result<Request<T>, Trouble> {
    let mut request = Request::new(message);
    if let Some(Unit { unit_id, secret, .. }) = unit {
        let token = MetadataValue::try_from(format!("Bearer {}", secret.token(unit_id)));
        let mut token = token.map_err(|_| Trouble::Refused(format!("`{unit_id}` is no ID of a unit")))?;
        token.set_sensitive(true);
        request.metadata_mut().insert("authorization", token);
    }
    Ok(request)
}

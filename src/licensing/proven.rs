//! Units that show their secret, and whose they are.
//!
//! Not here: what they sync (see `sync`), and how secrets are revoked (see `units`).

use super::{
    Backend,
    reading::Reading,
    refusal::Refusal,
    sign_in::Address,
    store::{StoreError, sought},
    sync::REVOKED,
    turns::Asks,
    units::{self, Unit, syncs::Syncs},
};

/// A unit that showed its secret, and whose it is.
pub(super) struct Proven {
    pub(super) unit: Unit,
    pub(super) customer_id: String,
}

impl Backend {
    /// The unit with this ID and secret, or with the secret it said it is about to use, in its turn to read.
    pub(super) async fn proven(
        &self,
        id: &str,
        secret_sha256: &str,
        address: &Address,
    ) -> Result<(Proven, Reading), Refusal> {
        // Units choose their secrets: two may have one. An ID that is written in another way is no other line.
        let known_by = format!("unit {} {secret_sha256}", sought(id));
        let reading = self.turn_to_look_up(Asks::Syncs, &known_by, address).await?;
        let Some(unit) = self.with_secret(id, secret_sha256).await? else {
            self.opens_nothing(&known_by);
            return Err(Refusal::Unauthenticated(REVOKED));
        };
        let customer_id = match reading.customer_id() {
            Some(customer_id) => customer_id.to_owned(),
            None => self.customer_of(self.store.syncs(), &unit.license_id).await?.unwrap_or_default(),
        };
        let reading = self.found_out(reading, Asks::Syncs, &known_by, &customer_id).await?;
        Ok((Proven { unit, customer_id }, reading))
    }

    async fn with_secret(&self, id: &str, secret_sha256: &str) -> Result<Option<Unit>, StoreError> {
        let Some(unit) = units::by_id(self.store.syncs(), id).await? else { return Ok(None) };
        // Both are hashes: how much of them is alike tells nothing of the secret.
        if unit.secret_sha256 == secret_sha256 {
            return Ok(Some(unit));
        }
        let syncs = Syncs::of(self.store.syncs(), &unit.id).await?;
        Ok(Some(unit).filter(|_| syncs.next_secret_sha256 == secret_sha256))
    }
}

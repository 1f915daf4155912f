//! Who tries, by name and address, as far as a stranger can be told from another. Names and addresses are kept as keyed
//! hashes: a name may be a password that was typed into the wrong field.
//!
//! Not here: what is counted of them (see `throttle`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sqlx::Row as _;
use tonic::Request;

use crate::{
    edge::peer::{Origin, Peer},
    licensing::{
        accounts::SignInName,
        refusal::Refusal,
        store::{Store, StoreError},
    },
    sha256,
};

/// Where a call comes from.
#[derive(Clone, Debug, Default)]
pub(in crate::licensing) struct Address {
    /// As wide as one end commonly has it.
    own: String,
    /// As wide as one network commonly is.
    network: String,
}

/// A name and an address that were tried together.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// The name, whether anybody has it or not.
    pub(super) name: String,
    /// The address.
    pub(super) address: String,
    /// Both.
    pub(super) pair: String,
    /// The network of the address.
    pub(super) network: String,
}

/// The key of the hashes: one for all replicas.
#[derive(Clone)]
pub(super) struct Key(String);

impl Address {
    pub(in crate::licensing) fn as_str(&self) -> &str {
        &self.own
    }

    /// Where `request` comes from: an address, as wide as one end commonly has it, or a user of this machine.
    pub(in crate::licensing) fn of<T>(request: &Request<T>) -> Self {
        let seen = request.extensions().get::<Peer>().map(Peer::origin);
        let origin = seen.or_else(|| request.remote_addr().map(|address| Origin::Address(address.ip())));
        let own = match origin {
            Some(Origin::Address(ip)) if ip.to_canonical().is_loopback() => "loopback".to_owned(),
            Some(origin) => origin.neighbourhood().to_string(),
            None => "nowhere".to_owned(),
        };
        let network = match origin {
            Some(Origin::Address(ip)) if !ip.to_canonical().is_loopback() => network(ip.to_canonical()),
            _ => own.clone(),
        };
        Self { own, network }
    }
}

/// 48 bits of IPv6, or 24 of IPv4: who has one network has all its addresses.
fn network(ip: IpAddr) -> String {
    match ip {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 80 << 80).to_string(),
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() >> 8 << 8).to_string(),
    }
}

impl Key {
    /// The key of the database, which the first who asks makes.
    pub(super) async fn load(store: &Store) -> Result<Self, Refusal> {
        if let Some(key) = Self::kept(store).await? {
            return Ok(key);
        }
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| {
            Refusal::Precondition(format!("the operating system has no random bytes: {error}"))
        })?;
        let mut tx = store.begin().await?;
        let insert =
            sqlx::query("INSERT INTO sign_in_key (only_row, secret) VALUES (1, $1) ON CONFLICT DO NOTHING");
        insert.bind(BASE64.encode(bytes)).execute(&mut *tx).await?;
        tx.commit().await?;
        let missing = || StoreError::Unreadable("no key for sign-ins".to_owned());
        Ok(Self::kept(store).await?.ok_or_else(missing)?)
    }

    async fn kept(store: &Store) -> Result<Option<Self>, StoreError> {
        let row = sqlx::query("SELECT secret FROM sign_in_key").fetch_optional(store.reads()).await?;
        Ok(row.map(|row| row.try_get("secret")).transpose()?.map(Self))
    }

    pub(super) fn attempt(&self, name: &SignInName, address: &Address) -> Attempt {
        Attempt {
            name: self.hash(&["name", name.folded()]),
            address: self.hash(&["address", &address.own]),
            pair: self.hash(&["pair", &address.own, name.folded()]),
            network: address.network.clone(),
        }
    }

    /// The same for guesses at a password within a session, which no other call shares.
    pub(super) fn of_session(&self, session: &str) -> Attempt {
        let hash = self.hash(&["session", session]);
        Attempt { name: hash.clone(), address: hash.clone(), network: hash.clone(), pair: hash }
    }

    /// What stands in the audit log for a name nobody has: the same for the same name, and nothing it can be read from.
    pub(super) fn shown(&self, name: &SignInName) -> String {
        let hash = self.hash(&["shown", name.folded()]);
        format!("an unknown name, {}", hash.get(..12).unwrap_or_default())
    }

    /// Enough of it to tell what is tried apart. The parts' lengths are hashed with them, and the key comes last: nothing
    /// that is appended makes another's hash.
    fn hash(&self, parts: &[&str]) -> String {
        let mut text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        text.push_str(&self.0);
        let mut hash = sha256::hex(text.as_bytes());
        hash.truncate(32);
        hash
    }
}

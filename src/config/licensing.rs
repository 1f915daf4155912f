//! The licensing backend: where it is, whom it is trusted to be, when it is asked.

use std::time::Duration;

use super::Reader;
use crate::{
    domain::SubscriptionId,
    edge::{
        remote::{RemoteAddress, RemoteAddressError},
        tls::Trust,
    },
    signing::{NotAPublicKey, PublicKey, TrustedKeys},
};

/// The licensing backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Licensing {
    /// `licensing.urls`: replicas of one backend in order of preference, as `https://licensing.example.org:50052`, `http://…`
    /// or as a Unix socket, written `unix:PATH`; default none.
    pub urls: Vec<RemoteAddress>,
    /// `licensing.plaintext`: whether a backend on another machine may be asked without TLS, so that whoever is on the way
    /// reads this server's secret, default false.
    pub plaintext: bool,
    /// `licensing.ca`: the authorities of the backend's certificate (PEM), read at each connection, default those of this
    /// machine.
    pub trust: Trust,
    /// `licensing.keys`: public keys facts may be signed with, two at the most, default none. Those pinned in
    /// `data_dir/trusted-keys` count, too.
    pub keys: TrustedKeys,
    /// `licensing.subscription`: public license ID this server is meant for while it is not activated, no default.
    pub subscription: Option<SubscriptionId>,
    /// `licensing.sync_interval`: how often a sync begins of our own accord, in place of `refresh.interval`, default `4h`.
    pub sync_interval: Duration,
    /// `licensing.timeout`: how long one replica may take to connect, or to answer, default `10s`.
    pub timeout: Duration,
    /// `licensing.keepalive`: a connection that is silent for so long is asked whether it is still there, default `20s`.
    pub keepalive: Duration,
    /// `licensing.usage_delay`: how long counts that were reported wait for company before a sync, default `200ms`.
    pub usage_delay: Duration,
    /// `licensing.sms_delay`: the same for reports of SMS alone, which are subtracted here at once, default `1m`.
    pub sms_delay: Duration,
    /// `licensing.secret_age`: after which this server's secret is renewed, default `30d`.
    pub secret_age: Duration,
}

impl Licensing {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let keys = reader.list("licensing.keys", |text| {
            text.parse::<PublicKey>().map_err(|error: NotAPublicKey| error.to_string())
        });
        let keys = TrustedKeys::of(keys).unwrap_or_else(|error| {
            reader.fault("licensing.keys", error.to_string());
            TrustedKeys::default()
        });
        let urls = reader.list("licensing.urls", |text| {
            text.parse::<RemoteAddress>().map_err(|error: RemoteAddressError| error.to_string())
        });
        let plaintext = reader.truth("licensing.plaintext");
        for url in urls.iter().filter(|url| !plaintext && url.is_overheard()) {
            reader.fault("licensing.urls", beyond_this_machine(url));
        }
        let id = |text: &str| {
            let id = text.parse::<SubscriptionId>();
            id.map(Some).map_err(|_| format!("`{text}` is no public license ID; it looks like `3A8-WN7-7TD`"))
        };
        Self {
            urls,
            plaintext,
            trust: Trust { ca: reader.path("licensing.ca"), shown: None },
            keys,
            subscription: reader.parsed("licensing.subscription", None, id),
            sync_interval: reader.duration("licensing.sync_interval", Duration::from_hours(4)),
            timeout: reader.duration("licensing.timeout", Duration::from_secs(10)),
            keepalive: reader.duration("licensing.keepalive", Duration::from_secs(20)),
            usage_delay: reader.duration("licensing.usage_delay", Duration::from_millis(200)),
            sms_delay: reader.duration("licensing.sms_delay", Duration::from_mins(1)),
            secret_age: reader.duration("licensing.secret_age", Duration::from_hours(30 * 24)),
        }
    }
}

/// Why `url` is not called without TLS.
#[must_use]
pub fn beyond_this_machine(url: &RemoteAddress) -> String {
    format!(
        "`{url}` is another machine, and without TLS whoever is on the way reads the secret of this server; write \
         `https://`, or set `licensing.plaintext = true` if the way is safe, as in a tunnel"
    )
}

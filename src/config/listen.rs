//! Where calls are taken, and from whom.

use std::num::NonZeroUsize;

use super::{Config, Reader};
use crate::edge::address::ListenAddress;

/// Where calls are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `listen.enforcement`, default `127.0.0.1:50051`.
    pub enforcement: ListenAddress,
    /// `listen.probes`, default `127.0.0.1:9464`.
    pub probes: ListenAddress,
    /// `listen.metrics`: how much the page of metrics tells whoever reaches `listen.probes`, which is in the clear: `none`,
    /// `totals` (neither subscriptions nor callers by name) or `all`; default by who that is, see [`Listen::metrics_told`].
    pub metrics: Option<MetricsTold>,
    /// `listen.licensing`: the licensing backend, where it runs, default `127.0.0.1:50052`.
    pub licensing: ListenAddress,
    /// `listen.threads`: how many threads answer questions, each with connections of its own; default one for each
    /// processor.
    pub threads: NonZeroUsize,
    /// `listen.trust_network`: whether whoever reaches a listener from another machine is trusted as this machine's
    /// callers are, default false.
    pub trust_network: bool,
    /// `listen.socket_mode`: permissions of Unix sockets, in octal and in quotes, default `600`: their owner
    /// alone.
    pub socket_mode: u32,
    /// `listen.socket_owner`: whose they are, as `USER:GROUP` in numbers, default whoever runs the sidecar.
    pub socket_owner: Option<(u32, u32)>,
}

/// How much the page of metrics tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsTold {
    /// There is no page.
    Nothing,
    /// Everything that is not said of one subscription or one caller.
    Totals,
    /// Everything.
    All,
}

impl Config {
    /// Whoever can reach a listener must be told apart, or be trusted by the operator's own word. Probes are answered in
    /// the clear wherever they come from, with words that are the same for everybody; what the page of metrics tells
    /// beyond these is settled by `listen.metrics`.
    pub(super) fn check_reach(&self, reader: &mut Reader) {
        let Listen { enforcement, licensing, trust_network, .. } = &self.listen;
        if *trust_network {
            return;
        }
        let tells_apart =
            self.callers.is_some() && self.tls.files.as_ref().is_some_and(|files| files.client_ca.is_some());
        if !enforcement.is_on_this_machine() && !tells_apart {
            let what = format!(
                "`{enforcement}` can be reached from other machines, and whoever reaches it could speak for an \
                 administrator; set `tls.client_ca` and `[[callers]]`, listen on 127.0.0.1, [::1] or a Unix socket, \
                 or say `listen.trust_network = true`"
            );
            reader.fault("listen.enforcement", what);
        }
        if !licensing.is_on_this_machine() && self.tls.files.is_none() {
            let what = format!(
                "`{licensing}` can be reached from other machines, and passwords would go there in the clear; set \
                 `tls.certificate`, listen on 127.0.0.1, [::1] or a Unix socket, or say `listen.trust_network = true`"
            );
            reader.fault("listen.licensing", what);
        }
    }
}

impl Listen {
    /// How much the page of metrics tells on a listener. Unless the operator says otherwise: nothing where other machines
    /// reach it, and where callers are told apart nothing that one of them may not know of another.
    #[must_use]
    pub fn metrics_told(
        set: Option<MetricsTold>,
        is_on_this_machine: bool,
        tells_callers_apart: bool,
    ) -> MetricsTold {
        set.unwrap_or(match (is_on_this_machine, tells_callers_apart) {
            (false, _) => MetricsTold::Nothing,
            (true, true) => MetricsTold::Totals,
            (true, false) => MetricsTold::All,
        })
    }

    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut address = |key, port| {
            reader.parsed(key, ListenAddress::loopback(port), |text| {
                text.parse().map_err(|error: crate::edge::address::AddressError| error.to_string())
            })
        };
        Self {
            enforcement: address("listen.enforcement", 50051),
            probes: address("listen.probes", 9464),
            licensing: address("listen.licensing", 50052),
            metrics: reader.parsed("listen.metrics", None, |text| match text {
                "none" => Ok(Some(MetricsTold::Nothing)),
                "totals" => Ok(Some(MetricsTold::Totals)),
                "all" => Ok(Some(MetricsTold::All)),
                _ => Err(format!("`{text}` is neither `none`, `totals` nor `all`")),
            }),
            threads: reader.parsed("listen.threads", processors(), |text| {
                let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= 1_024);
                number.ok_or_else(|| format!("`{text}` is not a whole number from 1 to 1024"))
            }),
            trust_network: reader.truth("listen.trust_network"),
            socket_mode: reader.permissions("listen.socket_mode").unwrap_or(0o600),
            socket_owner: reader.parsed("listen.socket_owner", None, |text| {
                let numbers =
                    text.split_once(':').map(|(user, group)| (user.parse().ok(), group.parse().ok()));
                match numbers {
                    Some((Some(user), Some(group))) => Ok(Some((user, group))),
                    Some(_) | None => {
                        Err(format!("`{text}` is not `USER:GROUP` in numbers, such as `1000:1000`"))
                    }
                }
            }),
        }
    }
}

fn processors() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

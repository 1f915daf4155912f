//! Where calls are taken, and from whom.

use std::num::NonZeroUsize;

use super::{Config, Reader};
use crate::edge::address::ListenAddress;

/// Where calls are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `listen.enforcement`, default `127.0.0.1:50051`.
    pub enforcement: ListenAddress,
    /// `listen.probes`, default `127.0.0.1:9090`.
    pub probes: ListenAddress,
    /// `listen.licensing`: the licensing backend, where it runs, default `127.0.0.1:50052`.
    pub licensing: ListenAddress,
    /// `listen.threads`: how many threads answer questions, each with connections of its own; default one for each
    /// processor.
    pub threads: NonZeroUsize,
    /// `listen.trust_network`: whether whoever reaches a listener from another machine is trusted as this machine's
    /// callers are, default false.
    pub trust_network: bool,
    /// `listen.socket_mode`: permissions of Unix sockets, in octal, default `600`: their owner alone.
    pub socket_mode: u32,
    /// `listen.socket_owner`: whose they are, as `USER:GROUP` in numbers, default whoever runs the sidecar.
    pub socket_owner: Option<(u32, u32)>,
}

impl Config {
    /// Whoever can reach a listener must be told apart, or be trusted by the operator's own word.
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
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut address = |key, port| {
            reader.parsed(key, ListenAddress::loopback(port), |text| {
                text.parse().map_err(|error: crate::edge::address::AddressError| error.to_string())
            })
        };
        Self {
            enforcement: address("listen.enforcement", 50051),
            probes: address("listen.probes", 9090),
            licensing: address("listen.licensing", 50052),
            threads: reader.parsed("listen.threads", processors(), |text| {
                let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= 1_024);
                number.ok_or_else(|| format!("`{text}` is not a whole number from 1 to 1024"))
            }),
            trust_network: reader.truth("listen.trust_network"),
            socket_mode: reader.parsed("listen.socket_mode", 0o600, |text| {
                let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
                mode.ok_or_else(|| format!("`{text}` is no permissions in octal, such as `660`"))
            }),
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

//! What systemd is told of a process that serves (`sd_notify(3)`), and what it hands over; without systemd, nothing.
//!
//! Not here: when it is ready (see `health`).

use std::{
    cell::Cell,
    convert::Infallible,
    env,
    ffi::OsStr,
    future::pending,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::{config::Flag, edge::passed::Passed, health::Statuses};

/// systemd, as far as it listens.
#[derive(Debug, Default)]
pub(super) struct Systemd {
    /// Only what was ready once can be reloading.
    told_ready: Cell<bool>,
}

impl Systemd {
    /// Tells how the process is, now and at every change, for ever; that it is ready, once.
    pub(super) async fn follow(&self, mut statuses: watch::Receiver<Statuses>) {
        loop {
            let now = *statuses.borrow_and_update();
            if now.ready && !self.told_ready.replace(true) {
                tell(&[NotifyState::Ready]);
            }
            let words = if self.told_ready.get() { now.in_words() } else { "starting: not ready yet" };
            tell(&[NotifyState::Status(words)]);
            if statuses.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Tells that the process lives, as often as is asked for, for ever.
    pub(super) async fn keep_watchdog(&self) -> Infallible {
        let Some(longest) = sd_notify::watchdog_enabled() else { return pending().await };
        loop {
            tell(&[NotifyState::Watchdog]);
            tokio::time::sleep(longest / 2).await;
        }
    }

    /// Tells that `reload` is under way, and that it is done.
    pub(super) fn reloading(&self, reload: impl FnOnce()) {
        let tells = self.told_ready.get();
        match NotifyState::monotonic_usec_now() {
            Ok(now) if tells => tell(&[NotifyState::Reloading, now]),
            Ok(_) | Err(_) => {}
        }
        reload();
        if tells {
            tell(&[NotifyState::Ready]);
        }
    }

    /// Tells that the process is about to end.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }
}

/// Sockets that were passed stand for addresses, so that what is checked of those is checked of them.
pub(super) fn listening_on(passed: &Passed, mut flags: Vec<Flag>) -> Vec<Flag> {
    for socket in passed.iter() {
        let key = match socket.name {
            "enforcement" => "listen.enforcement",
            "probes" => "listen.probes",
            _ => "listen.licensing",
        };
        flags.retain(|flag| flag.key != key);
        flags.push(Flag { flag: "the socket that was passed", key, value: socket.address.to_string() });
    }
    flags
}

fn tell(states: &[NotifyState<'_>]) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(socket.as_bytes(), states) {
        tracing::debug!("systemd is not told {states:?}: {error}");
    }
}

/// A name that begins with `@` is one of no file (`unix(7)`).
fn send(socket: &[u8], states: &[NotifyState<'_>]) -> io::Result<()> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(OsStr::from_bytes(socket))?,
    };
    let said: String = states.iter().map(|state| format!("{state}\n")).collect();
    UnixDatagram::unbound()?.send_to_addr(said.as_bytes(), &address).map(drop)
}

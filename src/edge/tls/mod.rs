//! TLS on a listener: the certificate it shows, and whose certificates it believes; and towards those we call.
//!
//! Files are looked at again while it runs, so that a certificate that is renewed counts without a restart. Not here:
//! what a caller who is believed may ask.

mod files;
mod hello;
mod names;
mod pem;
mod present;
mod refused;
mod revocation;
mod short_chain;
mod trust;
mod validity;

use std::{collections::BTreeSet, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub(in crate::edge) use self::trust::in_words;
use self::{
    files::Contents,
    hello::Hello,
    present::Present,
    revocation::{Outlook, Told},
};
pub use self::{
    files::TlsError,
    names::{DnsName, DnsNameError, Names},
    revocation::RevocationFault,
    trust::{Advice, Trust, in_words_for, machine_authorities},
};
use crate::{clock::Clock, domain::Instant};

/// The files, and the oldest version that is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate and those that lead to its authority (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Authorities of callers' certificates (PEM); with them, callers without a certificate are refused.
    pub client_ca: Option<PathBuf>,
    /// Certificates that were revoked (PEM).
    pub revocations: Option<PathBuf>,
    /// Whether a certificate is refused unless a list that is not out of date says that it was not revoked, and so for
    /// each authority between it and those that are believed.
    pub require_revocations: bool,
    /// Whether TLS 1.2 is spoken beside 1.3.
    pub allow_tls12: bool,
}

impl Files {
    /// The same for callers who are known in other ways, whatever certificate they may have.
    #[must_use]
    pub fn asking_for_none(self) -> Self {
        Self { client_ca: None, revocations: None, require_revocations: false, ..self }
    }
}

/// TLS as it is now.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    present: Present,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    contents: Contents,
    config: Arc<ServerConfig>,
    revocation: Outlook,
    /// Cancelled when others are trusted: who was believed then has to come again.
    outdated: CancellationToken,
}

/// What reading the files again came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// They are as they were.
    Unchanged,
    /// Another certificate is shown from now on.
    Certificate,
    /// Others are believed from now on.
    Trust,
}

impl Tls {
    /// Reads the files. `clock` says when certificates and revocation lists are out of date: the wall clock, by which
    /// their authorities date them, and not the sidecar's, which follows a licensing backend that may be ahead.
    pub fn read(files: Files, clock: Arc<dyn Clock>) -> Result<Arc<Self>, TlsError> {
        let present = Present(clock);
        let contents = Contents::read(&files)?;
        let (config, revocation) = contents.config(&files, &present)?;
        let current = Current { contents, config, revocation, outdated: CancellationToken::new() };
        Ok(Arc::new(Self { files, present, current: ArcSwap::from_pointee(current) }))
    }

    /// What is wrong with revocation lists now.
    #[must_use]
    pub fn revocation_faults(&self) -> BTreeSet<RevocationFault> {
        self.current.load().revocation.faults(self.present.now())
    }

    /// What callers will find wrong with the certificate that is shown now, and where it is.
    #[must_use]
    pub fn certificate_faults(&self) -> BTreeSet<String> {
        let shown = self.files.certificate.display();
        let faults = self.current.load().contents.faults(&self.files.certificate, self.present.now());
        faults.into_iter().map(|fault| format!("the certificate in `{shown}`: {fault}")).collect()
    }

    /// When the first certificate, and the first revocation list, of each file is out of date.
    #[must_use]
    pub fn expires(&self) -> Vec<(&'static str, Instant)> {
        let current = self.current.load();
        let lists = current.revocation.first_due().map(|due| ("revocations", due));
        current.contents.certificates_expire().chain(lists).collect()
    }

    /// Reads them again. What does not read changes nothing.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let before = self.current.load();
        let contents = Contents::read(&self.files)?;
        if contents == before.contents {
            return Ok(Reloaded::Unchanged);
        }
        let (config, revocation) = contents.config(&self.files, &self.present)?;
        let same_trust = contents.trusts_as(&before.contents);
        let outdated = if same_trust { before.outdated.clone() } else { CancellationToken::new() };
        self.current.store(Arc::new(Current { contents, config, revocation, outdated }));
        if same_trust {
            return Ok(Reloaded::Certificate);
        }
        before.outdated.cancel();
        Ok(Reloaded::Trust)
    }

    /// Looks at the files and the clock every so often, for ever, and says what came of it.
    pub async fn follow(self: Arc<Self>, every: Duration) {
        let (mut failed, mut told) = (None, Told::of(self.files.require_revocations));
        let mut shown = BTreeSet::new();
        loop {
            let faults = self.certificate_faults();
            faults.difference(&shown).for_each(|fault| error!("{fault}"));
            shown = faults;
            if told.tell(self.revocation_faults()) && self.files.require_revocations {
                self.ask_to_come_again();
            }
            tokio::time::sleep(every).await;
            let tls = Arc::clone(&self);
            let Ok(reloaded) = tokio::task::spawn_blocking(move || tls.reload()).await else { return };
            match reloaded {
                Ok(reloaded) => {
                    failed = None;
                    reloaded.log();
                }
                Err(error) => {
                    // Two files that belong together are not written at one instant: what is wrong only once is not
                    // wrong.
                    let error = error.to_string();
                    let is_first = failed.as_ref().is_none_or(|(before, _)| *before != error);
                    let was_told = failed.as_ref().is_some_and(|(_, told)| *told) && !is_first;
                    if !is_first && !was_told {
                        error!("certificates are not read again, those before still count: {error}");
                    }
                    failed = Some((error, !is_first));
                }
            }
        }
    }

    /// Asks whoever was believed to come again: a list has run out meanwhile, and a caller of that authority is refused.
    fn ask_to_come_again(&self) {
        let before = self.current.load_full();
        let Current { contents, config, revocation, outdated } = &*before;
        self.current.store(Arc::new(Current {
            contents: contents.clone(),
            config: Arc::clone(config),
            revocation: revocation.clone(),
            outdated: CancellationToken::new(),
        }));
        outdated.cancel();
    }

    /// Agrees on TLS with the other end: the connection, its names, and when who was believed has to come again.
    pub(super) async fn accept(
        &self,
        io: TcpStream,
    ) -> io::Result<(TlsStream<Hello<TcpStream>>, Option<Names>, CancellationToken)> {
        let current = self.current.load_full();
        let mut stream = TlsAcceptor::from(Arc::clone(&current.config))
            .accept(Hello::new(io))
            .await
            .map_err(refused::of_caller)?;
        stream.get_mut().0.agreed();
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let names = shown.map(Names::of);
        Ok((stream, names, current.outdated.clone()))
    }
}

impl Reloaded {
    fn log(self) {
        match self {
            Self::Unchanged => {}
            Self::Certificate => info!("another certificate is shown to callers from now on"),
            Self::Trust => {
                info!("whose certificates are believed has changed: callers are asked to come again")
            }
        }
    }
}

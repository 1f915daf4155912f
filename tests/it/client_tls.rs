//! Calls over TLS: people and sidecars call a real licensing backend, and people a sidecar that wants their certificate.

use std::{num::NonZeroUsize, path::Path, process::Command, sync::Arc};

use esa_sidecar::{
    clock::WallClock,
    edge::{
        address::ListenAddress,
        listener::Listener,
        tls::{Files, Tls},
    },
    health::Monitor,
    licensing::{Anew, Opened},
    proto::enforcement::RefreshOutcome,
    server::{self, LicensingListeners, Vitals},
    signing::TrustedKeys,
};
use tokio::task::{JoinHandle, block_in_place};
use tokio_util::sync::CancellationToken;

use crate::{
    callers::Guarded,
    certificates::{Authority, Issued},
    cli::{command, shown},
    sidecar::{ID, config, opening},
    syncing,
};

/// A licensing backend that speaks TLS, and a home of somebody who calls it.
struct Backend {
    home: tempfile::TempDir,
    port: u16,
    one_time_password: String,
    keys: TrustedKeys,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

impl Backend {
    /// Shows what `authority` has in place.
    async fn start(authority: &Authority) -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = config("");
        let stop = CancellationToken::new();
        let folder = home.path().join("backend");
        let opened =
            Opened::at(&folder, config.backend.clone(), Arc::new(WallClock), stop.clone(), Anew::default());
        let opened = opened.await.unwrap();
        let keys = TrustedKeys::of(opened.backend.keys().public_keys()).unwrap();
        let (certificate, key) = (authority.path("server.pem"), authority.path("server.key"));
        let files = Files {
            certificate,
            key,
            client_ca: None,
            revocations: None,
            require_revocations: false,
            allow_tls12: false,
        };
        let tls = Tls::read(files, Arc::new(WallClock)).unwrap();
        let listener = Listener::open(&ListenAddress::loopback(0), opening(NonZeroUsize::MIN)).await.unwrap();
        let ListenAddress::Tcp(address) = listener.address().clone() else { panic!("{listener:?}") };
        let run = server::run_licensing(
            config,
            opened.backend.clone(),
            LicensingListeners { licensing: listener, tls: Some(tls), beside: None, probes: None },
            Vitals { monitor: Monitor::of_backend(), ..Vitals::default() },
            stop.clone(),
        );
        let ended = tokio::spawn(async { run.await.unwrap() });
        let one_time_password = opened.one_time_password.unwrap();
        Self { home, port: address.port(), one_time_password, keys, stop, ended }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn command(&self, arguments: &str) -> Command {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let mut command = command(&arguments);
        command.env("HOME", self.home.path()).current_dir(self.home.path());
        command
    }

    /// What a command at `address` comes to, believing the authorities in the file `ca`.
    fn at(&self, address: &str, ca: Option<&Path>, arguments: &str) -> String {
        let mut command = self.command(arguments);
        command.env("ESA_SIDECAR_LICENSING", address);
        if let Some(ca) = ca {
            command.arg("--ca").arg(ca);
        }
        shown(&block_in_place(|| command.output()).unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.home.path().join(name), text).unwrap();
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ended.await.unwrap();
    }
}

fn authority_of(issued: impl FnOnce(&Authority) -> Issued) -> Authority {
    let authority = Authority::new();
    authority.serve(&issued(&authority));
    authority
}

#[tokio::test(flavor = "multi_thread")]
async fn people_and_sidecars_call_a_backend_over_tls_whose_authority_is_named() {
    let authority = authority_of(|authority| authority.issue("localhost", 1));
    let backend = Backend::start(&authority).await;
    let ca = authority.path("ca.pem");
    backend.write("first", &backend.one_time_password);
    backend.write("password", "correct horse battery staple");
    for arguments in [
        "accounts sign-in owner --password-file first",
        "accounts change-password --old-password-file first --new-password-file password",
        "licenses create --seats 5 --expires-in 365d --key-output key",
        "activate --license-key-file key --data-dir data",
    ] {
        let done = backend.at(&backend.url(), Some(&ca), arguments);
        assert!(done.starts_with("exit status 0\n"), "{arguments}: {done}");
    }
    let data = backend.home.path().join("data");
    let more = format!("ca = '{}'\n", ca.display());
    let sidecar = syncing::sidecar(&[&backend.url()], backend.keys.clone(), &data, &more).await;
    sidecar.ready().await.stop().await;
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_believed_over_tls_is_not_called_and_it_is_said_what_to_do() {
    let authority = authority_of(|authority| authority.issue("localhost", 1));
    let backend = Backend::start(&authority).await;
    let aged = authority_of(|authority| authority.issue_expired("localhost"));
    let expired = Backend::start(&aged).await;
    let foreign = Authority::new();
    let plain = Guarded::start("", &ListenAddress::loopback(0)).await;
    backend.write("password", "correct horse battery staple");
    for (address, ca, status, what) in [
        (backend.url(), Some(foreign.path("ca.pem")), 2, "authority that is not believed here; name that"),
        (backend.url(), None, 2, "authority"),
        (backend.url(), Some(foreign.path("none.pem")), 2, "none.pem`: No such file"),
        (
            backend.url(),
            Some(authority.path("server.key")),
            2,
            "server.key`: line 1: a certificate is expected here, not `PRIVATE KEY`",
        ),
        (expired.url(), Some(aged.path("ca.pem")), 2, "has expired; it needs another"),
        (format!("https://127.0.0.1:{}", backend.port), Some(authority.path("ca.pem")), 2, "only valid for"),
        (format!("https://{}", plain.address), Some(authority.path("ca.pem")), 2, "no TLS is spoken"),
        (format!("localhost:{}", backend.port), None, 2, "write `https://`"),
        ("http://192.0.2.1:50052".to_owned(), None, 64, "another machine"),
    ] {
        for arguments in
            ["accounts sign-in owner --password-file password", "activate --license-key-file password"]
        {
            let said = backend.at(&address, ca.as_deref(), arguments);
            assert!(said.starts_with(&format!("exit status {status}\n")), "{address}: {said}");
            assert!(said.contains(what), "{address}: {said}");
        }
    }
    backend.stop().await;
    expired.stop().await;
    plain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_authority_counts_at_the_next_connection() {
    let authority = authority_of(|authority| authority.issue("localhost", 1));
    let backend = Backend::start(&authority).await;
    let ca = backend.home.path().join("ca.pem");
    let foreign = Authority::new();
    std::fs::copy(foreign.path("ca.pem"), &ca).unwrap();
    let more = format!("subscription = '3A8-WN7-7TD'\nca = '{}'\n", ca.display());
    let data = backend.home.path().join("data");
    let mut sidecar = syncing::sidecar(&[&backend.url()], backend.keys.clone(), &data, &more).await;
    let failed = sidecar.refresh().await;
    assert!(failed.detail.contains("authority that is not believed here"), "{}", failed.detail);
    std::fs::copy(authority.path("ca.pem"), &ca).unwrap();
    let renewed = sidecar.refresh().await;
    assert_ne!(renewed.outcome(), RefreshOutcome::Failed, "{renewed:?}");
    sidecar.stop().await;
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_ask_a_sidecar_that_wants_their_certificate() {
    let authority = authority_of(|authority| authority.issue("localhost", 1));
    authority.revoke(&[]);
    let caller =
        "[[callers]]\nname = 'it'\nrole = 'authentication_server'\ncertificate_dns = 'it.example.org'\n";
    let sidecar =
        Guarded::start(&format!("{}{caller}", authority.table()), &ListenAddress::loopback(0)).await;
    let port = sidecar.address.to_string().replace("127.0.0.1:", "");
    let issued = authority.issue("it.example.org", 7);
    std::fs::write(authority.path("it.pem"), &issued.certificate).unwrap();
    std::fs::write(authority.path("it.key"), &issued.key).unwrap();
    let ask = |arguments: &[&str], shows: &[(&str, &str)]| {
        let mut command = command(arguments);
        command.env("ESA_SIDECAR_SERVER", format!("https://localhost:{port}"));
        command.env("ESA_SIDECAR_CA", authority.path("ca.pem"));
        command.envs(shows.iter().map(|(name, file)| (name, authority.path(file))));
        shown(&block_in_place(|| command.output()).unwrap())
    };
    let identity = [("ESA_SIDECAR_CERTIFICATE", "it.pem"), ("ESA_SIDECAR_KEY", "it.key")];
    for arguments in
        [&["status", "--subscription", ID][..], &["authorize", "enable_users", "--subscription", ID]]
    {
        let answered = ask(arguments, &identity);
        assert!(answered.starts_with("exit status 0\n"), "{answered}");
        let refused = ask(arguments, &[]);
        assert!(refused.contains("--certificate and --key"), "{refused}");
    }
    let other_key = [("ESA_SIDECAR_CERTIFICATE", "it.pem"), ("ESA_SIDECAR_KEY", "server.key")];
    let refused = ask(&["status"], &other_key);
    assert!(refused.contains("it.pem` and `") && refused.contains("do not go together"), "{refused}");
    let refused = ask(&["status"], &identity[..1]);
    assert!(refused.contains("--key <FILE>"), "{refused}");
    sidecar.stop().await;
}

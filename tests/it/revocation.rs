//! Revocation lists: which of them counts, and what becomes of callers when one is out of date or missing.

use std::{fs, io, time::Duration};

use esa_sidecar::{
    clock::ManualClock,
    domain::Instant,
    edge::address::ListenAddress,
    proto::enforcement::{
        Operation, WatchSubscriptionRequest, enforcement_service_client::EnforcementServiceClient,
    },
    rfc3339,
};
use tokio::sync::mpsc;
use tracing::subscriber::DefaultGuard;

use crate::{
    callers::Guarded,
    certificates::{Authority, Issued},
    cli::{command, shown},
    sidecar::{ID, question},
};

const NAME: &str = "spiffe://example.org/authentication";

/// Whoever shows a certificate in that name asks everything.
const TABLE: &str = "[[callers]]\nname = 'it'\nrole = 'authentication_server'\ncertificate_uri = 'spiffe://example.org/authentication'\n";

/// What this thread logs, as it comes.
struct Log {
    lines: mpsc::UnboundedReceiver<String>,
    read: Vec<String>,
    _guard: DefaultGuard,
}

/// Each line of it.
#[derive(Clone)]
struct Lines(mpsc::UnboundedSender<String>);

impl Log {
    fn open() -> Self {
        let (sender, lines) = mpsc::unbounded_channel();
        let writer = Lines(sender);
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        Self { lines, read: Vec::new(), _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Returns once a line has `what` in it.
    async fn says(&mut self, what: &str) {
        loop {
            let line = tokio::time::timeout(Duration::from_secs(10), self.lines.recv()).await;
            let line = line.unwrap_or_else(|_| panic!("no `{what}` in {:#?}", self.read)).unwrap();
            self.read.push(line);
            if self.read.last().unwrap().contains(what) {
                return;
            }
        }
    }

    /// How many warnings had `what` in them so far.
    fn warnings(&mut self, what: &str) -> usize {
        while let Ok(line) = self.lines.try_recv() {
            self.read.push(line);
        }
        self.read.iter().filter(|line| line.contains("WARN") && line.contains(what)).count()
    }
}

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn year(year: i32) -> Instant {
    rfc3339::parse(&format!("{year}-01-01T00:00:00Z")).unwrap()
}

/// An authority whose server is certified, and which has revoked nothing.
fn authority() -> Authority {
    let authority = Authority::new();
    authority.serve(&authority.issue("sidecar.test", 1));
    authority
}

/// Two that are believed, of which one has a list, which is due in 2028.
fn two_authorities() -> (Authority, Authority) {
    let (one, other) = (authority(), Authority::named("other"));
    let believed = fs::read_to_string(one.path("ca.pem")).unwrap() + &other.pem();
    fs::write(one.path("ca.pem"), believed).unwrap();
    fs::write(one.path("revoked.pem"), one.list(&[], 2026, 2028)).unwrap();
    (one, other)
}

/// The configuration of a sidecar that requires lists.
fn required(authority: &Authority) -> String {
    format!("{}require_revocations = true\n{TABLE}", authority.table())
}

/// Whether a caller with this certificate is answered, on a connection of its own.
async fn is_answered(sidecar: &Guarded, authority: &Authority, issued: &Issued) -> bool {
    let Some(channel) = sidecar.connect(authority, Some(issued)).await else { return false };
    // With TLS 1.3 a client hears that it is refused only when it reads.
    EnforcementServiceClient::new(channel).authorize(question(Operation::EnableUsers)).await.is_ok()
}

#[tokio::test]
async fn of_several_lists_of_an_authority_the_newest_counts_wherever_it_stands() {
    let authority = authority();
    let (older, newer) = (authority.list(&[9], 2025, 2096), authority.list(&[8], 2026, 2096));
    for lists in [[&older, &newer], [&newer, &older]] {
        fs::write(authority.path("revoked.pem"), lists.map(String::as_str).concat()).unwrap();
        let toml = format!("{}{TABLE}", authority.table());
        let sidecar = Guarded::start(&toml, &ListenAddress::loopback(0)).await;
        assert!(!is_answered(&sidecar, &authority, &authority.issue(NAME, 8)).await);
        assert!(is_answered(&sidecar, &authority, &authority.issue(NAME, 9)).await);
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn of_lists_that_an_authority_made_at_one_instant_the_last_counts() {
    let authority = authority();
    let lists = [authority.list(&[9], 2026, 2096), authority.list(&[8], 2026, 2096)];
    fs::write(authority.path("revoked.pem"), lists.concat()).unwrap();
    let sidecar = Guarded::start(&format!("{}{TABLE}", authority.table()), &ListenAddress::loopback(0)).await;
    assert!(!is_answered(&sidecar, &authority, &authority.issue(NAME, 8)).await);
    assert!(is_answered(&sidecar, &authority, &authority.issue(NAME, 9)).await);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_list_that_grows_old_and_an_authority_without_one_are_told_of_once_and_again_when_mended() {
    let (one, other) = two_authorities();
    let mut log = Log::open();
    let clock = ManualClock::at(year(2027));
    let sidecar = Guarded::judging_by(clock.clone(), &format!("{}{TABLE}", one.table())).await;
    log.says("there is no revocation list of `CN=other`").await;
    assert_eq!(log.warnings("out of date"), 0);
    // Time alone changes it. Who comes with certificates of either is believed.
    clock.set(year(2028));
    log.says("the revocation list of `CN=authority` is out of date since 2028-01-01T00:00:00Z").await;
    for authority in [&one, &other] {
        assert!(is_answered(&sidecar, &one, &authority.issue(NAME, 7)).await);
    }
    // The files are looked at again, and it is not told again.
    one.serve(&one.issue("sidecar.test", 2));
    log.says("another certificate is shown").await;
    fs::write(one.path("revoked.pem"), one.list(&[], 2028, 2029) + &other.list(&[], 2028, 2029)).unwrap();
    log.says("it is no longer so that the revocation list of `CN=authority` is out of date").await;
    log.says("it is no longer so that there is no revocation list of `CN=other`").await;
    assert_eq!((log.warnings("out of date"), log.warnings("no revocation list")), (1, 1), "{:#?}", log.read);
    sidecar.stop().await;
}

#[tokio::test]
async fn where_lists_are_required_callers_whose_authority_has_none_in_date_are_refused_until_it_has() {
    let (one, other) = two_authorities();
    let mut log = Log::open();
    let clock = ManualClock::at(year(2027));
    let sidecar = Guarded::judging_by(clock.clone(), &required(&one)).await;
    log.says("`CN=other`: callers with certificates of this authority are refused").await;
    let (caller, others) = (one.issue(NAME, 7), other.issue(NAME, 7));
    assert!(is_answered(&sidecar, &one, &caller).await);
    assert!(!is_answered(&sidecar, &one, &others).await);
    let mut open = EnforcementServiceClient::new(sidecar.connect(&one, Some(&caller)).await.unwrap());
    let watch = open.watch_subscription(WatchSubscriptionRequest { subscription_id: ID.to_owned() });
    let mut watch = watch.await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    clock.set(year(2028));
    assert!(!is_answered(&sidecar, &one, &caller).await);
    // Nor does it stay connected.
    let ended = tokio::time::timeout(Duration::from_secs(10), watch.message()).await;
    assert!(ended.expect("the watch ends").unwrap().is_none());
    fs::write(one.path("revoked.pem"), one.list(&[8], 2028, 2029) + &other.list(&[], 2028, 2029)).unwrap();
    log.says("no longer so that there is no revocation list of `CN=other`").await;
    for (issued, answered) in [(caller, true), (others, true), (one.issue(NAME, 8), false)] {
        assert_eq!(is_answered(&sidecar, &one, &issued).await, answered);
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn where_lists_are_required_each_authority_on_the_way_to_a_certificate_needs_one() {
    let root = authority();
    let middle = root.beneath("middle");
    let mut caller = middle.issue(NAME, 7);
    caller.certificate += &middle.pem();
    let (of_root, of_middle) = (root.list(&[], 2026, 2028), middle.list(&[], 2026, 2028));
    let overdue = root.list(&[], 2025, 2026);
    for (lists, answered) in [
        ([of_root.as_str(), of_middle.as_str()], true),
        ([of_root.as_str(), ""], false),
        ([of_middle.as_str(), ""], false),
        ([overdue.as_str(), of_middle.as_str()], false),
    ] {
        fs::write(root.path("revoked.pem"), lists.concat()).unwrap();
        let sidecar = Guarded::judging_by(ManualClock::at(year(2027)), &required(&root)).await;
        assert_eq!(is_answered(&sidecar, &root, &caller).await, answered, "{lists:?}");
        sidecar.stop().await;
    }
}

#[test]
fn checking_a_configuration_tells_of_a_list_that_is_out_of_date() {
    let authority = authority();
    fs::write(authority.path("revoked.pem"), authority.list(&[], 2024, 2025)).unwrap();
    fs::write(authority.path("esa-sidecar.toml"), authority.table()).unwrap();
    let path = authority.path("esa-sidecar.toml").display().to_string();
    let said = shown(&command(&["check-config", &path]).output().unwrap());
    assert_eq!(
        said.replace(&path, "FILE"),
        "exit status 0\nFILE: it can be used, but the revocation list of `CN=authority` is out of date since \
         2025-01-01T00:00:00Z\n"
    );
}

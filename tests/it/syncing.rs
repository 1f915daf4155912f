//! A sidecar and its licensing backend: syncs, pushes, what is refused, and usage that is never lost.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use esa_sidecar::{
    config::Config,
    domain::{Activation, Facts, facts::SmsCredits},
    proto::{
        enforcement::{self as api, enforcement_service_client::EnforcementServiceClient},
        health::health_client::HealthClient,
        licensing::{RefusedUsage, SyncRequest, Usage},
    },
    refresh::persist::{IssuedTo, Store},
    signing::TrustedKeys,
    source::{
        Ask, FactsSource as _, Occasion,
        remote::{RemoteSource, Settings},
        units::UnitsFile,
        usage::UsageBySubscription,
    },
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    backend::{Backend, Judge, Replica, Spoil},
    cli::{command, shown},
    scripted_backend::ScriptedBackend,
    sidecar::{ID, START, ScriptedSource, Sidecar, config, days, healthy},
};

/// Quick where tests wait, and never of its own accord where they count.
const SETTINGS: &str = "
    [refresh]\nretry_first = '10ms'\nretry_most = '50ms'\nat_most_every = '1ms'
    [licensing]\nsync_interval = '30d'\nusage_delay = '1ms'\nsms_delay = '1ms'\ntimeout = '5s'\n";

fn configured(replicas: &[&str], more: &str) -> Config {
    let urls: Vec<String> = replicas.iter().map(|address| format!("'{address}'")).collect();
    let toml = format!("{SETTINGS}urls = [{}]\n{more}", urls.join(", "));
    let mut config = config(&toml);
    config.refresh = config.refresh.of_backend(&config.licensing);
    config
}

/// A sidecar on the data folder `folder` that asks `replicas`.
pub(crate) async fn sidecar(replicas: &[&str], trusted: TrustedKeys, folder: &Path, more: &str) -> Sidecar {
    let config = configured(replicas, more);
    let units = UnitsFile::of(folder.to_owned()).read().unwrap().units.into_iter();
    let ours = units.map(|unit| (unit.unit_id, unit.subscription_id));
    let ours = IssuedTo::these(ours, config.licensing.subscription);
    let store = Store::open(folder.to_owned()).unwrap().trusting(trusted.clone(), ours);
    let source = remote_source(&config, trusted, folder);
    Sidecar::start_from(source, Some(store), config).await
}

fn remote_source(config: &Config, trusted: TrustedKeys, folder: &Path) -> RemoteSource {
    let units = UnitsFile::of(folder.to_owned());
    let trusts = Arc::new(move || trusted.clone());
    RemoteSource::new(config.licensing.urls.clone(), trusts, units, Settings::of(config)).unwrap()
}

/// A backend with one replica, and a data folder activated there.
fn one_unit(facts: Facts) -> (Backend, Replica, tempfile::TempDir) {
    let backend = Backend::telling(facts);
    let folder = tempfile::tempdir().unwrap();
    backend.activated(folder.path());
    let replica = backend.replica(None);
    (backend, replica, folder)
}

fn sms(ids: &[&str]) -> api::ReportUsageRequest {
    let sms_sent = ids.iter().map(|id| api::SmsSent { id: (*id).to_owned(), credits: 2 }).collect();
    api::ReportUsageRequest { sms_sent, ..api::ReportUsageRequest::default() }
}

async fn report(sidecar: &mut Sidecar, request: api::ReportUsageRequest) -> api::ReportUsageResponse {
    sidecar.client.report_usage(request).await.unwrap().into_inner()
}

async fn credits(sidecar: &mut Sidecar) -> Option<u64> {
    sidecar.subscription(ID).await.usage.unwrap().sms_credits
}

#[tokio::test]
async fn a_sync_carries_usage_and_brings_facts() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let mut sidecar = sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
    let provenance = sidecar.subscription(ID).await.provenance.unwrap();
    assert_eq!(provenance.origin(), api::Origin::Live);
    let counts = api::ReportUsageRequest { active_users: Some(7), all_users: Some(9), ..sms(&["a", "b"]) };
    let reported = report(&mut sidecar, counts).await;
    assert_eq!((reported.sms_counted, reported.sms_credits, reported.counts_taken), (2, Some(96), true));
    backend.until(|state| state.sms.len() == 2).await;
    let usage: Vec<Usage> = backend.state().syncs.iter().filter_map(|sync| sync.usage.clone()).collect();
    let [usage] = &usage[..] else { panic!("{usage:?}") };
    let counts = usage.counts.unwrap();
    assert_eq!((counts.active_users, counts.all_users, counts.components), (Some(7), Some(9), None));
    assert_eq!(counts.counted_at.unwrap().seconds, 1_800_000_000);
    assert_eq!(usage.installation, "main");
    // Told again, nothing is subtracted twice and nothing is handed over twice.
    sidecar.refresh().await;
    assert_eq!(credits(&mut sidecar).await, Some(96));
    assert_eq!(backend.state().syncs.last().unwrap().usage, None);
    sidecar.stop().await;
}

/// Units that were activated before secrets were renewed have no date: nobody knows how old their secret is.
#[tokio::test]
async fn a_secret_is_renewed_when_it_is_old_or_nobody_knows_since_when_it_is() {
    for (since, is_renewed) in [
        (None, true),
        (Some(START - days(31)), true),
        (Some(START - days(29)), false),
        (Some(START + days(1)), false),
    ] {
        let backend = Backend::telling(healthy(ID));
        let folder = tempfile::tempdir().unwrap();
        let unit_id = backend.activated_with_secret_since(folder.path(), since);
        let before = backend.state().units[&unit_id].clone();
        let replica = backend.replica(None);
        let mut sidecar =
            sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
        sidecar.refresh().await;
        assert_eq!(backend.state().units[&unit_id] != before, is_renewed, "{since:?}");
        let after = UnitsFile::of(folder.path().to_owned()).read().unwrap().units.remove(0);
        assert_eq!(after.secret.sha256(), backend.state().units[&unit_id], "{since:?}");
        assert!(after.next_secret.is_none());
        if is_renewed {
            assert!(after.secret_since.is_some_and(|since| START <= since), "from now on it has a date");
        }
        let renewed = backend.state().units[&unit_id].clone();
        sidecar.refresh().await;
        assert_eq!(backend.state().units[&unit_id], renewed, "{since:?}: and not again");
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn usage_is_kept_while_the_backend_is_away_and_counts_once_after_a_restart() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let trusted = backend.trusted();
    let mut first = sidecar(&[&replica.address], trusted.clone(), folder.path(), "").await.ready().await;
    let address = replica.kill();
    assert_eq!(report(&mut first, sms(&["a", "b"])).await.sms_credits, Some(96));
    // Whatever it has to say at the end is not waited for, but that its connections are gone as those of a process are.
    first.ended.abort();
    drop((first.ended.await, first.client, first.health));
    while Store::open(folder.path().to_owned()).is_err() {
        tokio::task::yield_now().await;
    }

    let mut second = sidecar(&[&address], trusted, folder.path(), "").await.ready().await;
    assert_eq!(credits(&mut second).await, Some(96), "subtracted before the backend is heard");
    let reported = report(&mut second, sms(&["b", "c"])).await;
    assert_eq!((reported.sms_counted, reported.sms_repeated, reported.sms_credits), (1, 1, Some(94)));
    let _replica = backend.replica(Some(&address));
    backend.until(|state| state.sms.len() == 3).await;
    second.refresh().await;
    assert_eq!(credits(&mut second).await, Some(94));
    second.stop().await;
}

#[tokio::test]
async fn a_backend_on_a_unix_socket_is_asked_and_watched() {
    let (backend, _replica, folder) = one_unit(healthy(ID));
    let socket = backend.on_socket(&folder.path().join("licensing.sock"));
    let sidecar = sidecar(&[&socket.address], backend.trusted(), folder.path(), "").await.ready().await;
    backend.until(|state| state.watches == 1).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn usage_whose_answer_was_lost_is_handed_over_again() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let mut sidecar = sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
    backend.until(|state| state.watches == 1).await;
    let before = backend.state().syncs.len();
    backend.state().spoil.push_back(Spoil::Lost);
    report(&mut sidecar, sms(&["a"])).await;
    backend.until(|state| before + 2 <= state.syncs.len()).await;
    sidecar.refresh().await;
    let handed = |sync: &SyncRequest| sync.usage.as_ref().map_or(0, |usage| usage.sms_sent.len());
    let handed: Vec<usize> = backend.state().syncs[before..].iter().map(handed).collect();
    assert!(handed.starts_with(&[1, 1]) && handed.iter().sum::<usize>() == 2, "{handed:?}");
    assert_eq!(credits(&mut sidecar).await, Some(98), "and counts once");
    sidecar.stop().await;
}

#[tokio::test]
async fn more_sms_than_a_sync_takes_go_with_the_syncs_that_follow_at_once() {
    let (backend, replica, folder) = one_unit(Facts { sms_credits: Some(SmsCredits(9_999)), ..healthy(ID) });
    let more = "[limits]\nsms_in_report = 5000\n";
    let mut sidecar =
        sidecar(&[&replica.address], backend.trusted(), folder.path(), more).await.ready().await;
    let ids: Vec<String> = (0..2_500).map(|number| number.to_string()).collect();
    report(&mut sidecar, sms(&ids.iter().map(String::as_str).collect::<Vec<_>>())).await;
    backend.until(|state| state.sms.len() == 2_500).await;
    let sizes: Vec<usize> =
        backend.state().syncs.iter().filter_map(|sync| Some(sync.usage.as_ref()?.sms_sent.len())).collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
    sidecar.refresh().await;
    assert_eq!(credits(&mut sidecar).await, Some(4_999));
    sidecar.stop().await;
}

#[tokio::test]
async fn facts_that_are_not_what_was_asked_for_are_refused_and_change_nothing() {
    for (spoil, why) in [
        (Spoil::Unsigned, "not signed"),
        (Spoil::Edited, "signature does not match"),
        (Spoil::OtherKey, "not trusted"),
        (Spoil::OtherUnit, "issued to the unit `another`"),
        (Spoil::OtherSubscription, "ZZZ-ZZZ-ZZZ"),
        (Spoil::Replayed, "nonce"),
        (Spoil::Older, "older ones are not taken"),
        (Spoil::Missing, "not signed"),
        (Spoil::Refused, "does not let"),
    ] {
        let (backend, replica, folder) = one_unit(healthy(ID));
        let mut sidecar =
            sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
        backend.until(|state| state.watches == 1).await;
        let before = sidecar.subscription(ID).await;
        let kept = fs::read(folder.path().join("facts.jsonl")).unwrap();
        {
            // Nobody is told, so that the sync brings it.
            let mut state = backend.state();
            state.facts.sms_credits = Some(SmsCredits(1));
            state.spoil = [spoil; 100].into();
        }
        report(&mut sidecar, sms(&["a"])).await;
        let refused = sidecar.refresh().await;
        assert_eq!(refused.outcome(), api::RefreshOutcome::Failed, "{spoil:?}");
        assert!(refused.detail.contains(why), "{spoil:?}: {}", refused.detail);
        let held = sidecar.subscription(ID).await;
        assert_eq!(held.provenance.unwrap().as_of, before.provenance.unwrap().as_of, "{spoil:?}");
        assert_eq!(
            held.usage.unwrap().sms_credits,
            Some(98),
            "{spoil:?}: only what was reported is subtracted"
        );
        assert_eq!(fs::read(folder.path().join("facts.jsonl")).unwrap(), kept, "{spoil:?}");

        // What is told properly counts, and the usage that came with what was refused is handed over again.
        backend.state().spoil.clear();
        backend.state().facts.sms_credits = Some(SmsCredits(50));
        sidecar.refresh().await;
        assert_eq!(credits(&mut sidecar).await, Some(48), "{spoil:?}");
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn a_change_is_pushed_and_counts_without_a_sync() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let mut sidecar = sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
    backend.until(|state| state.watches == 1).await;
    let mut held = sidecar.watch(ID).await;
    held.message().await.unwrap();
    let syncs = backend.state().syncs.len();
    for credits in [20, 10] {
        backend.change(|state| state.facts.sms_credits = Some(SmsCredits(credits)));
        let told = held.message().await.unwrap().unwrap().subscription.unwrap();
        assert_eq!(told.usage.unwrap().sms_credits, Some(credits));
    }
    assert_eq!(backend.state().syncs.len(), syncs);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_push_that_is_not_what_was_asked_for_changes_nothing_and_the_next_one_counts() {
    for spoil in [
        Spoil::Unsigned,
        Spoil::Edited,
        Spoil::OtherKey,
        Spoil::OtherUnit,
        Spoil::OtherSubscription,
        Spoil::Replayed,
        Spoil::Missing,
    ] {
        let (backend, replica, folder) = one_unit(healthy(ID));
        let mut sidecar =
            sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
        backend.until(|state| state.watches == 1).await;
        let mut held = sidecar.watch(ID).await;
        held.message().await.unwrap();
        backend.change(|state| {
            state.spoil.push_back(spoil);
            state.facts.sms_credits = Some(SmsCredits(20));
        });
        // The stream that brought it is given up, and the next one brings the same, properly.
        let told = held.message().await.unwrap().unwrap().subscription.unwrap();
        assert_eq!(told.usage.unwrap().sms_credits, Some(20), "{spoil:?}");
        assert_eq!(told.provenance.unwrap().revision, 2, "{spoil:?}");
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn a_push_a_sync_has_overtaken_is_passed_over_and_the_stream_goes_on() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let mut sidecar = sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
    backend.until(|state| state.watches == 1).await;
    let mut held = sidecar.watch(ID).await;
    held.message().await.unwrap();
    backend.change(|state| {
        state.spoil.push_back(Spoil::Older);
        state.facts.sms_credits = Some(SmsCredits(20));
    });
    backend.until(|state| state.spoil.is_empty()).await;
    backend.change(|state| state.facts.sms_credits = Some(SmsCredits(10)));
    let told = held.message().await.unwrap().unwrap().subscription.unwrap();
    assert_eq!(told.usage.unwrap().sms_credits, Some(10));
    assert_eq!(backend.state().opened, 1);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_unit_told_that_it_is_deactivated_syncs_once_and_hears_of_another_licence() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let mut sidecar = sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
    backend.until(|state| state.watches == 1).await;
    let mut held = sidecar.watch(ID).await;
    held.message().await.unwrap();
    let syncs = backend.state().syncs.len();
    backend.change(|state| state.facts.activation = Activation::Deactivated { since: START });
    backend.until(|state| syncs < state.syncs.len()).await;
    loop {
        let told = held.message().await.unwrap().unwrap().subscription.unwrap();
        if told.state() == api::SubscriptionState::Disabled {
            break;
        }
    }
    assert_eq!(backend.state().syncs.len(), syncs + 1);
    // Whether its counts are of any use, the backend knows.
    let counts = api::ReportUsageRequest { active_users: Some(1), ..api::ReportUsageRequest::default() };
    assert!(report(&mut sidecar, counts).await.counts_taken);
    backend.until(|state| state.syncs.iter().any(|sync| sync.usage.is_some())).await;
    backend.change(|state| state.facts.activation = Activation::Active);
    loop {
        let told = held.message().await.unwrap().unwrap().subscription.unwrap();
        if told.state() == api::SubscriptionState::Ok {
            break;
        }
    }
    assert_eq!(backend.state().syncs.len(), syncs + 2, "heard without a sync");
    assert_eq!(backend.state().opened, 1);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_replica_that_refuses_is_passed_over_for_one_that_answers() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    // One knows no units, as on an empty database; the other, as something on the way may, not even the call.
    let empty = Backend::telling(healthy(ID));
    let (empty, knows_nothing) = (empty.replica(None), ScriptedBackend::start());
    let knows_nothing_at = knows_nothing.address.to_string();
    let config = configured(&[&empty.address, &knows_nothing_at, &replica.address], "");
    let source = remote_source(&config, backend.trusted(), folder.path());
    let all = Ask { occasion: Occasion::Due, usage: UsageBySubscription::new(), held: BTreeMap::new() };
    let answer = source.fetch(all.clone()).await;
    assert!(answer.fetched.is_ok(), "{answer:?}");
    replica.kill();
    let answer = source.fetch(all).await;
    let Err(failure) = answer.fetched else { panic!("{answer:?}") };
    let what = failure.to_string();
    assert!(
        failure.is_retried() && what.contains("does not take the credential"),
        "where none answers, every one is told of: {what}"
    );
}

#[tokio::test]
async fn when_a_replica_dies_the_next_one_is_asked_and_watched() {
    let (backend, first, folder) = one_unit(healthy(ID));
    let second = backend.replica(None);
    let replicas = [first.address.clone(), second.address.clone()];
    let replicas = replicas.each_ref().map(String::as_str);
    let mut sidecar = sidecar(&replicas, backend.trusted(), folder.path(), "").await.ready().await;
    backend.until(|state| state.watches == 1).await;
    let mut held = sidecar.watch(ID).await;
    held.message().await.unwrap();
    first.kill();
    assert_ne!(sidecar.refresh().await.outcome(), api::RefreshOutcome::Failed);
    backend.change(|state| state.facts.sms_credits = Some(SmsCredits(20)));
    loop {
        let told = held.message().await.unwrap().unwrap().subscription.unwrap();
        if told.usage.unwrap().sms_credits == Some(20) {
            break;
        }
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_replica_that_says_nothing_is_given_up() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    // It takes connections and never speaks.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|address| (silent, address.to_string())).unwrap();
    let config = configured(&[&silent.1, &replica.address], "");
    let settings = Settings { timeout: Duration::from_millis(200), ..Settings::of(&config) };
    let trusted = backend.trusted();
    let units = UnitsFile::of(folder.path().to_owned());
    let source =
        RemoteSource::new(config.licensing.urls.clone(), Arc::new(move || trusted.clone()), units, settings);
    let sidecar = Sidecar::start_from(source.unwrap(), None, config).await.ready().await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_connection_that_stalls_is_noticed_and_another_replica_is_watched() {
    let (backend, first, folder) = one_unit(healthy(ID));
    let second = backend.replica(None);
    let (stalls, stall) = tokio::sync::watch::channel(false);
    let between = stalling(first.address.clone(), stall).await;
    let more = "timeout = '300ms'\nkeepalive = '50ms'\n";
    let config = configured(&[&between, &second.address], "");
    let mut settings = Settings::of(&config);
    let short: Config = crate::sidecar::config(&format!("[licensing]\n{more}"));
    (settings.timeout, settings.keepalive) = (short.licensing.timeout, short.licensing.keepalive);
    let trusted = backend.trusted();
    let trusts = Arc::new(move || trusted.clone());
    let units = UnitsFile::of(folder.path().to_owned());
    let source = RemoteSource::new(config.licensing.urls.clone(), trusts, units, settings).unwrap();
    let mut sidecar = Sidecar::start_from(source, None, config).await.ready().await;
    backend.until(|state| state.watches == 1).await;
    let mut held = sidecar.watch(ID).await;
    held.message().await.unwrap();
    stalls.send(true).unwrap();
    // Nothing ends the stream but that nobody answers on it.
    backend.change(|state| state.facts.sms_credits = Some(SmsCredits(20)));
    let told = held.message().await.unwrap().unwrap().subscription.unwrap();
    assert_eq!(told.usage.unwrap().sms_credits, Some(20));
    sidecar.stop().await;
}

/// Where connections to `address` go through until they stall, without being closed.
async fn stalling(address: String, stall: tokio::sync::watch::Receiver<bool>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let between = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut here, _) = listener.accept().await.unwrap();
            let mut there = tokio::net::TcpStream::connect(&address).await.unwrap();
            let mut stall = stall.clone();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut here, &mut there) => return,
                    _ = stall.wait_for(|stall| *stall) => {}
                }
                // Both ends stay open, and nothing goes through.
                std::future::pending::<()>().await;
            });
        }
    });
    between
}

#[tokio::test]
async fn usage_that_was_not_given_is_not_said_to_be_taken() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let config = configured(&[&replica.address], "");
    let source = remote_source(&config, backend.trusted(), folder.path());
    for occasion in [Occasion::Due, Occasion::Changed] {
        let answer =
            source.fetch(Ask { occasion, usage: UsageBySubscription::new(), held: BTreeMap::new() }).await;
        assert!(answer.fetched.is_ok() && answer.usage_taken.is_empty(), "{answer:?}");
        // The units change, so that all of them sync.
        backend.activated(folder.path());
    }
    assert_eq!(backend.state().syncs.len(), 2);
}

/// The command itself, with nothing but a configuration.
#[tokio::test]
async fn serve_asks_the_backend_it_is_configured_with_and_believes_a_key_pinned_while_it_runs() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let path = folder.path().join("sidecar.toml");
    fs::write(&path, format!("{SETTINGS}urls = ['http://{}']", replica.address)).unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let arguments = ["serve", "--config", path.to_str().unwrap(), "--data-dir", data_dir];
    let mut serve = command(&arguments);
    serve.args(["--listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut child = serve.spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let address = line.strip_prefix("enforcement listening on ").unwrap().to_owned();
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = EnforcementServiceClient::new(channel.clone());
    let refused =
        client.refresh_subscription(api::RefreshSubscriptionRequest::default()).await.unwrap().into_inner();
    assert!(refused.detail.contains("not trusted"), "{}", refused.detail);
    backend.trusted().write(&TrustedKeys::file_in(folder.path())).unwrap();
    let request = esa_sidecar::proto::health::HealthCheckRequest::default();
    let mut statuses = HealthClient::new(channel).watch(request).await.unwrap().into_inner();
    while statuses.message().await.unwrap().unwrap().status() as i32 != 1 {}
    let request = api::GetSubscriptionRequest { subscription_id: ID.to_owned() };
    let held = client.get_subscription(request).await.unwrap().into_inner().subscription.unwrap();
    assert_eq!(held.provenance.unwrap().origin(), api::Origin::Live);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn pinned_keys_others_may_write_are_not_trusted_and_that_is_told_once() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let path = folder.path().join("sidecar.toml");
    fs::write(&path, format!("{SETTINGS}urls = ['http://{}']", replica.address)).unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let arguments = ["serve", "--config", path.to_str().unwrap(), "--data-dir", data_dir];
    let mut serve = command(&arguments);
    serve.args(["--listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"]);
    let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let address = line.strip_prefix("enforcement listening on ").unwrap().to_owned();
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = EnforcementServiceClient::new(channel);
    let pinned = TrustedKeys::file_in(folder.path());
    backend.trusted().write(&pinned).unwrap();
    fs::set_permissions(&pinned, fs::Permissions::from_mode(0o622)).unwrap();
    for _ in 0..3 {
        let refused = client.refresh_subscription(api::RefreshSubscriptionRequest::default()).await.unwrap();
        assert_eq!(refused.into_inner().outcome(), api::RefreshOutcome::Failed);
    }
    child.kill().unwrap();
    let log = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert_eq!(log.matches("can be written by others").count(), 1, "{log}");
}

#[tokio::test]
async fn a_restart_without_the_backend_goes_on_from_the_signed_facts_on_disk() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let trusted = backend.trusted();
    sidecar(&[&replica.address], trusted.clone(), folder.path(), "").await.ready().await.stop().await;
    let address = replica.kill();
    let mut again = sidecar(&[&address], trusted, folder.path(), "").await.ready().await;
    let subscription = again.subscription(ID).await;
    assert_eq!(subscription.provenance.unwrap().origin(), api::Origin::Persisted);
    again.clock.set(START + days(1));
    let refused = again.refresh().await;
    assert_eq!(refused.outcome(), api::RefreshOutcome::Failed);
    assert!(refused.detail.contains(&address), "{}", refused.detail);
    again.stop().await;
    // Keys that are not the backend's vouch for nothing.
    let others = Backend::telling(healthy(ID)).trusted();
    let mut distrusting = sidecar(&[&address], others, folder.path(), "").await;
    let request = api::GetSubscriptionRequest { subscription_id: ID.to_owned() };
    let unknown = distrusting.client.get_subscription(request).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable, "{unknown:?}");
    distrusting.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_activated_says_so_and_goes_on_once_it_is() {
    let backend = Backend::telling(Facts { activation: Activation::NotActivated, ..healthy(ID) });
    let replica = backend.replica(None);
    let folder = tempfile::tempdir().unwrap();
    let more = format!("subscription = '{ID}'\n");
    let mut sidecar =
        sidecar(&[&replica.address], backend.trusted(), folder.path(), &more).await.ready().await;
    assert_eq!(sidecar.subscription(ID).await.state(), api::SubscriptionState::NotActivated);
    let mut held = sidecar.watch(ID).await;
    held.message().await.unwrap();
    backend.state().facts.activation = Activation::Active;
    backend.state().sequence += 1;
    let activated = activate(&replica.address, folder.path(), &[]).await;
    assert!(activated.starts_with("exit status 0\nactivated as the unit u"), "{activated}");
    let told = held.message().await.unwrap().unwrap().subscription.unwrap();
    assert_eq!(told.state(), api::SubscriptionState::Ok);
    sidecar.stop().await;
}

#[tokio::test]
async fn an_activation_whose_answer_was_lost_goes_on_as_the_same() {
    let backend = Backend::telling(healthy(ID));
    let replica = backend.replica(None);
    let folder = tempfile::tempdir().unwrap();
    backend.state().spoil.push_back(Spoil::Lost);
    let lost = activate(&replica.address, folder.path(), &[]).await;
    assert!(lost.starts_with("exit status 2") && lost.contains("the same command again"), "{lost}");
    let done = activate(&replica.address, folder.path(), &[]).await;
    assert!(done.starts_with("exit status 0"), "{done}");
    assert!(!done.contains("secret-key") && !lost.contains("secret-key"), "no key is shown");
    {
        let state = backend.state();
        let [one, again] = &state.activations[..] else { panic!("{:?}", state.activations) };
        assert_eq!(one, again);
        assert_eq!((one.license_key.as_str(), one.device_name.as_str()), ("secret-key", "device"));
        assert_eq!(state.units.len(), 1);
    }
    let twice = activate(&replica.address, folder.path(), &[]).await;
    assert!(twice.starts_with("exit status 2") && twice.contains("activated already"), "{twice}");
    backend.trusted().write(&TrustedKeys::file_in(folder.path())).unwrap();
    let again = activate(&replica.address, folder.path(), &["--again"]).await;
    assert!(again.starts_with("exit status 0"), "{again}");
    assert_eq!(UnitsFile::of(folder.path().to_owned()).read().unwrap().units.len(), 1);
}

/// Semantics 6.8: whatever answers in the name of a backend, the credential of a unit that is one is kept.
#[tokio::test]
async fn a_unit_makes_room_only_for_one_that_a_trusted_key_vouches_for() {
    let (backend, impostor) = (Backend::telling(healthy(ID)), Backend::telling(healthy(ID)));
    let (replica, imposing) = (backend.replica(None), impostor.replica(None));
    let folder = tempfile::tempdir().unwrap();
    let file = UnitsFile::of(folder.path().to_owned());
    let first = activate(&replica.address, folder.path(), &[]).await;
    assert!(first.starts_with("exit status 0"), "the first one is in nobody's place: {first}");
    let units = file.read().unwrap().units;
    let nobody = activate(&replica.address, folder.path(), &["--again"]).await;
    assert!(nobody.starts_with("exit status 2") && nobody.contains("no key of a licensing"), "{nobody}");
    backend.trusted().write(&TrustedKeys::file_in(folder.path())).unwrap();
    let other = activate(&imposing.address, folder.path(), &["--again"]).await;
    assert!(other.starts_with("exit status 2") && other.contains("nothing confirms that"), "{other}");
    assert_eq!(file.read().unwrap().units, units, "the unit and its secret are as they were");
    let again = activate(&replica.address, folder.path(), &["--again"]).await;
    assert!(again.starts_with("exit status 0"), "{again}");
    let [unit] = &file.read().unwrap().units[..] else { panic!("one unit of a subscription") };
    assert_ne!(unit.unit_id, units[0].unit_id);
}

#[tokio::test]
async fn an_activation_whose_answer_was_lost_goes_on_though_it_was_refused_since() {
    let backend = Backend::telling(healthy(ID));
    let replica = backend.replica(None);
    let folder = tempfile::tempdir().unwrap();
    // As when the session has expired by the time it is tried again.
    backend.state().spoil = [Spoil::Lost, Spoil::Refused].into();
    for status in ["exit status 2", "exit status 2", "exit status 0"] {
        let answered = activate(&replica.address, folder.path(), &[]).await;
        assert!(answered.starts_with(status), "{answered}");
    }
    let state = backend.state();
    assert!(state.activations.len() == 3 && state.units.len() == 1, "{:?}", state.activations);
    assert!(state.activations.iter().all(|activation| *activation == state.activations[0]));
}

#[tokio::test]
async fn a_unit_tells_the_version_it_was_activated_with_or_else_this_sidecar_s() {
    let own = env!("CARGO_PKG_VERSION");
    for (more, version) in [(&[][..], own), (&["--product-version", "3.0.81.0"], "3.0.81.0")] {
        let backend = Backend::telling(healthy(ID));
        let replica = backend.replica(None);
        let folder = tempfile::tempdir().unwrap();
        activate(&replica.address, folder.path(), more).await;
        assert_eq!(backend.state().activations[0].product_version, version);
        let config = configured(&[&replica.address], "");
        let source = remote_source(&config, backend.trusted(), folder.path());
        let answer = source
            .fetch(Ask { occasion: Occasion::Due, usage: UsageBySubscription::new(), held: BTreeMap::new() })
            .await;
        assert!(answer.fetched.is_ok(), "{answer:?}");
        assert_eq!(backend.state().syncs[0].unit.as_ref().unwrap().product_version, version);
    }
}

#[tokio::test]
async fn an_activation_the_backend_refuses_leaves_nothing_behind() {
    let backend = Backend::telling(healthy(ID));
    let replica = backend.replica(None);
    let folder = tempfile::tempdir().unwrap();
    backend.state().spoil.push_back(Spoil::Refused);
    let refused = activate(&replica.address, folder.path(), &[]).await;
    assert!(refused.starts_with("exit status 2") && refused.contains("no such license key"), "{refused}");
    let units = UnitsFile::of(folder.path().to_owned()).read().unwrap();
    assert_eq!((units.units.len(), units.activating.len()), (0, 0));
    let far = activate("10.0.0.1:1", folder.path(), &[]).await;
    assert!(far.starts_with("exit status 64") && far.contains("plaintext"), "{far}");
}

#[tokio::test]
async fn an_account_activates_with_its_token_and_the_public_license_id() {
    let backend = Backend::telling(healthy(ID));
    let replica = backend.replica(None);
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let arguments =
        ["activate", "--licensing", &replica.address, "--data-dir", data_dir, "--license", "3a8-wn7-7td"];
    let run = |token: Option<&str>| {
        let mut command = command(&arguments);
        command.envs(token.map(|token| ("ESA_SIDECAR_TOKEN", token)));
        tokio::task::spawn_blocking(move || shown(&command.output().unwrap()))
    };
    let without = run(None).await.unwrap();
    assert!(without.starts_with("exit status 2") && without.contains("ESA_SIDECAR_TOKEN"), "{without}");
    let done = run(Some("esac_1_abc")).await.unwrap();
    assert!(done.starts_with("exit status 0"), "{done}");
    let state = backend.state();
    let [activation] = &state.activations[..] else { panic!("{:?}", state.activations) };
    assert_eq!((activation.license_id.as_str(), activation.license_key.as_str()), (ID, ""));
    assert!(!activation.device_name.is_empty(), "the name of this host");
    assert_eq!(state.bearers, [Some("Bearer esac_1_abc".to_owned())]);
}

/// Runs the command with a license key on standard input.
async fn activate(address: &str, folder: &Path, more: &[&str]) -> String {
    let data_dir = folder.to_str().unwrap();
    let mut arguments = vec!["activate", "--licensing", address, "--data-dir", data_dir];
    arguments.extend(["--license-key-file", "-", "--device-name", "device"]);
    arguments.extend(more);
    let mut command = command(&arguments);
    let key = folder.join("key");
    fs::write(&key, "secret-key\n").unwrap();
    command.stdin(fs::File::open(key).unwrap());
    shown(&tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
}

#[tokio::test]
async fn a_unit_the_backend_does_not_know_is_told_to_activate_anew() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    backend.state().units.clear();
    let mut sidecar = sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await;
    let refused = sidecar.refresh().await;
    assert_eq!(refused.outcome(), api::RefreshOutcome::Failed);
    assert!(refused.detail.contains("esa-sidecar activate"), "{}", refused.detail);
    sidecar.stop().await;
}

#[tokio::test]
async fn one_unit_s_failure_hides_no_other_s_facts() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let file = UnitsFile::of(folder.path().to_owned());
    file.change(|units| {
        let mut other = units.units[0].clone();
        other.unit_id = "unknown".to_owned();
        other.subscription_id = "BBB-BBB-BBB".parse().unwrap();
        units.units.push(other);
    })
    .unwrap();
    let mut sidecar = sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
    assert_eq!(sidecar.subscription(ID).await.state(), api::SubscriptionState::Ok);
    let failed = sidecar.refresh().await;
    assert_eq!(failed.outcome(), api::RefreshOutcome::Failed);
    assert!(failed.detail.contains("BBB-BBB-BBB"), "{}", failed.detail);
    sidecar.stop().await;
}

#[tokio::test]
async fn credits_that_are_spent_stay_spent_though_the_facts_that_know_of_it_are_not_kept() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let trusted = backend.trusted();
    let mut first = sidecar(&[&replica.address], trusted.clone(), folder.path(), "").await.ready().await;
    // A folder where the facts are to be written refuses whoever runs the test.
    let in_the_way = folder.path().join("facts.jsonl.new");
    fs::create_dir(&in_the_way).unwrap();
    report(&mut first, sms(&["a"])).await;
    backend.until(|state| state.sms.len() == 1).await;
    assert_ne!(first.refresh().await.outcome(), api::RefreshOutcome::Failed);
    assert_eq!(credits(&mut first).await, Some(98));
    first.stop().await;
    let address = replica.kill();
    let mut second = sidecar(&[&address], trusted.clone(), folder.path(), "").await.ready().await;
    assert_eq!(credits(&mut second).await, Some(98));
    second.stop().await;

    // Once the disk takes them, it is as if nothing had been in the way.
    fs::remove_dir(&in_the_way).unwrap();
    let _replica = backend.replica(Some(&address));
    let mut third = sidecar(&[&address], trusted, folder.path(), "").await.ready().await;
    third.refresh().await;
    assert_eq!((credits(&mut third).await, backend.state().sms.len()), (Some(98), 1));
    third.stop().await;
}

#[tokio::test]
async fn usage_the_disk_refuses_is_not_taken_and_the_caller_is_told_to_repeat_it() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let mut sidecar = sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
    // A folder where the journal is to be written refuses whoever runs the test.
    let in_the_way = folder.path().join("usage.journal.new");
    fs::create_dir(&in_the_way).unwrap();
    let refused = sidecar.client.report_usage(sms(&["a"])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "USAGE_NOT_KEPT");
    assert_eq!(credits(&mut sidecar).await, Some(100));
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(report(&mut sidecar, sms(&["a"])).await.sms_counted, 1);
    sidecar.stop().await;
}

#[tokio::test]
async fn sms_nobody_takes_stay_spent_across_a_restart_until_another_number_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let quick = "[refresh]\nat_most_every = '1ms'\n";
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let mut first = Sidecar::start_with(source.clone(), Some(folder.path()), quick).await.ready().await;
    assert_eq!(report(&mut first, sms(&["a"])).await.sms_credits, Some(98));
    first.stop().await;
    let mut second = Sidecar::start_with(source.clone(), Some(folder.path()), quick).await.ready().await;
    assert_eq!(second.refresh().await.outcome(), api::RefreshOutcome::Unchanged);
    assert_eq!(credits(&mut second).await, Some(98));
    assert_eq!(report(&mut second, sms(&["a"])).await.sms_repeated, 1);
    source.tell(vec![Facts { sms_credits: Some(SmsCredits(60)), ..healthy(ID) }]);
    second.refresh().await;
    assert_eq!(credits(&mut second).await, Some(60));
    second.stop().await;
    let mut third = Sidecar::start_with(source, Some(folder.path()), quick).await.ready().await;
    assert_eq!(credits(&mut third).await, Some(60));
    third.stop().await;
}

/// Another version's backend, which takes no SMS with `bad` in its ID and no more than 500 users.
fn bad_ones(request: &SyncRequest) -> Vec<(String, Option<u32>)> {
    let usage = request.usage.clone().unwrap_or_default();
    let sms = usage.sms_sent.iter().enumerate().filter(|(_, sms)| sms.id.contains("bad"));
    let mut bad: Vec<(String, Option<u32>)> =
        sms.map(|(at, _)| (format!("usage.sms_sent[{at}].id"), u32::try_from(at).ok())).collect();
    if usage.counts.and_then(|counts| counts.active_users).is_some_and(|users| 500 < users) {
        bad.push(("usage.counts.active_users".to_owned(), None));
    }
    bad
}

fn names_each(request: &SyncRequest) -> Result<Vec<RefusedUsage>, Status> {
    let named = |(field, sms_position)| RefusedUsage {
        field,
        sms_position,
        reason: "not this".to_owned(),
        ..RefusedUsage::default()
    };
    Ok(bad_ones(request).into_iter().map(named).collect())
}

fn refuses_all_and_names_one(request: &SyncRequest) -> Result<Vec<RefusedUsage>, Status> {
    let Some((field, _)) = bad_ones(request).into_iter().next() else { return Ok(Vec::new()) };
    let details = ErrorDetails::with_bad_request_violation(field, "not this");
    Err(Status::with_error_details(Code::InvalidArgument, "not this", details))
}

fn refuses_all_and_names_none(request: &SyncRequest) -> Result<Vec<RefusedUsage>, Status> {
    match bad_ones(request).is_empty() {
        true => Ok(Vec::new()),
        false => Err(Status::invalid_argument("not this")),
    }
}

fn takes_ten_at_a_time(request: &SyncRequest) -> Result<Vec<RefusedUsage>, Status> {
    match request.usage.as_ref().map_or(0, |usage| usage.sms_sent.len()) {
        0..=10 => Ok(Vec::new()),
        _ => Err(Status::out_of_range("the message is too long")),
    }
}

fn wants_no_version(request: &SyncRequest) -> Result<Vec<RefusedUsage>, Status> {
    match request.unit.as_ref().is_some_and(|unit| !unit.product_version.is_empty()) {
        true => Err(Status::invalid_argument("unit.product_version: not this")),
        false => Ok(Vec::new()),
    }
}

#[tokio::test]
async fn whatever_a_backend_refuses_of_usage_keeps_back_neither_facts_nor_what_is_behind_it() {
    for (how, judge, set_aside) in [
        ("each is named", names_each as Judge, 3),
        ("the whole sync, one named", refuses_all_and_names_one, 3),
        ("the whole sync, none named", refuses_all_and_names_none, 3),
        ("the whole sync for its length", takes_ten_at_a_time, 0),
        ("the whole sync for the version", wants_no_version, 0),
    ] {
        let (backend, replica, folder) =
            one_unit(Facts { sms_credits: Some(SmsCredits(999)), ..healthy(ID) });
        let mut sidecar =
            sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
        backend.until(|state| state.watches == 1).await;
        {
            // Nobody is told, so that a sync brings it.
            let mut state = backend.state();
            state.judge = Some(judge);
            state.facts.sms_credits = Some(SmsCredits(600));
            state.sequence += 1;
        }
        let ids: Vec<String> = (0..60).map(|number| format!("sms {number}")).collect();
        let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        (ids[7], ids[41]) = ("bad 7", "bad 41");
        let counts = api::ReportUsageRequest { active_users: Some(501), all_users: Some(9), ..sms(&ids) };
        report(&mut sidecar, counts).await;
        let good = ids.len() - if set_aside == 0 { 0 } else { 2 };
        backend.until(|state| state.sms.len() == good).await;
        report(&mut sidecar, sms(&["one more"])).await;
        backend.until(|state| state.sms.len() == good + 1).await;
        assert!(!backend.state().sms.contains_key("bad 7") || set_aside == 0, "{how}");
        let told = |sync: &SyncRequest| sync.usage.as_ref()?.counts.as_ref()?.all_users;
        assert!(backend.state().syncs.iter().any(|sync| told(sync) == Some(9)), "{how}");
        let failed = sidecar.refresh().await.detail;
        assert_eq!(failed, "", "{how}");
        let held = sidecar.subscription(ID).await;
        assert_eq!(held.usage.unwrap().sms_credits, Some(600 - 2 * (good as u64 + 1)), "{how}");
        let pending = held.pending_usage.unwrap_or_default();
        assert_eq!((pending.sms_waiting, pending.set_aside), (0, set_aside), "{how}: {pending:?}");
        // A good count takes the place of the refused one at once, with nobody asking for it.
        let counts = api::ReportUsageRequest { active_users: Some(7), ..Default::default() };
        report(&mut sidecar, counts).await;
        let counted = |sync: &SyncRequest| sync.usage.as_ref()?.counts.as_ref()?.active_users;
        backend.until(|state| state.syncs.iter().any(|sync| counted(sync) == Some(7))).await;
        let file = fs::read_to_string(folder.path().join("usage.set-aside.jsonl")).unwrap_or_default();
        assert_eq!(file.lines().count() as u64, set_aside, "{how}: {file}");
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn what_no_backend_takes_is_refused_when_it_is_reported() {
    let (backend, replica, folder) = one_unit(healthy(ID));
    let mut sidecar = sidecar(&[&replica.address], backend.trusted(), folder.path(), "").await.ready().await;
    let count = |count| api::ReportUsageRequest { components: Some(count), ..Default::default() };
    let dear = |credits| {
        let sms_sent = vec![api::SmsSent { id: "a".to_owned(), credits }];
        api::ReportUsageRequest { sms_sent, ..Default::default() }
    };
    for (request, field) in [
        (sms(&["good", "a\nb"]), "sms_sent[1].id"),
        (sms(&["\t"]), "sms_sent[0].id"),
        (sms(&[&"ü".repeat(33)]), "sms_sent[0].id"),
        (dear(10_001), "sms_sent[0].credits"),
        (dear(u32::MAX), "sms_sent[0].credits"),
        (count(1 << 60), "components"),
        (count(1_000_000_000_001), "components"),
    ] {
        let refused = sidecar.client.report_usage(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        let named = refused.get_details_bad_request().unwrap().field_violations.remove(0).field;
        assert_eq!(named, field);
    }
    let counted = report(&mut sidecar, sms(&["good", "a b", &"ü".repeat(32)])).await.sms_counted;
    assert_eq!(counted, 3, "nothing of what was refused was taken");
    sidecar.stop().await;
}

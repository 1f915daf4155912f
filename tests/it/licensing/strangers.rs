//! What a stranger hears of accounts where somebody signed in.

use std::time::Duration;

use esa_sidecar::{domain::Span, proto::licensing as api};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    accounts::{disable, nearly_fail_for_the_day, reset},
    office::{Office, PASSWORD, reason, unique},
    on_every_store,
};

on_every_store!(
    an_address_where_a_name_signed_in_tells_nothing_of_it_by_any_wait,
    a_name_that_failed_for_the_day_waits_alike_wherever_it_is_known,
    a_password_in_the_form_of_a_one_time_password_is_not_chosen_and_waits_like_any,
    a_one_time_password_opens_however_many_failed,
);

/// What is told: code, reason, and when to try again.
fn told(done: Result<String, Status>) -> (Code, String, Option<Duration>) {
    let refused = done.unwrap_err();
    let wait = refused.get_error_details().retry_info().and_then(|info| info.retry_delay);
    (refused.code(), reason(&refused), wait)
}

async fn an_address_where_a_name_signed_in_tells_nothing_of_it_by_any_wait(office: Office) {
    office.admin("anna").await;
    office.admin("off").await;
    disable(&office, &office.owner, "off", true).await.unwrap();
    office.sign_in_from("198.51.100.7", "anna", PASSWORD).await.unwrap();
    // What each name hears at the same replica.
    let hear = async || {
        let mut heard = Vec::new();
        for name in ["anna", "off", "nobody"] {
            for _ in 1..office.replicas() {
                office.sign_in_from("203.0.113.1", "another", "a wrong one").await.unwrap_err();
            }
            heard.push(told(office.sign_in_from("198.51.100.7", name, "a wrong one").await));
        }
        assert!(heard.iter().all(|one| *one == heard[0]), "{heard:?}");
        heard.swap_remove(0)
    };
    for _ in 0..11 * office.replicas() {
        for _ in 0..office.replicas() {
            hear().await;
        }
        office.clock.advance(Span::from(Duration::from_secs(40)));
    }
    // Whoever is known there gets in all the same, and nobody hears of it.
    for _ in 0..2 * office.replicas() {
        office.sign_in_from("198.51.100.7", "anna", PASSWORD).await.unwrap();
    }
    for _ in 0..office.replicas() {
        assert_eq!(hear().await.1, "TOO_SOON");
    }
}

async fn a_name_that_failed_for_the_day_waits_alike_wherever_it_is_known(office: Office) {
    office.admin("anna").await;
    office.sign_in_from("198.51.100.7", "anna", PASSWORD).await.unwrap();
    let fail = async |from: u32, name: &str| {
        let address = format!("10.{}.{}.1", from / 256, from % 256);
        told(office.sign_in_from(&address, name, "a wrong one").await).1
    };
    for name in ["anna", "nobody"] {
        for from in 0..11 * u32::try_from(office.replicas()).unwrap() {
            assert_eq!(fail(from, name).await, "WRONG_PASSWORD");
        }
    }
    nearly_fail_for_the_day(&office, 22 * office.replicas()).await;
    for name in ["anna", "nobody"] {
        let (mut from, mut heard) = (1_000, 0);
        // By each of the replicas, which are asked in turn.
        while heard < office.replicas() {
            let has_heard = fail(from, name).await == "TOO_SOON";
            (from, heard) = if has_heard { (from, heard + 1) } else { (from + 1, 0) };
        }
    }
    let mut heard = Vec::new();
    for name in ["anna", "nobody"] {
        for _ in 0..office.replicas() {
            heard.push(told(office.sign_in_from("198.51.100.7", name, "a wrong one").await));
        }
    }
    assert!(heard.iter().all(|one| one.1 == "TOO_SOON" && *one == heard[0]), "{heard:?}");
    // Of the minute before, not each is written down.
    office.clock.advance(Span::from(Duration::from_mins(2)));
    let right = told(office.sign_in_from("203.0.113.1", "anna", PASSWORD).await);
    let wrong = told(office.sign_in_from("203.0.113.2", "anna", "a wrong one").await);
    assert_eq!(right, wrong, "the right password of a new address is told like a wrong one");
    let is_right = |entry: &api::AuditEntry| entry.detail.starts_with("the right password");
    let written = async { while !office.entries(&office.owner).await.iter().any(is_right) {} };
    tokio::time::timeout(Duration::from_secs(60), written).await.expect("the owner reads what it was");
    office.sign_in_from("198.51.100.7", "anna", PASSWORD).await.unwrap();
}

async fn a_password_in_the_form_of_a_one_time_password_is_not_chosen_and_waits_like_any(office: Office) {
    let anna = office.admin("anna").await;
    let request = api::ChangePasswordRequest {
        request_id: unique(),
        old_password: PASSWORD.to_owned(),
        new_password: "BLUE-FARM-SALT-KEYS".to_owned(),
    };
    let refused = office.accounts(&anna).change_password(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    // One that was chosen before: the account waits for no one-time password.
    let chosen = reset(&office, &office.owner, "anna").await.unwrap();
    office.execute("UPDATE accounts SET must_change_password = 0 WHERE name = 'anna'").await.unwrap();
    for name in ["anna", "nobody"] {
        for guess in 0..3 * office.replicas() {
            let guess = format!("BLUE-FARM-SALT-KEY{}", guess + 2);
            assert_eq!(told(office.sign_in_from("192.0.2.1", name, &guess).await).1, "WRONG_PASSWORD");
        }
        for _ in 0..office.replicas() {
            let wait = told(office.sign_in_from("192.0.2.1", name, "BLUE-FARM-SALT-KEYS").await);
            assert_eq!((wait.1.as_str(), wait.2), ("TOO_SOON", Some(Duration::from_secs(1))), "{name}");
        }
    }
    assert_eq!(told(office.sign_in_from("192.0.2.1", "anna", &chosen).await).1, "TOO_SOON");
    office.sign_in_from("192.0.2.2", "anna", &chosen).await.unwrap();
}

async fn a_one_time_password_opens_however_many_failed(office: Office) {
    office.admin("anna").await;
    let once = reset(&office, &office.owner, "anna").await.unwrap();
    for _ in 0..3 * office.replicas() {
        office.sign_in_from("192.0.2.1", "anna", "a wrong one").await.unwrap_err();
    }
    for _ in 0..office.replicas() {
        assert_eq!(told(office.sign_in_from("192.0.2.1", "anna", "a wrong one").await).1, "TOO_SOON");
    }
    office.sign_in_from("192.0.2.1", "anna", &once).await.unwrap();
}

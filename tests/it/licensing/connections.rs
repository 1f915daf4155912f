//! Connections to the database, and sessions: what is given up leaves nothing behind, and what is in use stays.

use std::{future::Future as _, task::Poll};

use esa_sidecar::{domain::Span, licensing::store::Store, proto::licensing as api};
use sqlx::Row as _;

use super::office::{Office, On, PASSWORD};

/// The instant at which the transaction of `on` began, or the present where none is open, in microseconds.
async fn began(on: &mut sqlx::AnyConnection) -> i64 {
    let now = "SELECT CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT) AS now";
    sqlx::query(now).fetch_one(on).await.unwrap().get("now")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_joins_a_transaction_that_somebody_gave_up_while_it_began() {
    let office = Office::open(On::Postgres).await;
    let store = Store::open(office.database.clone(), 1).await.unwrap();
    let mut beside = office.behind().await;
    for polls in (1..8).cycle().take(200) {
        let mut given_up = Box::pin(store.begin());
        for _ in 0..polls {
            let polled = std::future::poll_fn(|context| Poll::Ready(given_up.as_mut().poll(context))).await;
            if polled.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(given_up);
        let before = began(&mut beside).await;
        let mut tx = store.begin().await.unwrap();
        assert!(
            before <= began(&mut tx).await,
            "after {polls} polls the change began before it was asked for"
        );
        tx.commit().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_sign_ins_end_no_session_that_is_in_use() {
    let office = Office::open(On::Sqlite).await;
    for number in 0..17 {
        office.clock.advance(Span::SECOND);
        let caller = office.accounts(&office.owner).get_caller(api::GetCallerRequest {}).await;
        caller.unwrap_or_else(|refused| panic!("after {number} sign-ins: {refused}"));
        office.sign_in("owner", PASSWORD).await.unwrap();
    }
    assert_eq!(
        office.numbers("SELECT COUNT(*) FROM sessions").await,
        [16],
        "the one unused for longest has ended"
    );
}

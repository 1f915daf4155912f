//! What one key, credential or account makes the backend keep is bounded (semantics 7.18, 7.38, 7.39).

use esa_sidecar::{domain::Span, proto::licensing as api};
use tonic::{Code, Status};

use super::{
    office::{Office, a_license, reason, unique},
    on_both_databases,
};

on_both_databases!(
    of_an_answer_is_kept_what_became_of_each_unit_once,
    sms_that_cost_nothing_are_not_kept_one_by_one,
    an_account_has_so_many_api_credentials_and_ended_ones_are_forgotten,
);

async fn of_an_answer_is_kept_what_became_of_each_unit_once(office: Office) {
    let anna = office.admin("anna").await;
    let (license, _) = office.license(a_license()).await;
    office.delegate(&license, "anna", &anna).await;
    let own = office.activate(&anna, &license, "own").await.unwrap().id;
    let theirs = office.activate(&office.owner, &license, "theirs").await.unwrap().id;
    let mut unit_ids = vec!["a".to_owned(); 9_000];
    for (position, id) in [(0, &own), (10, &theirs), (4_000, &own), (8_999, &theirs)] {
        unit_ids[position].clone_from(id);
    }
    let request = api::DeactivateUnitsRequest { request_id: unique(), unit_ids: unit_ids.clone() };
    let first = office.units(&anna).deactivate_units(request.clone()).await.unwrap().into_inner();
    let kept = "SELECT CAST(MAX(LENGTH(response)) AS BIGINT), COUNT(*) FROM requests WHERE request_id = ";
    assert!(office.numbers(&format!("{kept}'{}'", request.request_id)).await[0] < 100);
    let told: Vec<_> = first.results.iter().map(|result| &result.unit_id).collect();
    assert_eq!(told, unit_ids.iter().collect::<Vec<_>>(), "each in the order asked for");
    let again = office.units(&anna).deactivate_units(request).await.unwrap().into_inner();
    assert!(again == first, "the same again is answered alike");
}

async fn sms_that_cost_nothing_are_not_kept_one_by_one(office: Office) {
    let (_, key) = office.license(api::NewLicense { sms_credits: Some(5), ..a_license() }).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let sends = async |count: usize| {
        let sms_sent = (0..count).map(|_| api::SmsSent { id: unique(), credits: 1 }).collect();
        office.synced(&unit, Some(api::Usage { sms_sent, ..Default::default() })).await.facts.sms_credits
    };
    assert_eq!(sends(2).await.unwrap().0, 3);
    assert_eq!(sends(4).await.unwrap().0, 0);
    assert_eq!(office.numbers("SELECT COUNT(*) FROM sms_sent").await, [6], "whatever costs something");
    for _ in 0..5 {
        sends(300).await;
    }
    assert_eq!(office.numbers("SELECT COUNT(*) FROM sms_sent").await, [100], "and a few for nothing");
    assert_eq!(office.numbers("SELECT sms_in_day FROM unit_syncs").await, [1_506], "all of them are counted");
}

async fn an_account_has_so_many_api_credentials_and_ended_ones_are_forgotten(office: Office) {
    let make = async || {
        let request = api::CreateApiCredentialRequest {
            request_id: unique(),
            name: "script".to_owned(),
            ..Default::default()
        };
        let made = office.accounts(&office.owner).create_api_credential(request).await?.into_inner();
        Ok::<_, Status>(made.credential.unwrap().credential_id)
    };
    let revoke = async |id: &str| {
        let request = api::RevokeApiCredentialRequest { request_id: unique(), credential_id: id.to_owned() };
        office.accounts(&office.owner).revoke_api_credential(request).await.unwrap();
    };
    let mut made = Vec::new();
    for _ in 0..100 {
        made.push(make().await.unwrap());
    }
    let refused = make().await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY"));
    let rows = "SELECT COUNT(*) FROM api_credentials";
    for id in &made[..50] {
        revoke(id).await;
        office.clock.advance(Span::SECOND);
    }
    for _ in 0..60 {
        let id = make().await.unwrap();
        revoke(&id).await;
        office.clock.advance(Span::SECOND);
    }
    make().await.unwrap();
    assert_eq!(office.numbers(rows).await, [151], "those that open something, and the last hundred that did");
    let open = "SELECT COUNT(*) FROM api_credentials WHERE revoked_at IS NULL";
    assert_eq!(office.numbers(open).await, [51]);
    office.execute("UPDATE api_credentials SET revoked_at = 1 WHERE revoked_at IS NOT NULL").await.unwrap();
    make().await.unwrap();
    assert_eq!(office.numbers(rows).await, [52], "and of long ago none");
}

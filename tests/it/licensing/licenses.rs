//! Licences: what several come to, what is done to one, its key and its status (semantics 1, 6.2, 6.7).

use std::collections::BTreeMap;

use esa_sidecar::{
    domain::{Activation, Facts, Instant, Span, facts::SmsCredits},
    proto::licensing as api,
};
use tonic::Code;

use super::{
    office::{Activated, Office, a_license, reason, timestamp, unique, users},
    on_both_databases,
};
use crate::sidecar::START;

on_both_databases!(
    seats_limits_and_credits_add_up_over_the_licenses_that_are_valid_at_that_very_instant,
    a_license_id_that_is_taken_is_refused_whoever_has_it,
    all_licenses_of_a_customer_for_one_product_count_the_same_kind_of_seat,
    an_update_changes_what_its_mask_names_and_nothing_else,
    suspended_and_canceled_are_told_since_the_first_of_them_and_end_with_resuming,
    a_license_that_was_deactivated_stays_so,
    a_license_is_renewed_for_longer_and_never_for_shorter,
    a_key_that_was_replaced_opens_nothing,
    an_import_issues_all_or_says_which_is_wrong_and_issues_none,
    no_secret_is_kept_as_it_was_told,
    a_license_is_green_yellow_or_red,
    where_a_unit_is_a_seat_activation_never_overuses,
    licenses_are_issued_to_customers_that_exist,
    a_customer_is_found_however_its_name_is_written,
);

async fn facts(office: &Office, unit: &Activated) -> Facts {
    office.synced(unit, None).await.facts
}

fn a_license_until(seats: u64, days: u32) -> api::NewLicense {
    api::NewLicense { seats, expires_at: timestamp(START + Span::days(days)), ..Default::default() }
}

fn nanosecond() -> Span {
    Span::from_nanos(1)
}

async fn seats_limits_and_credits_add_up_over_the_licenses_that_are_valid_at_that_very_instant(
    office: Office,
) {
    let limits = |license, all_users_limit, components_limit, sms_credits| api::NewLicense {
        all_users_limit,
        components_limit,
        sms_credits,
        ..license
    };
    office.license(limits(a_license_until(10, 10), 100, 50, Some(5))).await;
    let (last, key) = office.license(limits(a_license_until(20, 20), 200, 0, None)).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let told = |facts: &Facts| {
        let sms = facts.sms_credits.map(|SmsCredits(credits)| credits);
        let days = (facts.expires_at - START).nanos() / Span::days(1).nanos();
        (facts.users.licensed.0, facts.all_users.limit, facts.components.limit, sms, days)
    };
    for (at, expected) in [
        (START, (30, 300, 0, Some(5), 20)),
        (START + Span::days(10) - nanosecond(), (30, 300, 0, Some(5), 20)),
        (START + Span::days(10), (20, 200, 0, None, 20)),
        (START + Span::days(20) - nanosecond(), (20, 200, 0, None, 20)),
        (START + Span::days(20), (20, 200, 0, None, 20)),
        (START + Span::days(45), (20, 200, 0, None, 20)),
    ] {
        office.clock.set(at);
        assert_eq!(told(&facts(&office, &unit).await), expected, "at {at:?}");
    }
    office.renew(&last, START + Span::days(90)).await.unwrap();
    assert_eq!(told(&facts(&office, &unit).await), (20, 200, 0, None, 90));
    office.license(a_license_until(7, 90)).await;
    assert_eq!(facts(&office, &unit).await.users.licensed.0, 27);
}

async fn a_license_id_that_is_taken_is_refused_whoever_has_it(office: Office) {
    office.customer("acme", "acme.owner").await;
    let with_id = |id: &str, customer: &str| api::NewLicense {
        license_id: id.to_owned(),
        customer: customer.to_owned(),
        ..a_license()
    };
    let (id, _) = office.license(with_id("3A8-WN7-7TD", "")).await;
    assert_eq!(id, "3A8-WN7-7TD");
    for (id, customer) in [("3A8-WN7-7TD", ""), ("3a8-wn7-7td", ""), ("3A8-WN7-7TD", "acme")] {
        let request =
            api::CreateLicenseRequest { request_id: unique(), license: Some(with_id(id, customer)) };
        let refused = office.licenses(&office.owner).create_license(request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "TAKEN"), "{id}");
    }
    assert_eq!(office.numbers("SELECT COUNT(*) FROM licenses").await, [1]);
}

async fn all_licenses_of_a_customer_for_one_product_count_the_same_kind_of_seat(office: Office) {
    let units = || api::NewLicense { seat_kind: api::SeatKind::Units.into(), ..a_license() };
    let (first, _) = office.license(a_license()).await;
    let request = api::CreateLicenseRequest { request_id: unique(), license: Some(units()) };
    let refused = office.licenses(&office.owner).create_license(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("seat_kind"), "{}", refused.message());
    let (other, _) = office.license(api::NewLicense { product: "Mail Security".to_owned(), ..units() }).await;
    assert_eq!(office.seen(&office.owner, &other).await.unwrap().subscription_id, other);
    let (second, _) = office.license(a_license()).await;
    assert_eq!(office.seen(&office.owner, &second).await.unwrap().subscription_id, first);
}

async fn an_update_changes_what_its_mask_names_and_nothing_else(office: Office) {
    let attributes = |value: &str| BTreeMap::from([("region".to_owned(), value.to_owned())]);
    let before = api::NewLicense {
        name: "before".to_owned(),
        r#type: "trial".to_owned(),
        all_users_limit: 10,
        components_limit: 20,
        sms_credits: Some(30),
        attributes: attributes("north"),
        ..a_license()
    };
    let after = api::NewLicense {
        name: "after".to_owned(),
        r#type: "full".to_owned(),
        seats: 7,
        all_users_limit: 11,
        components_limit: 21,
        sms_credits: None,
        attributes: attributes("south"),
        customer: "somebody else".to_owned(),
        ..Default::default()
    };
    type Told = (String, String, u64, u64, u64, Option<u64>, String);
    let told = |license: api::License| -> Told {
        let api::License { name, r#type, seats, all_users_limit, components_limit, sms_credits, .. } =
            license;
        let region = license.attributes["region"].clone();
        (name, r#type, seats, all_users_limit, components_limit, sms_credits, region)
    };
    let (id, _) = office.license(before).await;
    let mut expected: Told = ("before".into(), "trial".into(), 100, 10, 20, Some(30), "north".into());
    type Step = fn(&mut Told);
    let steps: [(&str, Step); 7] = [
        ("sms_credits", |told| told.5 = None),
        ("name", |told| told.0 = "after".into()),
        ("attributes", |told| told.6 = "south".into()),
        ("seats", |told| told.2 = 7),
        ("components_limit", |told| told.4 = 21),
        ("type", |told| told.1 = "full".into()),
        ("all_users_limit", |told| told.3 = 11),
    ];
    for (path, step) in steps {
        step(&mut expected);
        let updated = office.update(&id, after.clone(), &[path]).await.unwrap();
        assert_eq!(told(updated), expected, "{path}");
        assert_eq!(told(office.seen(&office.owner, &id).await.unwrap()), expected, "{path}");
    }
    for paths in [&["customer"][..], &["expires_at"], &["name", "state"], &[""], &[]] {
        let refused = office.update(&id, after.clone(), paths).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{paths:?}");
    }
    assert_eq!(told(office.seen(&office.owner, &id).await.unwrap()), expected);
}

async fn suspended_and_canceled_are_told_since_the_first_of_them_and_end_with_resuming(office: Office) {
    use api::LicenseState::{Canceled, Suspended};
    let (one, key) = office.license(a_license()).await;
    let (two, _) = office.license(a_license_until(50, 300)).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let disabled = |facts: &Facts| {
        let told = facts.disabled_by_licensing.clone();
        told.map(|disabled| (disabled.reason.to_string(), (disabled.since - START).nanos() / DAY))
    };
    const DAY: i128 = Span::days(1).nanos();
    let day = |days| office.clock.set(START + Span::days(days));

    day(1);
    office.suspend(&two, Suspended).await.unwrap();
    let told = facts(&office, &unit).await;
    assert_eq!((disabled(&told), told.users.licensed.0), (None, 100), "one is left, and counts alone");
    day(2);
    let license = office.suspend(&one, Suspended).await.unwrap();
    assert_eq!(license.state_since, timestamp(START + Span::days(2)));
    let told = facts(&office, &unit).await;
    assert_eq!(disabled(&told), Some(("suspended".to_owned(), 2)));
    assert_eq!(told.users.licensed.0, 100, "what was licensed to the end stands for the days of grace");
    for (at, state, reason) in
        [(3, Suspended, "suspended"), (4, Canceled, "canceled"), (5, Suspended, "suspended")]
    {
        day(at);
        office.suspend(&one, state).await.unwrap();
        assert_eq!(disabled(&facts(&office, &unit).await), Some((reason.to_owned(), 2)), "{state:?}");
    }
    let refused = office.activate("", &key, "two").await.unwrap_err();
    assert_eq!(reason(&refused), "LICENSE_SUSPENDED");
    day(6);
    let license = office.resume(&two).await.unwrap();
    assert_eq!((license.state(), license.state_since), (api::LicenseState::Active, None));
    let told = facts(&office, &unit).await;
    assert_eq!((disabled(&told), told.users.licensed.0), (None, 50));
    office.resume(&one).await.unwrap();
    assert_eq!(facts(&office, &unit).await.users.licensed.0, 150);
    day(7);
    office.suspend(&one, Canceled).await.unwrap();
    office.suspend(&two, Canceled).await.unwrap();
    assert_eq!(disabled(&facts(&office, &unit).await), Some(("canceled".to_owned(), 7)), "a new clock");
    let refused = office.suspend(&one, api::LicenseState::Active).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

async fn a_license_that_was_deactivated_stays_so(office: Office) {
    use api::LicenseState::{Canceled, Deactivated, Suspended};
    let (id, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    office.suspend(&id, Suspended).await.unwrap();
    office.clock.advance(Span::days(3));
    office.suspend(&id, Deactivated).await.unwrap();
    let since = office.now();
    assert_eq!(facts(&office, &unit).await.activation, Activation::Deactivated { since });
    office.clock.advance(Span::days(1));
    office.suspend(&id, Deactivated).await.unwrap();
    assert_eq!(
        facts(&office, &unit).await.activation,
        Activation::Deactivated { since },
        "since the first time"
    );
    for refused in [
        office.suspend(&id, Suspended).await,
        office.suspend(&id, Canceled).await,
        office.resume(&id).await,
        office.renew(&id, START + Span::days(900)).await,
    ] {
        assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    }
    assert_eq!(reason(&office.activate("", &key, "two").await.unwrap_err()), "LICENSE_DEACTIVATED");
    let license = office.seen(&office.owner, &id).await.unwrap();
    assert_eq!((license.state(), license.state_since), (Deactivated, timestamp(since)));
}

async fn a_license_is_renewed_for_longer_and_never_for_shorter(office: Office) {
    let (id, key) = office.license(a_license_until(5, 10)).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let until = START + Span::days(10);
    let refused = office.renew(&id, until - nanosecond()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(facts(&office, &unit).await.expires_at, until);
    office.renew(&id, until).await.unwrap();
    office.clock.set(START + Span::days(12));
    assert_eq!(reason(&office.activate("", &key, "two").await.unwrap_err()), "LICENSE_EXPIRED");
    let renewed = START + Span::days(40);
    assert_eq!(office.renew(&id, renewed).await.unwrap().expires_at, timestamp(renewed));
    assert_eq!(facts(&office, &unit).await.expires_at, renewed);
    office.activate("", &key, "two").await.unwrap();
    let far = Instant::from_unix_seconds(10_000_000_000);
    assert_eq!(office.renew(&id, far).await.unwrap().expires_at, timestamp(far), "the year 2286");
    let last = Instant::from_unix_seconds(253_402_300_799);
    assert_eq!(
        office.renew(&id, last).await.unwrap().expires_at,
        timestamp(last),
        "the end of the year 9999"
    );
    assert_eq!(facts(&office, &unit).await.expires_at, last);
}

async fn a_key_that_was_replaced_opens_nothing(office: Office) {
    let (id, old) = office.license(a_license()).await;
    let unit = office.activate("", &old, "before").await.unwrap();
    let request = api::RotateLicenseKeyRequest { request_id: unique(), license_id: id };
    let rotated = office.licenses(&office.owner).rotate_license_key(request).await.unwrap().into_inner();
    let new = rotated.license_key;
    assert_ne!(new, old);
    let refused = office.activate("", &old, "after").await.unwrap_err();
    let unknown = office.activate("", "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA", "after").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unauthenticated, unknown.message()),
        "it tells no more than a key nobody ever had"
    );
    let typed = new.to_lowercase().replace('-', " ");
    office.activate("", &typed, "after").await.unwrap();
    assert_eq!(facts(&office, &unit).await.activation, Activation::Active, "what was activated stays so");
}

async fn a_customer_is_found_however_its_name_is_written(office: Office) {
    let decomposed = "s\u{30c}KODA";
    office.customer("\u{160}koda", "first").await;
    let of = async |customer: &str| {
        let customer = customer.to_owned();
        let request = api::CreateLicenseRequest {
            request_id: unique(),
            license: Some(api::NewLicense { customer, ..a_license() }),
        };
        let made = office.licenses(&office.owner).create_license(request).await;
        made.map(|made| made.into_inner().license.unwrap().customer)
    };
    for written in ["\u{160}koda", "\u{161}KODA", decomposed] {
        assert_eq!(of(written).await.unwrap(), "\u{160}koda");
    }
    assert_eq!(of("skoda").await.unwrap_err().code(), Code::NotFound);
    let licenses: Vec<_> = ["\u{161}koda", decomposed, "", "DEFAULT", "\u{160}koda"]
        .map(|customer| api::NewLicense { customer: customer.to_owned(), ..a_license() })
        .into();
    let request = api::ImportLicensesRequest { request_id: unique(), licenses };
    let made = office.licenses(&office.owner).import_licenses(request).await.unwrap().into_inner().licenses;
    let customers: Vec<_> = made.into_iter().map(|made| made.license.unwrap().customer).collect();
    assert_eq!(customers, ["\u{160}koda", "\u{160}koda", "default", "default", "\u{160}koda"]);
    // It has an owner, so nobody else makes another one.
    let request = api::CreateAccountRequest {
        request_id: unique(),
        name: "second".to_owned(),
        role: api::AccountRole::Owner.into(),
        customer: decomposed.to_owned(),
    };
    let refused = office.accounts(&office.owner).create_account(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert_eq!(office.numbers("SELECT COUNT(*) FROM customers").await, [2]);
    // Of names of before that differ in case alone each is found as it is written.
    office.execute("INSERT INTO customers SELECT 'other', 'DEFAULT', created_at FROM customers WHERE name = 'default'").await.unwrap();
    assert_eq!(of("DEFAULT").await.unwrap(), "DEFAULT");
    assert_eq!(of("default").await.unwrap(), "default");
}

async fn an_import_issues_all_or_says_which_is_wrong_and_issues_none(office: Office) {
    let with_id = |id: &str| api::NewLicense { license_id: id.to_owned(), ..a_license() };
    let import = async |licenses: Vec<api::NewLicense>| {
        let request = api::ImportLicensesRequest { request_id: unique(), licenses };
        office
            .licenses(&office.owner)
            .import_licenses(request)
            .await
            .map(|answer| answer.into_inner().licenses)
    };
    office.license(with_id("AAA-AAA-AAA")).await;
    let nobody = api::NewLicense { customer: "nobody".to_owned(), ..a_license() };
    let endless = api::NewLicense { expires_at: None, ..a_license() };
    let units = api::NewLicense { seat_kind: api::SeatKind::Units.into(), ..a_license() };
    let malformed = with_id("not one");
    for wrong in [with_id("AAA-AAA-AAA"), with_id("BBB-BBB-BBB"), nobody, endless, units, malformed] {
        let refused = import(vec![with_id("BBB-BBB-BBB"), a_license(), wrong.clone(), a_license()]).await;
        let refused = refused.unwrap_err();
        assert!(refused.message().contains("licenses[2]"), "{wrong:?}: {}", refused.message());
        assert_eq!(office.numbers("SELECT COUNT(*) FROM licenses").await, [1], "{wrong:?}");
    }
    let made = import(vec![with_id("BBB-BBB-BBB"), a_license(), with_id("CCC-CCC-CCC")]).await.unwrap();
    let ids: Vec<_> = made.iter().map(|made| made.license.as_ref().unwrap().license_id.as_str()).collect();
    assert_eq!((ids[0], ids[2]), ("BBB-BBB-BBB", "CCC-CCC-CCC"));
    for (position, made) in made.iter().enumerate() {
        office.activate("", &made.license_key, &format!("device {position}")).await.unwrap();
    }
    let last = office.seen(&office.owner, "CCC-CCC-CCC").await.unwrap();
    assert_eq!(last.subscription.unwrap().users.unwrap().licensed, 400);
    for count in [0, 1_001] {
        assert_eq!(
            import(vec![a_license(); count]).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{count}"
        );
    }
}

async fn no_secret_is_kept_as_it_was_told(office: Office) {
    let (id, key) = office.license(a_license()).await;
    let request = api::RotateLicenseKeyRequest { request_id: unique(), license_id: id.clone() };
    let rotated = office.licenses(&office.owner).rotate_license_key(request).await.unwrap().into_inner();
    let request = api::ImportLicensesRequest { request_id: unique(), licenses: vec![a_license()] };
    let imported = office.licenses(&office.owner).import_licenses(request).await.unwrap().into_inner();
    let request = api::CreateApiCredentialRequest {
        request_id: unique(),
        name: "script".to_owned(),
        ..Default::default()
    };
    let credential =
        office.accounts(&office.owner).create_api_credential(request).await.unwrap().into_inner();
    let request = api::CreateAccountRequest {
        request_id: unique(),
        name: "anna".to_owned(),
        role: api::AccountRole::SecurityAdmin.into(),
        customer: String::new(),
    };
    let made = office.accounts(&office.owner).create_account(request).await.unwrap().into_inner();
    let request = api::ResetPasswordRequest { request_id: unique(), name: "anna".to_owned() };
    let reset = office.accounts(&office.owner).reset_password(request).await.unwrap().into_inner();
    let unit = office.activate("", &rotated.license_key, "the device").await.unwrap();
    office.synced(&unit, users("", 3, office.now())).await;

    let kept = office.everything().await;
    assert!(kept.contains(&id) && kept.contains("the device"), "this reads what is kept");
    let secret = |token: &str| token.rsplit_once('_').unwrap().1.to_owned();
    let mut secrets = vec![key, rotated.license_key, imported.licenses[0].license_key.clone()];
    secrets.extend([office.one_time_password.clone(), made.one_time_password, reset.one_time_password]);
    secrets.extend([super::office::PASSWORD.to_owned(), office.owner["esas_".len()..].to_owned()]);
    secrets.extend([credential.token["esac_".len() + 33..].to_owned(), secret(&unit.token)]);
    for secret in secrets {
        assert!(10 < secret.len());
        for written in [secret.clone(), secret.replace('-', ""), secret.to_lowercase()] {
            assert!(!kept.contains(&written), "`{written}` is kept");
        }
    }
}

async fn a_license_is_green_yellow_or_red(office: Office) {
    use api::LicenseStatus::{Attention, Problem, Valid};
    let (id, key) = office.license(a_license()).await;
    let status = async |expected: api::LicenseStatus, why: &str| {
        assert_eq!(office.seen(&office.owner, &id).await.unwrap().status(), expected, "{why}");
        let request = api::ListLicensesRequest {
            statuses: vec![expected.into()],
            ..api::ListLicensesRequest::default()
        };
        let listed = office.licenses(&office.owner).list_licenses(request).await.unwrap().into_inner();
        assert_eq!(listed.licenses.len(), 1, "{why}");
    };
    status(Valid, "nothing is used").await;
    let unit = office.activate("", &key, "one").await.unwrap();
    for (active, expected) in
        [(90, Valid), (91, Attention), (100, Attention), (101, Problem), (100, Attention), (0, Valid)]
    {
        office.clock.advance(Span::SECOND);
        office.synced(&unit, users("", active, office.now())).await;
        status(expected, &format!("{active} of 100")).await;
    }
    office.suspend(&id, api::LicenseState::Suspended).await.unwrap();
    status(Attention, "suspended").await;
    office.resume(&id).await.unwrap();
    for (before, expected) in [
        (Span::days(30), Valid),
        (Span::days(30) - nanosecond(), Attention),
        (nanosecond(), Attention),
        (Span::days(0), Problem),
    ] {
        office.clock.set(START + Span::days(365) - before);
        office.synced(&unit, users("", 0, office.now())).await;
        status(expected, &format!("{before:?} before it expires")).await;
    }
    office.deactivate(&office.owner, &[&unit.id]).await;
    status(Attention, "expired with no active unit").await;
}

async fn where_a_unit_is_a_seat_activation_never_overuses(office: Office) {
    let units = api::NewLicense { seat_kind: api::SeatKind::Units.into(), seats: 3, ..a_license() };
    let (id, key) = office.license(units).await;
    let devices = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let tries = devices.map(|device| office.activate("", &key, device));
    let (done, refused): (Vec<_>, Vec<_>) =
        futures_util::future::join_all(tries).await.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (3, 5), "however many ask at once");
    for refused in refused {
        assert_eq!(reason(&refused.unwrap_err()), "LICENSE_FULL");
    }
    let unit = done[0].as_ref().unwrap();
    let told = office.synced(unit, users("", 50, office.now())).await.facts.users;
    assert_eq!((told.active.0, told.licensed.0), (3, 3), "users are not what is counted");
    office.deactivate(&office.owner, &[&unit.id]).await;
    office.activate("", &key, "another").await.unwrap();
    office.update(&id, api::NewLicense { seats: 2, ..a_license() }, &["seats"]).await.unwrap();
    let told = office.synced(done[1].as_ref().unwrap(), None).await.facts.users;
    assert_eq!((told.active.0, told.licensed.0, told.overused_since), (3, 2, Some(office.now())));
    assert_eq!(office.seen(&office.owner, &id).await.unwrap().active_units, 3);
}

async fn licenses_are_issued_to_customers_that_exist(office: Office) {
    let theirs = |customer: &str| api::NewLicense { customer: customer.to_owned(), ..a_license() };
    let issue = async |token: &str, customer: &str| {
        let request = api::CreateLicenseRequest { request_id: unique(), license: Some(theirs(customer)) };
        office.licenses(token).create_license(request).await.map(|made| made.into_inner().license.unwrap())
    };
    assert_eq!(issue(&office.owner, "acme").await.unwrap_err().code(), Code::NotFound);
    let acme = office.customer("acme", "acme.owner").await;
    let own = issue(&office.owner, "default").await.unwrap();
    assert_eq!(own.customer, "default");
    let made = issue(&office.owner, "acme").await.unwrap();
    assert_eq!(made.customer, "acme");
    assert_ne!(made.subscription_id, own.subscription_id, "each customer has a subscription of its own");
    assert_eq!(office.seen(&acme, &made.license_id).await.unwrap().customer, "acme");
    assert_eq!(office.seen(&acme, &own.license_id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(issue(&acme, "").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(issue(&acme, "default").await.unwrap_err().code(), Code::PermissionDenied);
}

//! The lists: filters, every order both ways, and pages (semantics 6.2 to 6.4).

use std::{cmp::Ordering, collections::BTreeSet};

use esa_sidecar::{domain::Span, proto::licensing as api};
use tonic::Code;

use super::{
    office::{Activated, Office, a_license, timestamp, unique, users},
    on_both_databases,
};
use crate::sidecar::START;

on_both_databases!(
    units_are_sorted_by_any_attribute_both_ways,
    units_are_filtered_by_status_state_license_and_account,
    a_unit_turns_orange_after_14_and_red_after_30_days_to_the_nanosecond,
    walking_the_pages_tells_every_unit_once_whatever_changes_in_between,
    a_filter_named_over_and_over_is_one_and_there_is_an_end_to_licenses,
    a_page_token_belongs_to_its_list_and_caller,
    a_page_goes_on_after_a_name_that_looks_like_an_escaped_nul,
    more_licenses_than_one_statement_looks_at_are_one_list,
    what_more_units_pass_than_are_few_is_told_in_the_same_order,
    licenses_are_sorted_filtered_and_paged,
);

async fn units(office: &Office, token: &str, request: api::ListUnitsRequest) -> Vec<api::Unit> {
    let (mut units, mut request) = (Vec::new(), request);
    loop {
        let page = office.units(token).list_units(request.clone()).await.unwrap().into_inner();
        assert!(page.units.len() <= usize::try_from(request.page_size.max(0)).unwrap().max(1));
        units.extend(page.units);
        if page.next_page_token.is_empty() {
            return units;
        }
        request.page_token = page.next_page_token;
    }
}

async fn activate(office: &Office, token: &str, request: api::ActivateUnitRequest) -> Activated {
    let secret = unique();
    let secret_sha256 = esa_sidecar::sha256::hex(secret.as_bytes());
    let request = api::ActivateUnitRequest { request_id: unique(), secret_sha256, ..request };
    let unit = office.units(token).activate_unit(request).await.unwrap().into_inner().unit.unwrap();
    Activated { id: unit.unit_id.clone(), token: format!("esau_{}_{secret}", unit.unit_id), unit }
}

/// Units that differ in every attribute, with ties in each, on three licences of three statuses.
async fn mixed(office: &Office) -> (Vec<String>, String) {
    let anna = office.admin("anna").await;
    let products = ["ESA", "Mail", "esa"];
    let mut licenses = Vec::new();
    for (number, product) in products.into_iter().enumerate() {
        let days = [365, 20, 40][number];
        let new = api::NewLicense {
            product: product.to_owned(),
            seats: 10,
            expires_at: timestamp(START + Span::days(days)),
            ..Default::default()
        };
        let (id, key) = office.license(new).await;
        office.delegate(&id, "anna", &anna).await;
        licenses.push((id, key));
    }
    let names = ["b", "B", "a", "ä", "Z", "10", "9", "-", "a", "zz", "'"];
    let mut made = Vec::new();
    for number in 0..22_usize {
        let (id, key) = &licenses[number * 7 % 3];
        let by_key = number % 4 == 0;
        let installation = ["", "hq", "Branch"][number * 5 % 3];
        let request = api::ActivateUnitRequest {
            license_key: if by_key { key.clone() } else { String::new() },
            license_id: if by_key { String::new() } else { id.clone() },
            device_name: format!("{} ", names[number % names.len()]),
            product_version: ["3.0", "10.0", ""][number % 3].to_owned(),
            subunits: [9, 10, 0, 1_000][number % 4],
            from_remote_management: number % 3 == 1,
            installation: installation.to_owned(),
            ..Default::default()
        };
        let token = if by_key { "" } else { [&anna, &office.owner][number % 2] };
        made.push(activate(office, token, request).await);
        if number % 3 == 0 {
            office.clock.advance(Span::from_nanos(1));
        }
    }
    // One licence is overused and red, one about to expire and yellow, one green.
    let last = made.iter().find(|unit| unit.unit.license_id == licenses[2].0).unwrap();
    office.synced(last, users("", 11, office.now())).await;
    for (number, unit) in made.iter().enumerate().filter(|(number, _)| number % 5 == 1) {
        office.clock.advance(Span::days(1));
        office.deactivate(&office.owner, &[&unit.id]).await;
        if number % 2 == 0 {
            office.synced(unit, None).await;
        }
    }
    (licenses.into_iter().map(|(id, _)| id).collect(), anna)
}

type By = fn(&api::Unit, &api::Unit) -> Ordering;

async fn units_are_sorted_by_any_attribute_both_ways(office: Office) {
    let (_, anna) = mixed(&office).await;
    fn text(one: &str, other: &str) -> Ordering {
        one.as_bytes().cmp(other.as_bytes())
    }
    // Who has no installation of its own name is one by itself, under its ID.
    fn installation(unit: &api::Unit) -> &str {
        if unit.installation.is_empty() { &unit.unit_id } else { &unit.installation }
    }
    let orders: [(api::UnitSort, By); 13] = [
        (api::UnitSort::Unspecified, |one, other| text(&one.device_name, &other.device_name)),
        (api::UnitSort::DeviceName, |one, other| text(&one.device_name, &other.device_name)),
        (api::UnitSort::Product, |one, other| text(&one.product, &other.product)),
        (api::UnitSort::ProductVersion, |one, other| text(&one.product_version, &other.product_version)),
        (api::UnitSort::ActivatedAt, |one, other| {
            let at = |unit: &api::Unit| unit.activated_at.map(|at| (at.seconds, at.nanos));
            at(one).cmp(&at(other))
        }),
        (api::UnitSort::LastConnectedAt, |one, other| {
            let at = |unit: &api::Unit| unit.last_connected_at.map(|at| (at.seconds, at.nanos));
            at(one).cmp(&at(other))
        }),
        (api::UnitSort::Subunits, |one, other| one.subunits.cmp(&other.subunits)),
        (api::UnitSort::ActivatedBy, |one, other| text(&one.activated_by, &other.activated_by)),
        (api::UnitSort::FromRemoteManagement, |one, other| {
            one.from_remote_management.cmp(&other.from_remote_management)
        }),
        (api::UnitSort::State, |one, other| one.state.cmp(&other.state)),
        (api::UnitSort::LicenseId, |one, other| text(&one.license_id, &other.license_id)),
        (api::UnitSort::Status, |one, other| {
            one.status.cmp(&other.status).then_with(|| text(&one.license_id, &other.license_id))
        }),
        (api::UnitSort::Installation, |one, other| text(installation(one), installation(other))),
    ];
    for token in [&office.owner, &anna] {
        let all = office.all_units(token).await;
        assert_eq!(all.len(), 22);
        let statuses: BTreeSet<_> = all.iter().map(|unit| unit.status).collect();
        let states: BTreeSet<_> = all.iter().map(|unit| unit.state).collect();
        assert_eq!((statuses.len(), states.len()), (3, 3), "there is something of everything");
        for (sort, by) in orders {
            let mut expected = all.clone();
            expected.sort_by(|one, other| by(one, other).then_with(|| text(&one.unit_id, &other.unit_id)));
            for descending in [false, true] {
                for page_size in [5, 1_000] {
                    let request = api::ListUnitsRequest {
                        page_size,
                        sort: sort.into(),
                        descending,
                        states: vec![1, 2, 3],
                        ..Default::default()
                    };
                    let told = units(&office, token, request).await;
                    assert_eq!(told, expected, "{sort:?} {descending} {page_size}");
                }
                expected.reverse();
            }
        }
    }
}

async fn units_are_filtered_by_status_state_license_and_account(office: Office) {
    let (licenses, anna) = mixed(&office).await;
    let all = office.all_units(&anna).await;
    let whole = || api::ListUnitsRequest { page_size: 4, states: vec![1, 2, 3], ..Default::default() };
    type Wanted<'a> = Box<dyn Fn(&api::Unit) -> bool + 'a>;
    let rows: Vec<(api::ListUnitsRequest, Wanted<'_>)> = vec![
        (api::ListUnitsRequest { states: vec![], ..whole() }, Box::new(|unit| unit.state != 3)),
        (api::ListUnitsRequest { states: vec![1], ..whole() }, Box::new(|unit| unit.state == 1)),
        (api::ListUnitsRequest { states: vec![3, 2], ..whole() }, Box::new(|unit| unit.state != 1)),
        (api::ListUnitsRequest { statuses: vec![1], ..whole() }, Box::new(|unit| unit.status == 1)),
        (api::ListUnitsRequest { statuses: vec![2, 3, 3], ..whole() }, Box::new(|unit| unit.status != 1)),
        (
            api::ListUnitsRequest { license_ids: vec![licenses[1].to_lowercase()], ..whole() },
            Box::new(|unit| unit.license_id == licenses[1]),
        ),
        (
            api::ListUnitsRequest {
                license_ids: vec![licenses[2].clone(), "ZZZ-ZZZ-ZZZ".to_owned()],
                ..whole()
            },
            Box::new(|unit| unit.license_id == licenses[2]),
        ),
        (
            api::ListUnitsRequest { license_ids: vec!["' OR 1 = 1".to_owned()], ..whole() },
            Box::new(|_| false),
        ),
        (api::ListUnitsRequest { own: true, ..whole() }, Box::new(|unit| unit.activated_by == "anna")),
        (
            api::ListUnitsRequest { own: true, states: vec![1], statuses: vec![1, 3], ..whole() },
            Box::new(|unit| unit.activated_by == "anna" && unit.state == 1 && unit.status != 2),
        ),
    ];
    let ids = |units: &[api::Unit]| units.iter().map(|unit| unit.unit_id.clone()).collect::<BTreeSet<_>>();
    for (request, wanted) in rows {
        let expected: Vec<_> = all.iter().filter(|unit| wanted(unit)).cloned().collect();
        for sort in [0, 6, 10, 11] {
            let told = units(&office, &anna, api::ListUnitsRequest { sort, ..request.clone() }).await;
            assert_eq!((told.len(), ids(&told)), (expected.len(), ids(&expected)), "{request:?}");
        }
    }
    for unit in &all {
        assert_eq!(unit.may_deactivate, unit.activated_by == "anna", "{unit:?}");
    }
    let wrong = [
        api::ListUnitsRequest { sort: 13, ..whole() },
        api::ListUnitsRequest { sort: -1, ..whole() },
        api::ListUnitsRequest { states: vec![0], ..whole() },
        api::ListUnitsRequest { statuses: vec![4], ..whole() },
        api::ListUnitsRequest { connections: vec![1, 9], ..whole() },
        api::ListUnitsRequest { page_size: -1, ..whole() },
        api::ListUnitsRequest { page_size: 1_001, ..whole() },
    ];
    for request in wrong {
        let refused = office.units(&anna).list_units(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
    }
}

async fn a_unit_turns_orange_after_14_and_red_after_30_days_to_the_nanosecond(office: Office) {
    use api::Connection::{Orange, Recent, Red};
    let (_, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "one").await.unwrap();
    let last = office.now();
    for (days, nanos, expected) in [
        (0, 0, Recent),
        (14, -1, Recent),
        (14, 0, Recent),
        (14, 1, Orange),
        (30, -1, Orange),
        (30, 0, Orange),
        (30, 1, Red),
        (300, 0, Red),
    ] {
        office.clock.set(last + Span::days(days) + Span::from_nanos(nanos));
        for connection in [Recent, Orange, Red] {
            let request = api::ListUnitsRequest {
                connections: vec![connection.into()],
                page_size: 9,
                ..Default::default()
            };
            let told = units(&office, &office.owner, request).await;
            assert_eq!(told.len(), usize::from(connection == expected), "{days} d {nanos} ns {connection:?}");
            assert!(told.iter().all(|unit| unit.connection() == expected));
        }
        let others: Vec<i32> =
            [Recent, Orange, Red].into_iter().filter(|one| *one != expected).map(i32::from).collect();
        let request = api::ListUnitsRequest { connections: others, page_size: 9, ..Default::default() };
        assert!(units(&office, &office.owner, request).await.is_empty());
    }
    office.synced(&unit, None).await;
    let request = api::GetUnitRequest { unit_id: unit.id.clone() };
    let told = office.units(&office.owner).get_unit(request).await.unwrap().into_inner().unit.unwrap();
    assert_eq!(told.connection(), Recent);
}

async fn walking_the_pages_tells_every_unit_once_whatever_changes_in_between(office: Office) {
    let (one, key) = office.license(a_license()).await;
    let (two, _) = office.license(a_license()).await;
    let mut stay = BTreeSet::new();
    let mut go = Vec::new();
    for number in 0..10_u64 {
        let request = api::ActivateUnitRequest {
            license_id: [&one, &two][usize::from(number % 3 == 0)].clone(),
            device_name: format!("device {}", number * 7 % 5),
            subunits: number % 4,
            ..Default::default()
        };
        let unit = activate(&office, &office.owner, request).await;
        if number % 3 == 1 {
            go.push(unit.id)
        } else {
            stay.insert(unit.id);
        }
    }
    for sort in 0..=12 {
        for descending in [false, true] {
            let mut come = Vec::new();
            let mut request = api::ListUnitsRequest {
                page_size: 3,
                sort,
                descending,
                states: vec![1],
                ..Default::default()
            };
            let mut told = Vec::new();
            loop {
                let page =
                    office.units(&office.owner).list_units(request.clone()).await.unwrap().into_inner();
                told.extend(page.units.into_iter().map(|unit| unit.unit_id));
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
                if let Some(id) = go.pop() {
                    office.deactivate(&office.owner, &[&id]).await;
                    come.push(
                        office.activate("", &key, &format!("device {}", told.len() % 6)).await.unwrap().id,
                    );
                }
            }
            let once: BTreeSet<_> = told.iter().cloned().collect();
            assert_eq!(once.len(), told.len(), "{sort} {descending}: told twice");
            assert!(stay.is_subset(&once), "{sort} {descending}: missed");
            // Those that came are those that go while the next walk is made.
            go.append(&mut come);
        }
    }
}

async fn a_filter_named_over_and_over_is_one_and_there_is_an_end_to_licenses(office: Office) {
    let (license, key) = office.license(a_license()).await;
    office.activate("", &key, "one").await.unwrap();
    let over_and_over = vec![1; 100_000];
    let request = api::ListUnitsRequest {
        page_size: 9,
        statuses: over_and_over.clone(),
        connections: over_and_over.clone(),
        states: over_and_over.clone(),
        license_ids: vec![license.clone(); 1_000],
        ..Default::default()
    };
    assert_eq!(units(&office, &office.owner, request.clone()).await.len(), 1);
    let request = api::ListUnitsRequest { license_ids: vec![license; 1_001], ..request };
    let refused = office.units(&office.owner).list_units(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("license_ids: 1001 given; at most 1000"), "{refused:?}");
    let request = api::ListLicensesRequest { statuses: over_and_over, ..Default::default() };
    let told = office.licenses(&office.owner).list_licenses(request).await.unwrap().into_inner();
    assert_eq!(told.licenses.len(), 1);
}

async fn a_page_goes_on_after_a_name_that_looks_like_an_escaped_nul(office: Office) {
    let (_, key) = office.license(a_license()).await;
    for device in [r"x\u0000", r"x\\u0000 y", r"\U0000"] {
        office.activate("", &key, device).await.unwrap();
    }
    let request = api::ListUnitsRequest { page_size: 1, ..Default::default() };
    assert_eq!(units(&office, &office.owner, request).await.len(), 3);
}

async fn a_page_token_belongs_to_its_list_and_caller(office: Office) {
    let (license, key) = office.license(a_license()).await;
    let anna = office.admin("anna").await;
    office.delegate(&license, "anna", &anna).await;
    for number in 0..4 {
        office.activate("", &key, &format!("device {number}")).await.unwrap();
        office.license(a_license()).await;
    }
    let first = api::ListUnitsRequest { page_size: 2, ..Default::default() };
    let page = office.units(&office.owner).list_units(first.clone()).await.unwrap().into_inner();
    let token = page.next_page_token;
    let next = || api::ListUnitsRequest { page_token: token.clone(), ..first.clone() };
    let other_size = api::ListUnitsRequest { page_size: 1_000, ..next() };
    assert_eq!(office.units(&office.owner).list_units(other_size).await.unwrap().into_inner().units.len(), 2);
    let licenses = api::ListLicensesRequest { page_size: 2, ..Default::default() };
    let page = office.licenses(&office.owner).list_licenses(licenses).await.unwrap().into_inner();
    let flipped: String = token.chars().rev().collect();
    for (who, request) in [
        (&office.owner, api::ListUnitsRequest { descending: true, ..next() }),
        (&office.owner, api::ListUnitsRequest { sort: 2, ..next() }),
        (&office.owner, api::ListUnitsRequest { own: true, ..next() }),
        (&office.owner, api::ListUnitsRequest { statuses: vec![1], ..next() }),
        (&anna, next()),
        (&office.owner, api::ListUnitsRequest { page_token: page.next_page_token, ..next() }),
        (&office.owner, api::ListUnitsRequest { page_token: flipped, ..next() }),
        (&office.owner, api::ListUnitsRequest { page_token: format!("{token}A"), ..next() }),
        (&office.owner, api::ListUnitsRequest { page_token: token[..token.len() / 2].to_owned(), ..next() }),
        (&office.owner, api::ListUnitsRequest { page_token: "bnVsbA".to_owned(), ..next() }),
        (&office.owner, api::ListUnitsRequest { page_token: " ".to_owned(), ..next() }),
    ] {
        let refused = office.units(who).list_units(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
        assert!(refused.message().contains("page_token"), "{}", refused.message());
    }
}

async fn more_licenses_than_one_statement_looks_at_are_one_list(office: Office) {
    let licenses = vec![a_license(); 120];
    let request = api::ImportLicensesRequest { request_id: unique(), licenses };
    let made = office.licenses(&office.owner).import_licenses(request).await.unwrap().into_inner().licenses;
    let mut names = Vec::new();
    for (number, made) in made.iter().enumerate().step_by(4) {
        let name = format!("device {:03}", number * 37 % 120);
        let request = api::ActivateUnitRequest {
            license_key: made.license_key.clone(),
            device_name: name.clone(),
            subunits: u64::try_from(number % 7).unwrap(),
            ..Default::default()
        };
        activate(&office, "", request).await;
        names.push(name);
    }
    names.sort();
    let all = api::ListUnitsRequest { page_size: 7, ..Default::default() };
    let filters = [
        all.clone(),
        api::ListUnitsRequest { states: vec![api::UnitState::Active.into()], ..all.clone() },
        api::ListUnitsRequest { connections: vec![api::Connection::Recent.into()], ..all.clone() },
    ];
    let orders = [(1, false), (1, true), (6, false), (6, true), (10, false), (10, true)];
    for (filter, (sort, descending)) in
        filters.iter().flat_map(|filter| orders.map(move |order| (filter, order)))
    {
        let request = api::ListUnitsRequest { sort, descending, ..filter.clone() };
        let told = units(&office, &office.owner, request).await;
        let mut expected = told.clone();
        expected.sort_by_key(|unit| match sort {
            1 => (unit.device_name.clone(), 0, unit.unit_id.clone()),
            6 => (String::new(), unit.subunits, unit.unit_id.clone()),
            _ => (unit.license_id.clone(), 0, unit.unit_id.clone()),
        });
        if descending {
            expected.reverse();
        }
        assert_eq!(told, expected, "{sort} {descending}");
        let mut told: Vec<_> = told.into_iter().map(|unit| unit.device_name).collect();
        told.sort();
        assert_eq!(told, names, "{sort} {descending}");
    }
}

/// One unit in so many copies that no index is told to look them up.
async fn what_more_units_pass_than_are_few_is_told_in_the_same_order(office: Office) {
    let licenses = vec![a_license(); 60];
    let request = api::ImportLicensesRequest { request_id: unique(), licenses };
    let made = office.licenses(&office.owner).import_licenses(request).await.unwrap().into_inner().licenses;
    let license_key = made[0].license_key.clone();
    let license_id = made[0].license.as_ref().unwrap().license_id.clone();
    let new = api::ActivateUnitRequest { device_name: "a".to_owned(), ..Default::default() };
    let by_owner = (api::ActivateUnitRequest { license_id, ..new.clone() }, office.owner.as_str());
    let by_key = (api::ActivateUnitRequest { license_key, ..new }, "");
    // More by the owner alone than are few, and some beside them of the same names.
    for ((request, token), last) in [(by_owner, 30_500), (by_key, 10_100)] {
        let one = activate(&office, token, request).await;
        let copies = format!(
            "INSERT INTO units SELECT unit_id || n, of_license, subscription_id, 'copy ' || ((n * 7919) % 30011), product,
                 product_version, activated_at, last_connected_at, n, activated_by, activated_by_name, from_remote, state,
                 deactivated_at, secret_sha256, installation || n, counted_at, active_users, all_users, components,
                 changed_in
             FROM (WITH RECURSIVE series (n) AS (SELECT 10001 UNION ALL SELECT n + 1 FROM series WHERE n < {last})
                   SELECT n FROM series) AS numbers
             JOIN (SELECT license_id AS of_license, ROW_NUMBER() OVER (ORDER BY license_id) AS number
                   FROM licenses) AS licenses ON number = n % 60 + 1,
             units WHERE unit_id = '{}'",
            one.id
        );
        office.execute(&copies).await.unwrap();
    }
    let all = api::ListUnitsRequest { page_size: 5, ..Default::default() };
    let filters = [
        api::ListUnitsRequest { states: vec![api::UnitState::Active.into()], ..all.clone() },
        api::ListUnitsRequest { connections: vec![api::Connection::Recent.into()], ..all.clone() },
        api::ListUnitsRequest { own: true, ..all.clone() },
    ];
    let name = |n: u32| format!("copy {}", n * 7919 % 30_011);
    let of_owner = std::iter::once("a".to_owned()).chain((10_001..=30_500).map(name));
    let by_key = std::iter::once("a".to_owned()).chain((10_001..=10_100).map(name));
    let (mut own, mut all_names): (Vec<_>, Vec<_>) =
        (of_owner.clone().collect(), of_owner.chain(by_key).collect());
    own.sort();
    all_names.sort();
    for (filter, descending) in filters.iter().flat_map(|filter| [(filter, false), (filter, true)]) {
        let sort = api::UnitSort::DeviceName.into();
        let mut request = api::ListUnitsRequest { sort, descending, ..filter.clone() };
        let mut told = Vec::new();
        for _ in 0..3 {
            let page = office.units(&office.owner).list_units(request.clone()).await.unwrap().into_inner();
            told.extend(page.units.into_iter().map(|unit| unit.device_name));
            request.page_token = page.next_page_token;
        }
        let mut expected = if filter.own { own.clone() } else { all_names.clone() };
        if descending {
            expected.reverse();
        }
        assert_eq!(told, expected[..15], "{filter:?} {descending}");
    }
}

async fn licenses_are_sorted_filtered_and_paged(office: Office) {
    let names = ["b", "a", "B", "ä", "", "a", "10", "9"];
    for number in 0..24_usize {
        let days = [365, 10, 365][number % 3];
        let new = api::NewLicense {
            name: names[number % names.len()].to_owned(),
            product: ["x", "y", "X"][number % 3].to_owned(),
            seat_kind: [1, 2, 1][number % 3],
            seats: [100, 20, 3, 1_000][number % 4],
            r#type: ["full", "trial", "nfr"][number % 3].to_owned(),
            sms_credits: [None, Some(0), Some(70)][number % 3],
            all_users_limit: [0, 5, 4][number % 3],
            components_limit: [9, 0][number % 2],
            expires_at: timestamp(
                START + Span::days(days) + Span::from_nanos(i128::try_from(number).unwrap()),
            ),
            ..Default::default()
        };
        let (_, key) = office.license(new).await;
        for unit in 0..number % 3 {
            office.activate("", &key, &unit.to_string()).await.unwrap();
        }
    }
    let walk = async |request: api::ListLicensesRequest| {
        let (mut told, mut request) = (Vec::new(), api::ListLicensesRequest { page_size: 5, ..request });
        loop {
            let page =
                office.licenses(&office.owner).list_licenses(request.clone()).await.unwrap().into_inner();
            assert!(page.licenses.len() <= 5);
            told.extend(page.licenses);
            if page.next_page_token.is_empty() {
                return told;
            }
            request.page_token = page.next_page_token;
        }
    };
    let all = walk(api::ListLicensesRequest::default()).await;
    assert_eq!(all.len(), 24);
    type Key = (Vec<u8>, i128);
    let keys: [fn(&api::License) -> Key; 17] = [
        |license| (license.license_id.clone().into_bytes(), 0),
        |license| (license.license_id.clone().into_bytes(), 0),
        |license| (license.name.clone().into_bytes(), 0),
        |license| (license.product.clone().into_bytes(), 0),
        |license| (Vec::new(), license.seats.into()),
        |license| {
            (
                Vec::new(),
                license
                    .expires_at
                    .map_or(0, |at| i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos)),
            )
        },
        |license| (Vec::new(), license.active_units.into()),
        |license| (license.r#type.clone().into_bytes(), 0),
        |license| (Vec::new(), license.state.into()),
        |license| (Vec::new(), license.created_at.map_or(0, |at| at.seconds.into())),
        |license| (license.subscription_id.clone().into_bytes(), 0),
        |license| (license.customer.clone().into_bytes(), 0),
        |license| (Vec::new(), license.sms_credits.map_or(-1, i128::from)),
        |license| (Vec::new(), license.all_users_limit.into()),
        |license| (Vec::new(), license.components_limit.into()),
        |license| (Vec::new(), license.status.into()),
        |license| (Vec::new(), license.seat_kind.into()),
    ];
    let statuses = all.iter().map(|license| license.status).collect::<BTreeSet<_>>();
    assert!(2 <= statuses.len(), "{statuses:?}");
    for (sort, key) in keys.into_iter().enumerate() {
        let mut expected = all.clone();
        expected.sort_by_key(|license| (key(license), license.license_id.clone()));
        for descending in [false, true] {
            let narrowed = [vec![1], vec![2], vec![3, 2]][sort % 3].clone();
            for statuses in [vec![], narrowed] {
                let wanted =
                    |license: &&api::License| statuses.is_empty() || statuses.contains(&license.status);
                let expected: Vec<_> = expected.iter().filter(wanted).cloned().collect();
                let sort = i32::try_from(sort).unwrap();
                let told = walk(api::ListLicensesRequest {
                    sort,
                    descending,
                    statuses: statuses.clone(),
                    ..Default::default()
                });
                assert_eq!(told.await, expected, "{sort} {descending} {statuses:?}");
            }
            expected.reverse();
        }
    }
}

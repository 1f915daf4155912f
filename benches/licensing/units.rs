//! The list of units, a sync, and deactivation, on a database full of units.
//!
//! Not here: units that watch (see `watchers`).

use std::time::{Duration, Instant};

use esa_sidecar::proto::licensing::{
    Connection, DeactivateUnitsRequest, ListUnitsRequest, ListUnitsResponse, SyncRequest, SyncingUnit,
    UnitSort, UnitState,
};

use super::{
    fill::{RARE, SECRET, Shape, fill, unit_id},
    office::{self, Office},
    report::{Report, Times, shown},
};

const PAGE: Duration = Duration::from_millis(50);
const DEACTIVATION: Duration = Duration::from_secs(5);
const SYNC: Duration = Duration::from_millis(5);

const SORTS: [UnitSort; 12] = [
    UnitSort::DeviceName,
    UnitSort::Product,
    UnitSort::ProductVersion,
    UnitSort::ActivatedAt,
    UnitSort::LastConnectedAt,
    UnitSort::Subunits,
    UnitSort::ActivatedBy,
    UnitSort::FromRemoteManagement,
    UnitSort::State,
    UnitSort::LicenseId,
    UnitSort::Status,
    UnitSort::Installation,
];

/// Measures everything; without `full` only the list.
pub(crate) async fn measure(office: &Office, report: &mut Report, place: &str, shape: Shape, full: bool) {
    let began = Instant::now();
    let licenses = fill(office, shape).await;
    report.note(place, "filling the tables", shown(began.elapsed()));
    first_pages(office, report, place).await;
    filtered(office, report, place, &licenses).await;
    if full {
        deep_pages(office, report, place, shape).await;
        syncs(office, report, place, shape).await;
        deactivations(office, report, place, shape).await;
    }
}

async fn page(office: &Office, request: &ListUnitsRequest) -> (Duration, ListUnitsResponse) {
    let (request, mut units) = (request.clone(), office.units());
    let began = Instant::now();
    let page = units.list_units(request).await.unwrap().into_inner();
    (began.elapsed(), page)
}

/// The slowest sort of a list of `found` units (at least), by its median; its name with the way.
async fn slowest(
    office: &Office,
    asked: &ListUnitsRequest,
    repetitions: usize,
    found: std::ops::RangeInclusive<usize>,
) -> (String, Times) {
    let mut slowest = (String::new(), Times::of(vec![Duration::ZERO]));
    for (sort, descending) in SORTS.into_iter().flat_map(|sort| [(sort, false), (sort, true)]) {
        let request = ListUnitsRequest { sort: sort.into(), descending, ..asked.clone() };
        let mut times = Vec::new();
        for _ in 0..repetitions {
            let (time, page) = page(office, &request).await;
            assert!(found.contains(&page.units.len()), "{} units by {sort:?}", page.units.len());
            times.push(time);
        }
        let times = Times::of(times);
        if slowest.1.median() < times.median() {
            let name = sort.as_str_name().trim_start_matches("UNIT_SORT_").to_lowercase();
            slowest = (format!("{name}{}", if descending { ", descending" } else { "" }), times);
        }
    }
    slowest
}

async fn first_pages(office: &Office, report: &mut Report, place: &str) {
    let (sort, times) = slowest(office, &ListUnitsRequest::default(), 9, 50..=50).await;
    report.promise(place, &format!("first page, the slowest of 24 sorts: {sort}"), PAGE, &times);
}

/// Filters that little or nothing passes.
async fn filtered(office: &Office, report: &mut Report, place: &str, licenses: &[String]) {
    let filters = [
        ("few are red", ListUnitsRequest { connections: vec![Connection::Red.into()], ..Default::default() }),
        (
            "few are deactivated",
            ListUnitsRequest { states: vec![UnitState::Deactivated.into()], ..Default::default() },
        ),
        ("few are one's own", ListUnitsRequest { own: true, ..Default::default() }),
        (
            "none is one's own, red and deactivated",
            ListUnitsRequest {
                connections: vec![Connection::Red.into()],
                states: vec![UnitState::Deactivated.into()],
                own: true,
                ..Default::default()
            },
        ),
        (
            "one in a hundred is pending",
            ListUnitsRequest { states: vec![UnitState::DeactivationPending.into()], ..Default::default() },
        ),
        (
            "one license",
            ListUnitsRequest {
                license_ids: licenses.iter().take(1).cloned().collect(),
                ..Default::default()
            },
        ),
    ];
    for (name, filter) in filters {
        let (sort, times) = slowest(office, &filter, 3, 0..=50).await;
        report.note(place, &format!("first page, {name}, the slowest sort: {sort}"), times);
    }
}

/// A page from the middle of each sort: a fifth of the list lies before it.
async fn deep_pages(office: &Office, report: &mut Report, place: &str, shape: Shape) {
    let mut slowest = (String::new(), Times::of(vec![Duration::ZERO]));
    for sort in SORTS {
        let mut request = ListUnitsRequest { sort: sort.into(), page_size: 1_000, ..Default::default() };
        for _ in 0..(shape.units / 5_000).min(100) {
            request.page_token = page(office, &request).await.1.next_page_token;
        }
        request.page_size = 50;
        let mut times = Vec::new();
        for _ in 0..9 {
            times.push(page(office, &request).await.0);
        }
        let times = Times::of(times);
        if slowest.1.median() < times.median() {
            slowest = (sort.as_str_name().trim_start_matches("UNIT_SORT_").to_lowercase(), times);
        }
    }
    report.note(place, &format!("a page after 100,000 units, the slowest sort: {}", slowest.0), slowest.1);
}

async fn syncs(office: &Office, report: &mut Report, place: &str, shape: Shape) {
    let channel = office.connect().await;
    let sync = |number: i64| {
        let unit_id = unit_id(number);
        let mut client = office::unit(&channel, &unit_id, SECRET);
        async move {
            let unit = Some(SyncingUnit { unit_id, ..Default::default() });
            let request = SyncRequest { unit, nonce: vec![7; 16], ..Default::default() };
            let began = Instant::now();
            client.sync(request).await.unwrap();
            began.elapsed()
        }
    };
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for number in (0..shape.units).step_by(usize::try_from(shape.units / 200).unwrap().max(1)) {
        first.push(sync(number).await);
        again.push(sync(number).await);
    }
    report.note(place, "a sync that writes down that the unit connected", Times::of(first));
    report.promise(place, "facts for one subscription: a sync without usage", SYNC, &Times::of(again));
}

async fn deactivations(office: &Office, report: &mut Report, place: &str, shape: Shape) {
    let count = (shape.units / 10).min(10_000);
    let mut times = Vec::new();
    for round in 0..3 {
        let ids = (0..count).map(|number| unit_id(number * (shape.units / count) + round)).collect();
        let request = DeactivateUnitsRequest { request_id: format!("round {round}"), unit_ids: ids };
        let mut units = office.units();
        let began = Instant::now();
        let results = units.deactivate_units(request).await.unwrap().into_inner().results;
        times.push(began.elapsed());
        assert!(results.iter().all(|result| result.refusal == 0), "owners deactivate any unit");
    }
    let what = format!("deactivating {count} units in one call");
    report.promise(place, &what, DEACTIVATION, &Times::of(times));
    report.note(place, "one unit in so many is rare", RARE);
}

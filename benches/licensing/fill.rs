//! Fills the tables behind the backend's back, a million units in one statement, and keeps the books true: what
//! licences, subscriptions and installations say of their units.
//!
//! Not here: the licences, which are issued as anybody's are (see `office`).

use esa_sidecar::{
    clock::{Clock as _, SystemClock},
    licensing::store::{Database, Store, Tx, nanos},
    sha256,
};
use sqlx::{AssertSqlSafe, Row as _};

use super::office::{Office, execute};

/// How many units there are, and what of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) units: i64,
    pub(crate) licenses: i64,
    /// Each product is a subscription.
    pub(crate) products: i64,
    /// Otherwise some are deactivated.
    pub(crate) all_active: bool,
}

/// The secret of every unit that was given none of its own.
pub(crate) const SECRET: &str = "secret";

/// One unit in so many is in a state, unconnected for so long, or activated by the owner, as the filters for little
/// look for.
pub(crate) const RARE: i64 = 50_000;

/// The ID of unit `number`; IDs grow with time, as those the backend makes.
pub(crate) fn unit_id(number: i64) -> String {
    format!("01900000-0000-7000-8000-{number:012}")
}

/// Issues the licences and fills in their units; the IDs of the licences.
pub(crate) async fn fill(office: &Office, shape: Shape) -> Vec<String> {
    let licenses = office.import(shape.licenses, shape.products).await;
    let store = Store::open(office.database.clone(), 1).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let indexes = drop_indexes(&mut tx, &office.database).await;
    units(&mut tx, shape).await;
    for index in indexes {
        run(&mut tx, &index).await;
    }
    for sql in BOOKS {
        run(&mut tx, sql).await;
    }
    tx.commit().await.unwrap();
    match &office.database {
        // Its own housekeeping would come to it a little later.
        Database::Postgres(postgres) => execute(&postgres.driver_url(None), "VACUUM ANALYZE").await,
        Database::Sqlite(_) => {
            let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
            checkpoint.execute(store.reads()).await.unwrap();
        }
    }
    store.close().await;
    // The backend works facts out from the books once a licence of the subscription is changed.
    for license_id in licenses.iter().take(usize::try_from(shape.products).unwrap()).take(100) {
        office.resize(license_id, 200_000_000).await;
    }
    licenses
}

/// Gives a unit a secret of its own: the hash of the secret.
pub(crate) async fn secrets(database: &Database, units: i64) {
    let store = Store::open(database.clone(), 1).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    for number in 0..units {
        let update = sqlx::query("UPDATE units SET secret_sha256 = $2 WHERE unit_id = $1");
        let update = update.bind(unit_id(number)).bind(sha256::hex(secret(number).as_bytes()));
        update.execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    store.close().await;
}

/// The secret of unit `number` of its own.
pub(crate) fn secret(number: i64) -> String {
    format!("{SECRET} {number}").replace(' ', "-")
}

async fn run(tx: &mut Tx, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut **tx).await.unwrap();
}

/// Drops the indexes of the units, because it is faster to make them anew; how.
async fn drop_indexes(tx: &mut Tx, database: &Database) -> Vec<String> {
    let sql = match database {
        Database::Sqlite(_) => {
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'units' AND sql IS NOT NULL"
        }
        Database::Postgres(_) => {
            "SELECT CAST(indexname AS TEXT) AS name, indexdef AS sql FROM pg_indexes
             WHERE tablename = 'units' AND indexname <> 'units_pkey'"
        }
    };
    let mut made = Vec::new();
    for row in sqlx::query(sql).fetch_all(&mut **tx).await.unwrap() {
        let (name, sql): (String, String) = (row.get("name"), row.get("sql"));
        run(tx, &format!("DROP INDEX {name}")).await;
        made.push(sql);
    }
    made
}

async fn units(tx: &mut Tx, Shape { units, licenses, all_active, .. }: Shape) {
    let insert = sqlx::query(UNITS).bind(units).bind(licenses).bind(nanos(SystemClock::new().now()));
    let insert = insert.bind(sha256::hex(SECRET.as_bytes())).bind(i64::from(!all_active)).bind(RARE);
    insert.execute(&mut **tx).await.unwrap();
    // So that some were activated with the owner's own account.
    let owned = "UPDATE units SET activated_by = (SELECT account_id FROM accounts WHERE name = 'owner')
                 WHERE activated_by_name = 'owner'";
    run(tx, owned).await;
}

/// `$1` units over `$2` licences at `$3`, with the hash `$4` of their secret; `$5` = 1 deactivates some, one in `$6`
/// for good. Half of them are authentication servers that have reported, two to an installation.
const UNITS: &str = "
    INSERT INTO units (unit_id, license_id, subscription_id, device_name, product, product_version, activated_at,
        last_connected_at, subunits, activated_by, activated_by_name, from_remote, state, deactivated_at,
        secret_sha256, installation, counted_at, active_users, all_users, components, changed_in)
    WITH RECURSIVE
        series (n) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT n + 1 FROM series WHERE n + 1 < $1),
        numbered AS (
            SELECT license_id, subscription_id, product, ROW_NUMBER() OVER (ORDER BY license_id) - 1 AS number
            FROM licenses),
        made AS (
            SELECT n, '01900000-0000-7000-8000-' || SUBSTR(CAST(1000000000000 + n AS TEXT), 2) AS unit_id,
                CASE WHEN $5 = 1 AND n % $6 = 23 THEN 3 WHEN $5 = 1 AND n % 100 = 5 THEN 2 ELSE 1 END AS state,
                $3 - 1000000000 * CASE WHEN n % $6 = 17 THEN 86400 * 40 WHEN n % 1000 = 3 THEN 86400 * 20
                    ELSE (n * 31) % 86400 + 3600 END AS last_connected_at
            FROM series)
    SELECT m.unit_id, l.license_id, l.subscription_id, 'PC-' || SUBSTR(CAST(10000000 + (n * 7919) % 1000003 AS TEXT), 2),
        l.product, '3.' || CAST(n % 7 AS TEXT), $3 - 1000000000 * ((n * 104729) % 94608000), m.last_connected_at, n % 11,
        CASE WHEN n % 3 = 0 THEN '' ELSE 'some account' END,
        CASE WHEN n % $6 = 19 THEN 'owner' WHEN n % 3 = 0 THEN '' WHEN n % 3 = 1 THEN 'anna' ELSE 'berta' END,
        CASE WHEN n % 4 = 0 THEN 1 ELSE 0 END, m.state, CASE WHEN m.state = 1 THEN NULL ELSE $3 END, $4,
        CASE WHEN n % 2 = 0 THEN 'site ' || CAST(n / 4 AS TEXT) ELSE m.unit_id END,
        CASE WHEN n % 2 = 0 THEN m.last_connected_at ELSE NULL END, CASE WHEN n % 2 = 0 THEN 10 ELSE 0 END,
        CASE WHEN n % 2 = 0 THEN 20 ELSE 0 END, CASE WHEN n % 2 = 0 THEN 2 ELSE 0 END, 0
    FROM made m JOIN numbered l ON l.number = n % $2";

/// What follows from the units.
const BOOKS: [&str; 3] = [
    "INSERT INTO installations (subscription_id, installation, unit_id, counted_at, active_users, all_users, components)
     SELECT subscription_id, installation, unit_id, counted_at, active_users, all_users, components
     FROM (SELECT u.*, ROW_NUMBER() OVER (
               PARTITION BY subscription_id, installation ORDER BY counted_at DESC, unit_id DESC) AS newest
           FROM units u WHERE state = 1 AND counted_at IS NOT NULL) AS ranked
     WHERE newest = 1",
    "UPDATE licenses SET active_units = (
         SELECT COUNT(*) FROM units u WHERE u.license_id = licenses.license_id AND u.state = 1)",
    "UPDATE subscriptions SET active_units = l.active_units, active_users = COALESCE(i.active_users, 0),
         all_users = COALESCE(i.all_users, 0), components = COALESCE(i.components, 0)
     FROM (SELECT subscription_id AS id, SUM(active_units) AS active_units FROM licenses GROUP BY 1) AS l
     LEFT JOIN (SELECT subscription_id AS id, SUM(active_users) AS active_users, SUM(all_users) AS all_users,
                    SUM(components) AS components
                FROM installations GROUP BY 1) AS i ON i.id = l.id
     WHERE l.id = subscriptions.subscription_id",
];

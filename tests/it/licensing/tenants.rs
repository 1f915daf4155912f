//! Customers see nothing of one another, and no text anybody sends does more than be a text.

use esa_sidecar::proto::licensing as api;
use tonic::{Code, Status};

use super::{
    office::{Activated, Office, TABLES, a_license, timestamp, unique, users},
    on_both_databases,
};
use crate::sidecar::START;

on_both_databases!(
    an_id_of_the_other_side_is_answered_as_one_that_does_not_exist,
    no_list_tells_of_the_other_side,
    a_hostile_text_is_a_text_in_every_field,
);

/// One customer's people and things.
struct Side {
    owner: String,
    admins: Vec<String>,
    names: Vec<String>,
    license: String,
    second: String,
    key: String,
    unit: Activated,
    credential: String,
}

async fn side(office: &Office, customer: &str) -> Side {
    let owner = office.customer(customer, &format!("{customer}.owner")).await;
    let (mut admins, mut names) = (Vec::new(), vec![format!("{customer}.owner")]);
    let theirs = || api::NewLicense { customer: customer.to_owned(), ..a_license() };
    let (license, key) = office.license(theirs()).await;
    let (second, _) = office.license(theirs()).await;
    for (number, accepted) in [true, false].into_iter().enumerate() {
        let name = format!("{customer}.admin{number}");
        let token = office.account(&owner, &name, api::AccountRole::SecurityAdmin, "").await;
        let request = api::DelegateLicenseRequest {
            request_id: unique(),
            license_id: license.clone(),
            account: name.clone(),
        };
        office.licenses(&owner).delegate_license(request).await.unwrap();
        if accepted {
            let request = api::AcceptLicenseRequest { request_id: unique(), license_id: license.clone() };
            office.licenses(&token).accept_license(request).await.unwrap();
        }
        admins.push(token);
        names.push(name);
    }
    let unit = office.activate("", &key, &format!("{customer}'s device")).await.unwrap();
    office.activate(&admins[0], &license, &format!("{customer}'s other device")).await.unwrap();
    let request = api::CreateApiCredentialRequest {
        request_id: unique(),
        name: "script".to_owned(),
        ..Default::default()
    };
    let made = office.accounts(&owner).create_api_credential(request).await.unwrap().into_inner();
    admins.push(made.token.clone());
    let credential = made.credential.unwrap().credential_id;
    Side { owner, admins, names, license, second, key, unit, credential }
}

/// What a call answered: nothing but its code and, with every ID replaced, its words.
fn told<T: std::fmt::Debug>(done: Result<tonic::Response<T>, Status>, ids: &[&str]) -> String {
    let mut text = match done {
        Ok(answer) => format!("{:?}", answer.into_inner()),
        Err(refused) => format!("{:?}: {}", refused.code(), refused.message()),
    };
    for id in ids {
        text = text.replace(id, "<ID>");
    }
    text
}

/// Every call that names something, with these IDs.
async fn calls(
    office: &Office,
    token: &str,
    license: &str,
    unit: &str,
    account: &str,
    credential: &str,
) -> Vec<String> {
    let ids = [license, unit, account, credential];
    let (license_id, name) = (license.to_owned(), account.to_owned());
    let mut answers = Vec::new();
    macro_rules! call {
        ($service:ident.$call:ident, $request:expr) => {
            answers.push(format!(
                "{} {}",
                stringify!($call),
                told(office.$service(token).$call($request).await, &ids)
            ));
        };
    }
    call!(units.get_unit, api::GetUnitRequest { unit_id: unit.to_owned() });
    call!(
        units.deactivate_units,
        api::DeactivateUnitsRequest { request_id: unique(), unit_ids: vec![unit.to_owned()] }
    );
    call!(
        units.list_units,
        api::ListUnitsRequest { license_ids: vec![license_id.clone()], ..Default::default() }
    );
    call!(
        units.activate_unit,
        api::ActivateUnitRequest {
            request_id: unique(),
            license_id: license_id.clone(),
            device_name: "intruder".to_owned(),
            secret_sha256: esa_sidecar::sha256::hex(b"secret"),
            ..Default::default()
        }
    );
    call!(licenses.get_license, api::GetLicenseRequest { license_id: license_id.clone() });
    call!(
        licenses.update_license,
        api::UpdateLicenseRequest {
            request_id: unique(),
            license_id: license_id.clone(),
            license: Some(a_license()),
            update_mask: Some(prost_types::FieldMask { paths: vec!["seats".to_owned()] }),
        }
    );
    call!(
        licenses.suspend_license,
        api::SuspendLicenseRequest { request_id: unique(), license_id: license_id.clone(), state: 0 }
    );
    call!(
        licenses.resume_license,
        api::ResumeLicenseRequest { request_id: unique(), license_id: license_id.clone() }
    );
    call!(
        licenses.renew_license,
        api::RenewLicenseRequest {
            request_id: unique(),
            license_id: license_id.clone(),
            expires_at: timestamp(START + esa_sidecar::domain::Span::days(999)),
        }
    );
    call!(
        licenses.rotate_license_key,
        api::RotateLicenseKeyRequest { request_id: unique(), license_id: license_id.clone() }
    );
    call!(
        licenses.accept_license,
        api::AcceptLicenseRequest { request_id: unique(), license_id: license_id.clone() }
    );
    for account in [account, "anybody"] {
        let (license_id, account) = (license_id.clone(), account.to_owned());
        call!(
            licenses.delegate_license,
            api::DelegateLicenseRequest {
                request_id: unique(),
                license_id: license_id.clone(),
                account: account.clone(),
            }
        );
        call!(
            licenses.revoke_license,
            api::RevokeLicenseRequest { request_id: unique(), license_id, account }
        );
    }
    call!(
        accounts.set_account_disabled,
        api::SetAccountDisabledRequest { request_id: unique(), name: name.clone(), disabled: true }
    );
    call!(accounts.reset_password, api::ResetPasswordRequest { request_id: unique(), name });
    call!(
        accounts.revoke_api_credential,
        api::RevokeApiCredentialRequest { request_id: unique(), credential_id: credential.to_owned() }
    );
    for target in [license, unit] {
        let target_of = target.to_owned();
        let request =
            api::ListAuditEntriesRequest { target: target_of, page_size: 1_000, ..Default::default() };
        // Only what this very caller tried stands there.
        let entries =
            office.audit(token).list_audit_entries(request).await.map(|answer| answer.into_inner().entries);
        let tried = entries.map_or_else(
            |refused| vec![format!("{:?}", refused.code())],
            |entries| {
                let tried = |entry: &api::AuditEntry| {
                    assert_eq!(entry.outcome(), api::AuditOutcome::Refused, "{entry:?}");
                    format!("NotFound: {} {}", entry.action, entry.detail.replace(target, "<ID>"))
                };
                entries.iter().map(tried).collect()
            },
        );
        answers.extend(std::collections::BTreeSet::from_iter(tried));
    }
    answers
}

/// How much the tables hold of a customer's things, whatever else is there.
async fn kept_of(office: &Office, side: &Side) -> Vec<i64> {
    let Side { license, second, names, .. } = side;
    let accounts = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let licenses = format!("'{license}', '{second}'");
    let sql = format!(
        "SELECT (SELECT SUM(seats + expires_at + state + active_units) FROM licenses WHERE license_id IN ({licenses})),
            (SELECT SUM(state * 1000 + 1) FROM units WHERE license_id IN ({licenses})),
            (SELECT SUM(accepted * 100 + 1) FROM delegations WHERE license_id IN ({licenses})),
            (SELECT SUM(disabled * 100 + must_change_password * 10 + 1) FROM accounts WHERE name IN ({accounts})),
            (SELECT COUNT(*) FROM api_credentials WHERE revoked_at IS NULL),
            (SELECT MAX(sequence) FROM subscriptions WHERE subscription_id = '{license}')"
    );
    // Sums are wider than what is summed on PostgreSQL.
    office
        .numbers(
            &sql.replace("(SELECT SUM(", "(SELECT CAST(SUM(")
                .replace(") FROM", ") AS BIGINT) FROM")
                .replace("COUNT(*) AS BIGINT)", "COUNT(*)")
                .replace("MAX(sequence) AS BIGINT)", "MAX(sequence)"),
        )
        .await
}

async fn an_id_of_the_other_side_is_answered_as_one_that_does_not_exist(office: Office) {
    let (one, two) = (side(&office, "acme").await, side(&office, "globex").await);
    // The same length as IDs that exist, so that nothing tells them apart.
    let nothing = (
        "ZZZ-ZZZ-ZZZ",
        "01900000-0000-7000-8000-000000000000",
        "no.such.name",
        "01900000000070008000000000000000",
    );
    let before = kept_of(&office, &two).await;
    let callers: Vec<&String> = [&one.owner].into_iter().chain(&one.admins).collect();
    for (number, token) in callers.into_iter().enumerate() {
        for (license, account) in [(&two.license, &two.names[0]), (&two.second, &two.names[1])] {
            let theirs = calls(&office, token, license, &two.unit.id, account, &two.credential).await;
            let none = calls(&office, token, nothing.0, nothing.1, nothing.2, nothing.3).await;
            for (theirs, none) in theirs.iter().zip(&none) {
                assert_eq!(theirs, none, "caller {number}");
                assert!(!theirs.contains("globex"), "{theirs}");
            }
            let refused = |answer: &String| {
                ["NotFound", "PermissionDenied", "refusal: NotFound", "units: []", "entries: []"]
                    .iter()
                    .any(|word| answer.contains(word))
            };
            assert!(theirs.iter().all(refused), "{theirs:?}");
        }
    }
    assert_eq!(kept_of(&office, &two).await, before, "nothing of the other side has changed");

    // A unit's credential opens that unit alone, and no account's call.
    for token in [&one.unit.token, &one.unit.token.replace(&one.unit.id, &two.unit.id)] {
        let request = api::SyncRequest {
            unit: Some(api::SyncingUnit { unit_id: two.unit.id.clone(), ..Default::default() }),
            usage: users("", 999, office.now()),
            nonce: vec![1; 16],
            subscription_id: String::new(),
            ..Default::default()
        };
        let refused = office.sync(token).sync(request).await.unwrap_err();
        assert!(matches!(refused.code(), Code::InvalidArgument | Code::Unauthenticated), "{refused:?}");
        let refused = office.units(token).list_units(api::ListUnitsRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    assert_eq!(kept_of(&office, &two).await, before);

    // And all of it is possible to whom it belongs.
    assert_eq!(office.deactivate(&two.owner, &[&two.unit.id]).await[0].refusal, 0);
    assert_ne!(kept_of(&office, &two).await, before, "this would see a change");
}

async fn no_list_tells_of_the_other_side(office: Office) {
    let (one, two) = (side(&office, "acme").await, side(&office, "globex").await);
    for token in [&one.owner].into_iter().chain(&one.admins) {
        let licenses =
            office.licenses(token).list_licenses(api::ListLicensesRequest::default()).await.unwrap();
        let units = office.all_units(token).await;
        let text = format!("{licenses:?} {units:?}");
        for word in ["globex", &two.license, &two.second, &two.unit.id] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
    for token in [&one.owner, &one.admins[2]] {
        let accounts =
            office.accounts(token).list_accounts(api::ListAccountsRequest::default()).await.unwrap();
        let credentials = api::ListApiCredentialsRequest::default();
        let credentials = office.accounts(token).list_api_credentials(credentials).await.unwrap();
        let entries = office.entries(token).await;
        let text = format!("{accounts:?} {credentials:?} {entries:?}");
        assert!(text.contains("acme") && text.contains(&one.license), "{text}");
        for word in ["globex", &two.license, &two.unit.id, &two.credential, &two.key] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
    let sorts = (0..=12).map(|sort| api::ListUnitsRequest { sort, page_size: 1_000, ..Default::default() });
    for request in sorts {
        let units = office.units(&one.admins[0]).list_units(request).await.unwrap().into_inner().units;
        assert_eq!(units.len(), 2);
        assert!(units.iter().all(|unit| unit.license_id == one.license));
    }
}

async fn a_hostile_text_is_a_text_in_every_field(office: Office) {
    let (license, key) = office.license(a_license()).await;
    let unit = office.activate("", &key, "known").await.unwrap();
    let owner = &office.owner.clone();
    let rows = async || {
        let mut rows = Vec::new();
        for table in TABLES
            .iter()
            .filter(|table| !["audit", "requests", "units", "sms_sent", "unit_syncs"].contains(table))
        {
            rows.push(office.numbers(&format!("SELECT COUNT(*) FROM {table}")).await[0]);
        }
        rows
    };
    let before = rows().await;
    let long = "x".repeat(100_000);
    let wide = "🦀".repeat(250);
    let texts = [
        "' OR '1'='1",
        "'; DROP TABLE units; --",
        "\"",
        "%",
        "\\",
        "$1",
        "--",
        "\0",
        "a\0b",
        "\u{202e}\n",
        "e\u{301}",
        &wide,
        &long,
    ];
    for text in texts {
        let check = |call: &str, done: Result<(), Status>| {
            let code = done.err().map(|refused| refused.code());
            let expected = [
                None,
                Some(Code::InvalidArgument),
                Some(Code::NotFound),
                Some(Code::Unauthenticated),
                Some(Code::FailedPrecondition),
            ];
            let shown: String = text.chars().take(30).collect();
            assert!(expected.contains(&code), "{call} with `{shown:?}`: {code:?}");
        };
        macro_rules! call {
            ($service:ident($token:expr).$call:ident, $request:expr) => {
                check(stringify!($call), office.$service($token).$call($request).await.map(drop));
            };
        }
        let t = || text.to_owned();
        let id = || license.clone();
        call!(accounts("").sign_in, api::SignInRequest { name: t(), password: t() });
        call!(
            accounts(owner).create_account,
            api::CreateAccountRequest { request_id: unique(), name: t(), role: 1, customer: String::new() }
        );
        call!(
            accounts(owner).set_account_disabled,
            api::SetAccountDisabledRequest { request_id: unique(), name: t(), disabled: true }
        );
        call!(accounts(owner).reset_password, api::ResetPasswordRequest { request_id: unique(), name: t() });
        call!(
            accounts(owner).revoke_api_credential,
            api::RevokeApiCredentialRequest { request_id: unique(), credential_id: t() }
        );
        call!(
            accounts(owner).list_accounts,
            api::ListAccountsRequest { page_token: t(), ..Default::default() }
        );
        call!(
            accounts(owner).list_api_credentials,
            api::ListApiCredentialsRequest { page_token: t(), ..Default::default() }
        );
        call!(
            audit(owner).list_audit_entries,
            api::ListAuditEntriesRequest { actor: t(), ..Default::default() }
        );
        call!(
            audit(owner).list_audit_entries,
            api::ListAuditEntriesRequest { action: t(), ..Default::default() }
        );
        call!(
            audit(owner).list_audit_entries,
            api::ListAuditEntriesRequest { target: t(), ..Default::default() }
        );
        call!(
            audit(owner).list_audit_entries,
            api::ListAuditEntriesRequest { page_token: t(), ..Default::default() }
        );
        call!(licenses(owner).get_license, api::GetLicenseRequest { license_id: t() });
        call!(
            licenses(owner).list_licenses,
            api::ListLicensesRequest { page_token: t(), ..Default::default() }
        );
        for new in [
            api::NewLicense { customer: t(), ..a_license() },
            api::NewLicense { license_id: t(), ..a_license() },
        ] {
            call!(
                licenses(owner).create_license,
                api::CreateLicenseRequest { request_id: unique(), license: Some(new) }
            );
        }
        for (path, license) in [
            ("name", api::NewLicense { name: t(), ..a_license() }),
            ("type", api::NewLicense { r#type: t(), ..a_license() }),
            ("attributes", api::NewLicense { attributes: [(t(), t())].into(), ..a_license() }),
            ("attributes", api::NewLicense { attributes: [("name".to_owned(), t())].into(), ..a_license() }),
            (text, a_license()),
        ] {
            let mask = prost_types::FieldMask { paths: vec![path.to_owned()] };
            call!(
                licenses(owner).update_license,
                api::UpdateLicenseRequest {
                    request_id: unique(),
                    license_id: id(),
                    license: Some(license),
                    update_mask: Some(mask),
                }
            );
        }
        call!(
            licenses(owner).update_license,
            api::UpdateLicenseRequest {
                request_id: unique(),
                license_id: t(),
                license: Some(a_license()),
                update_mask: Some(prost_types::FieldMask { paths: vec!["name".to_owned()] }),
            }
        );
        call!(
            licenses(owner).suspend_license,
            api::SuspendLicenseRequest { request_id: unique(), license_id: t(), state: 0 }
        );
        call!(
            licenses(owner).resume_license,
            api::ResumeLicenseRequest { request_id: t(), license_id: id() }
        );
        call!(
            licenses(owner).resume_license,
            api::ResumeLicenseRequest { request_id: unique(), license_id: t() }
        );
        call!(
            licenses(owner).rotate_license_key,
            api::RotateLicenseKeyRequest { request_id: unique(), license_id: t() }
        );
        call!(
            licenses(owner).accept_license,
            api::AcceptLicenseRequest { request_id: unique(), license_id: t() }
        );
        call!(
            licenses(owner).delegate_license,
            api::DelegateLicenseRequest { request_id: unique(), license_id: id(), account: t() }
        );
        call!(
            licenses(owner).delegate_license,
            api::DelegateLicenseRequest { request_id: unique(), license_id: t(), account: t() }
        );
        call!(
            licenses(owner).revoke_license,
            api::RevokeLicenseRequest { request_id: unique(), license_id: id(), account: t() }
        );
        call!(units(owner).get_unit, api::GetUnitRequest { unit_id: t() });
        call!(units(owner).list_units, api::ListUnitsRequest { page_token: t(), ..Default::default() });
        call!(
            units(owner).list_units,
            api::ListUnitsRequest { license_ids: vec![t()], ..Default::default() }
        );
        call!(
            units(owner).deactivate_units,
            api::DeactivateUnitsRequest { request_id: unique(), unit_ids: vec![t(), "x".to_owned()] }
        );
        let new = || api::ActivateUnitRequest {
            request_id: unique(),
            license_key: key.clone(),
            device_name: "device".to_owned(),
            secret_sha256: esa_sidecar::sha256::hex(b"secret"),
            ..Default::default()
        };
        for request in [
            api::ActivateUnitRequest { license_key: t(), ..new() },
            api::ActivateUnitRequest { license_key: String::new(), license_id: t(), ..new() },
            api::ActivateUnitRequest { request_id: t(), device_name: t(), ..new() },
            api::ActivateUnitRequest { product: t(), ..new() },
            api::ActivateUnitRequest { product_version: t(), ..new() },
            api::ActivateUnitRequest { installation: t(), ..new() },
            api::ActivateUnitRequest { secret_sha256: t(), ..new() },
        ] {
            call!(units(owner).activate_unit, request);
        }
        let syncing = |unit_id: &str, product_version: &str| {
            let (unit_id, product_version) = (unit_id.to_owned(), product_version.to_owned());
            Some(api::SyncingUnit { unit_id, product_version, ..Default::default() })
        };
        let sms = api::Usage { sms_sent: vec![api::SmsSent { id: t(), credits: 1 }], ..Default::default() };
        for (unit, usage) in [
            (syncing(text, ""), None),
            (syncing(&unit.id, text), None),
            (syncing(&unit.id, ""), users(text, 1, office.now())),
            (syncing(&unit.id, ""), Some(sms)),
        ] {
            let nonce = vec![1; 16];
            let token = office.activate("", &key, "syncs").await.unwrap();
            let unit = unit.map(|unit: api::SyncingUnit| match unit.unit_id.as_str() {
                known if known == text => unit,
                _ => api::SyncingUnit { unit_id: token.id.clone(), ..unit },
            });
            call!(
                sync(&token.token).sync,
                api::SyncRequest { unit, usage, nonce, subscription_id: t(), ..Default::default() }
            );
            office.deactivate(owner, &[&token.id]).await;
        }
        call!(
            sync("").sync,
            api::SyncRequest { nonce: vec![1; 16], subscription_id: t(), ..Default::default() }
        );
        call!(sync(&unit.token).watch, api::WatchRequest { unit_id: t(), nonce: vec![1; 16] });
    }
    let after = rows().await;
    // Installations come and go with the units that reported; everything else is as it was.
    let mut expected = before;
    // `--` is a name.
    expected[1] += 1;
    assert_eq!(after, expected);
    assert_eq!(office.seen(owner, &license).await.unwrap().license_id, license);
    let told = office.synced(&unit, None).await.facts;
    assert_eq!(told.users.licensed.0, 100);
    let kept = office.all_units(owner).await.iter().any(|unit| unit.device_name == "'; DROP TABLE units; --");
    assert!(kept, "kept as it was written");
}

/// SQL is put together from what the code says, never from what a caller says: what a `format!` puts into a statement
/// is one of the names below, each a constant, a list of placeholders, or a piece made of them.
#[test]
fn nothing_but_known_pieces_is_written_into_sql() {
    let known = [
        "COLUMNS",
        "SELECT",
        "sees",
        "uses",
        "LONGEST_DETAIL",
        "accounts::SELECT",
        "licenses::SELECT",
        "sql",
        "self.for_update",
        "names",
        "wanted",
        "sign",
        "way",
        "found_by",
        "filtered",
        "before",
        "most",
        "kinds.join(",
        "ended",
        "made.column()",
        "name",
        "CHUNK",
        "id",
        "order",
        "limit",
        "column",
        "narrowed",
        "inner",
        "license",
        "parts",
        "ids",
        "units",
        "statement::connected(",
        "value",
        "unit_id",
        "condition",
        "placeholders(",
        "list(",
        "statement.bind(",
        "listing.sort.ordered(",
        "ranges.join(",
        "range.join(",
    ];
    let words =
        ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", " WHERE ", " AND ", "ORDER BY", "last_connected_at"];
    let mut looked_at = 0;
    let mut folders = vec![std::path::PathBuf::from("src/licensing")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for piece in text.split("format!(").skip(1) {
                // To the closing parenthesis of the macro.
                let mut depth = 1;
                let end = piece.char_indices().find(|(_, character)| {
                    depth += i32::from(*character == '(') - i32::from(*character == ')');
                    depth == 0
                });
                let call = &piece[..end.unwrap().0];
                let (literal, arguments) = literal(call);
                if !words.iter().any(|word| literal.contains(word)) || literal.contains('`') {
                    continue;
                }
                looked_at += 1;
                let inline = literal.split('{').skip(1).map(|rest| rest.split('}').next().unwrap());
                for inserted in inline.filter(|name| !name.is_empty()).chain(arguments) {
                    let is_known = known.iter().any(|known| {
                        if known.ends_with('(') { inserted.starts_with(known) } else { inserted == *known }
                    });
                    assert!(is_known, "{}: `{inserted}` is written into SQL: {literal}", path.display());
                }
            }
        }
    }
    assert!(15 <= looked_at, "only {looked_at} statements were found: has the reading broken?");
}

/// The text of a `format!`, and its further arguments.
fn literal(call: &str) -> (&str, Vec<&str>) {
    let Some(rest) = call.trim_start().strip_prefix('"') else { return ("", Vec::new()) };
    let (literal, rest) = rest.split_once('"').unwrap();
    let mut arguments = Vec::new();
    let (mut depth, mut from) = (0, 0);
    let rest = rest.trim_start_matches(',');
    for (at, character) in rest.char_indices() {
        depth += i32::from("([".contains(character)) - i32::from(")]".contains(character));
        if character == ',' && depth == 0 {
            arguments.push(rest[from..at].trim());
            from = at + 1;
        }
    }
    arguments.push(rest[from..].trim());
    arguments.retain(|argument| !argument.is_empty());
    (literal, arguments)
}

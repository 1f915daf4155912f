//! The same request again is done once and answered the same, its secrets withheld.

use std::collections::BTreeMap;

use esa_sidecar::proto::licensing as api;
use prost::Message as _;
use tonic::Code;

use super::{
    office::{Office, a_license, reason, timestamp, unique},
    on_every_store,
};
use crate::sidecar::START;

on_every_store!(
    every_change_is_done_once_however_often_it_is_sent,
    a_request_id_belongs_to_its_caller_and_to_one_request,
    a_refused_request_may_be_sent_again_under_its_id,
    a_password_is_hashed_only_for_who_may_and_only_once,
);

/// Sends a change twice at once and once more: done once, one answer with its secret, and the same answer without it.
/// Then something else under its request ID, which is refused.
macro_rules! once {
    ($office:ident, $service:ident($token:expr).$call:ident, $action:literal, $request:expr, $other:expr, $hide:expr) => {{
        let request = $request;
        let hide: fn(&mut _) -> String = $hide;
        let done = async || {
            let entries = $office.entries(&$office.owner).await;
            entries.iter().filter(|entry| entry.action == $action && entry.outcome == 1).count()
        };
        let before = done().await;
        let (mut first, mut second) = ($office.$service($token), $office.$service($token));
        let (one, two) = tokio::join!(first.$call(request.clone()), second.$call(request.clone()));
        let (mut one, mut two) = (one.unwrap().into_inner(), two.unwrap().into_inner());
        let three = $office.$service($token).$call(request.clone()).await.unwrap().into_inner();
        let mut secrets = [hide(&mut one), hide(&mut two)];
        secrets.sort();
        assert!(secrets[0].is_empty(), "{}: a secret is told once", $action);
        assert_eq!(hide(&mut three.clone()), "", "{}: a secret is told once", $action);
        assert_eq!(one, two, "{}", $action);
        assert_eq!(one, three, "{}", $action);
        assert_eq!(done().await, before + 1, "{} is done once", $action);
        let mut other = request.clone();
        let change: fn(&mut _) = $other;
        change(&mut other);
        let refused = $office.$service($token).$call(other).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_ID_REUSED", "{}", $action);
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(done().await, before + 1, "{}", $action);
        (one, secrets[1].clone())
    }};
}

async fn every_change_is_done_once_however_often_it_is_sent(office: Office) {
    let owner = office.owner.clone();
    let attributes: BTreeMap<_, _> =
        (0..9).map(|number| (format!("attribute {number}"), "x".to_owned())).collect();
    let new = || api::NewLicense { attributes: attributes.clone(), ..a_license() };
    let (made, key) = once!(
        office,
        licenses(&owner).create_license,
        "license.create",
        // Each time it is written anew, as by a client that starts again.
        api::CreateLicenseRequest { request_id: unique(), license: Some(new()) },
        |other: &mut api::CreateLicenseRequest| other.license.as_mut().unwrap().seats += 1,
        |made: &mut api::CreateLicenseResponse| std::mem::take(&mut made.license_key)
    );
    let id = made.license.unwrap().license_id;
    assert_eq!(key.len(), 29);
    assert_eq!(office.numbers("SELECT COUNT(*) FROM licenses").await, [1]);
    once!(
        office,
        licenses(&owner).update_license,
        "license.update",
        api::UpdateLicenseRequest {
            request_id: unique(),
            license_id: id.clone(),
            license: Some(new()),
            update_mask: Some(prost_types::FieldMask { paths: vec!["attributes".to_owned()] }),
        },
        |other: &mut api::UpdateLicenseRequest| other.license_id.clear(),
        |_: &mut api::UpdateLicenseResponse| String::new()
    );
    once!(
        office,
        licenses(&owner).suspend_license,
        "license.suspend",
        api::SuspendLicenseRequest { request_id: unique(), license_id: id.clone(), state: 0 },
        |other: &mut api::SuspendLicenseRequest| other.state = api::LicenseState::Canceled.into(),
        |_: &mut api::SuspendLicenseResponse| String::new()
    );
    once!(
        office,
        licenses(&owner).resume_license,
        "license.resume",
        api::ResumeLicenseRequest { request_id: unique(), license_id: id.clone() },
        |other: &mut api::ResumeLicenseRequest| other.license_id.push('x'),
        |_: &mut api::ResumeLicenseResponse| String::new()
    );
    once!(
        office,
        licenses(&owner).renew_license,
        "license.renew",
        api::RenewLicenseRequest {
            request_id: unique(),
            license_id: id.clone(),
            expires_at: timestamp(START + esa_sidecar::domain::Span::days(400)),
        },
        |other: &mut api::RenewLicenseRequest| other.expires_at.as_mut().unwrap().nanos += 1,
        |_: &mut api::RenewLicenseResponse| String::new()
    );
    let (_, key) = once!(
        office,
        licenses(&owner).rotate_license_key,
        "license.rotate_key",
        api::RotateLicenseKeyRequest { request_id: unique(), license_id: id.clone() },
        |other: &mut api::RotateLicenseKeyRequest| other.license_id.clear(),
        |made: &mut api::RotateLicenseKeyResponse| std::mem::take(&mut made.license_key)
    );
    office.activate("", &key, "with the one key that was told").await.unwrap();
    let (_, keys) = once!(
        office,
        licenses(&owner).import_licenses,
        "license.create",
        api::ImportLicensesRequest { request_id: unique(), licenses: vec![new()] },
        |other: &mut api::ImportLicensesRequest| other.licenses[0].seats += 1,
        |made: &mut api::ImportLicensesResponse| {
            made.licenses.iter_mut().map(|made| std::mem::take(&mut made.license_key)).collect()
        }
    );
    office.activate("", &keys, "imported").await.unwrap();

    let (_, password) = once!(
        office,
        accounts(&owner).create_account,
        "account.create",
        api::CreateAccountRequest {
            request_id: unique(),
            name: "anna".to_owned(),
            role: api::AccountRole::SecurityAdmin.into(),
            customer: String::new(),
        },
        |other: &mut api::CreateAccountRequest| other.name.push('x'),
        |made: &mut api::CreateAccountResponse| std::mem::take(&mut made.one_time_password)
    );
    let anna = office.first_sign_in("anna", &password).await;
    once!(
        office,
        licenses(&owner).delegate_license,
        "license.delegate",
        api::DelegateLicenseRequest {
            request_id: unique(),
            license_id: id.clone(),
            account: "anna".to_owned()
        },
        |other: &mut api::DelegateLicenseRequest| other.account.push('x'),
        |_: &mut api::DelegateLicenseResponse| String::new()
    );
    once!(
        office,
        licenses(&anna).accept_license,
        "license.accept",
        api::AcceptLicenseRequest { request_id: unique(), license_id: id.clone() },
        |other: &mut api::AcceptLicenseRequest| other.license_id.clear(),
        |_: &mut api::AcceptLicenseResponse| String::new()
    );
    let activate = |license_key: &str| api::ActivateUnitRequest {
        request_id: unique(),
        license_key: license_key.to_owned(),
        license_id: if license_key.is_empty() { id.clone() } else { String::new() },
        device_name: "device".to_owned(),
        secret_sha256: esa_sidecar::sha256::hex(b"secret"),
        ..Default::default()
    };
    let (unit, _) = once!(
        office,
        units(&anna).activate_unit,
        "unit.activate",
        activate(""),
        |other: &mut api::ActivateUnitRequest| other.device_name.push('x'),
        |_: &mut api::ActivateUnitResponse| String::new()
    );
    once!(
        office,
        units("").activate_unit,
        "unit.activate",
        activate(&key),
        |other: &mut api::ActivateUnitRequest| other.device_name.push('x'),
        |_: &mut api::ActivateUnitResponse| String::new()
    );
    assert_eq!(office.seen(&owner, &id).await.unwrap().active_units, 3);
    let (told, _) = once!(
        office,
        units(&anna).deactivate_units,
        "unit.deactivate",
        api::DeactivateUnitsRequest { request_id: unique(), unit_ids: vec![unit.unit.unwrap().unit_id] },
        |other: &mut api::DeactivateUnitsRequest| other.unit_ids.push(String::new()),
        |_: &mut api::DeactivateUnitsResponse| String::new()
    );
    assert_eq!(told.results[0].state(), api::UnitState::DeactivationPending);
    assert_eq!(office.seen(&owner, &id).await.unwrap().active_units, 2);
    once!(
        office,
        licenses(&owner).revoke_license,
        "license.revoke",
        api::RevokeLicenseRequest {
            request_id: unique(),
            license_id: id.clone(),
            account: "anna".to_owned()
        },
        |other: &mut api::RevokeLicenseRequest| other.account.push('x'),
        |_: &mut api::RevokeLicenseResponse| String::new()
    );

    let (made, token) = once!(
        office,
        accounts(&anna).create_api_credential,
        "credential.create",
        api::CreateApiCredentialRequest {
            request_id: unique(),
            name: "script".to_owned(),
            ..Default::default()
        },
        |other: &mut api::CreateApiCredentialRequest| other.name.push('x'),
        |made: &mut api::CreateApiCredentialResponse| std::mem::take(&mut made.token)
    );
    office.accounts(&token).get_caller(api::GetCallerRequest {}).await.unwrap();
    once!(
        office,
        accounts(&anna).revoke_api_credential,
        "credential.revoke",
        api::RevokeApiCredentialRequest {
            request_id: unique(),
            credential_id: made.credential.unwrap().credential_id,
        },
        |other: &mut api::RevokeApiCredentialRequest| other.credential_id.push('x'),
        |_: &mut api::RevokeApiCredentialResponse| String::new()
    );
    once!(
        office,
        accounts(&owner).set_account_disabled,
        "account.disable",
        api::SetAccountDisabledRequest { request_id: unique(), name: "anna".to_owned(), disabled: true },
        |other: &mut api::SetAccountDisabledRequest| other.name.push('x'),
        |_: &mut api::SetAccountDisabledResponse| String::new()
    );
    let (_, password) = once!(
        office,
        accounts(&owner).reset_password,
        "account.reset_password",
        api::ResetPasswordRequest { request_id: unique(), name: "anna".to_owned() },
        |other: &mut api::ResetPasswordRequest| other.name.push('x'),
        |made: &mut api::ResetPasswordResponse| std::mem::take(&mut made.one_time_password)
    );
    let enable =
        api::SetAccountDisabledRequest { request_id: unique(), name: "anna".to_owned(), disabled: false };
    office.accounts(&owner).set_account_disabled(enable).await.unwrap();
    office.sign_in("anna", &password).await.unwrap();
}

async fn a_request_id_belongs_to_its_caller_and_to_one_request(office: Office) {
    let (license, key) = office.license(a_license()).await;
    let anna = office.admin("anna").await;
    office.delegate(&license, "anna", &anna).await;
    let request_id = unique();
    let by_account = api::ActivateUnitRequest {
        request_id: request_id.clone(),
        license_id: license.clone(),
        device_name: "device".to_owned(),
        secret_sha256: esa_sidecar::sha256::hex(b"secret"),
        ..Default::default()
    };
    let by_key =
        api::ActivateUnitRequest { license_id: String::new(), license_key: key, ..by_account.clone() };
    let mut ids = Vec::new();
    for (token, request) in [(office.owner.as_str(), &by_account), (&anna, &by_account), ("", &by_key)] {
        let unit =
            office.units(token).activate_unit(request.clone()).await.unwrap().into_inner().unit.unwrap();
        ids.push(unit.unit_id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "each caller's own");
    let suspend =
        api::SuspendLicenseRequest { request_id: request_id.clone(), license_id: license.clone(), state: 0 };
    let resume = api::ResumeLicenseRequest { request_id, license_id: license.clone() };
    assert_eq!(suspend.encode_to_vec(), resume.encode_to_vec(), "they are written alike");
    let refused = office.licenses(&office.owner).resume_license(resume).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
    for (request_id, known) in
        [("", false), ("x", true), ("ü".repeat(64).as_str(), true), (&"x".repeat(65), false), ("a\0b", false)]
    {
        let resume =
            api::ResumeLicenseRequest { request_id: request_id.to_owned(), license_id: license.clone() };
        let done = office.licenses(&office.owner).resume_license(resume).await;
        let code = done.err().map(|refused| refused.code());
        assert_eq!(code, (!known).then_some(Code::InvalidArgument), "`{request_id}`");
    }
}

async fn a_refused_request_may_be_sent_again_under_its_id(office: Office) {
    let (license, _) = office.license(api::NewLicense { seats: 0, ..a_license() }).await;
    let request = api::ActivateUnitRequest {
        request_id: unique(),
        license_id: license.clone(),
        device_name: "device".to_owned(),
        secret_sha256: esa_sidecar::sha256::hex(b"secret"),
        ..Default::default()
    };
    let refused = office.units(&office.owner).activate_unit(request.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "LICENSE_FULL");
    office.update(&license, a_license(), &["seats"]).await.unwrap();
    office.units(&office.owner).activate_unit(request).await.unwrap();
}

/// On a replica that hashes nothing, what is refused or repeated is answered as ever.
async fn a_password_is_hashed_only_for_who_may_and_only_once(mut office: Office) {
    let anna = office.admin("anna").await;
    let create = api::CreateAccountRequest {
        request_id: unique(),
        name: "ben".to_owned(),
        role: api::AccountRole::SecurityAdmin.into(),
        customer: String::new(),
    };
    let reset = api::ResetPasswordRequest { request_id: unique(), name: "ben".to_owned() };
    let made = office.accounts(&office.owner).create_account(create.clone()).await.unwrap().into_inner();
    office.accounts(&office.owner).reset_password(reset.clone()).await.unwrap();
    office.replace_with(|settings| (settings.passwords_at_a_time, settings.passwords_waiting) = (0, 0)).await;
    let mut owner = office.accounts(&office.owner);
    let again = owner.create_account(create.clone()).await.unwrap().into_inner();
    assert_eq!(again, api::CreateAccountResponse { one_time_password: String::new(), ..made });
    assert_eq!(owner.reset_password(reset.clone()).await.unwrap().into_inner().one_time_password, "");
    for (token, request_id, code) in [
        (&anna, unique(), Code::PermissionDenied),
        (&office.owner, String::new(), Code::InvalidArgument),
        (&office.owner, unique(), Code::ResourceExhausted),
    ] {
        let create = api::CreateAccountRequest { request_id: request_id.clone(), ..create.clone() };
        assert_eq!(office.accounts(token).create_account(create).await.unwrap_err().code(), code);
        let reset = api::ResetPasswordRequest { request_id, ..reset.clone() };
        assert_eq!(office.accounts(token).reset_password(reset).await.unwrap_err().code(), code);
    }
    let entries = office.entries(&office.owner).await;
    let refused = entries.iter().filter(|entry| entry.actor == "anna" && entry.outcome == 2);
    let refused: Vec<_> = refused.map(|entry| entry.action.as_str()).collect();
    assert_eq!(refused, ["account.create", "account.reset_password"]);
}

//! `LicenseService`.

use sqlx::{Any, Executor};
use tonic::{Request, Response, Status};

use super::{
    once::{Attempt, Right},
    read,
};
use crate::{
    domain::{
        Instant,
        license::{License, LicenseState},
    },
    licensing::{
        Backend,
        caller::Caller,
        change::Change,
        delegation,
        issue::{self, Edit, New},
        licenses::{self, Eye, Kept},
        refusal::Refusal,
        subscriptions::Subscription,
    },
    proto::licensing::{self as api, license_service_server::LicenseService},
    rfc3339,
};

mod fields;
mod list;

/// Licences in one import.
const MOST_IMPORTED: usize = 1_000;

#[tonic::async_trait]
impl LicenseService for Backend {
    async fn list_licenses(
        &self,
        request: Request<api::ListLicensesRequest>,
    ) -> Result<Response<api::ListLicensesResponse>, Status> {
        let (caller, _turn) = self.reader(&request, api::ApiScope::Read).await?;
        Ok(Response::new(self.listed(&caller, request.into_inner()).await?))
    }

    async fn get_license(
        &self,
        request: Request<api::GetLicenseRequest>,
    ) -> Result<Response<api::GetLicenseResponse>, Status> {
        let (caller, _turn) = self.reader(&request, api::ApiScope::Read).await?;
        let id = &request.get_ref().license_id;
        let license = licenses::seen(self.store.reads(), &caller, Eye::on_licenses(&caller), id).await?;
        let subscription = Subscription::read(self.store.reads(), &license.subscription_id).await;
        let subscription = subscription.map_err(Refusal::from)?;
        let license = self.license(self.store.reads(), &caller, &license, subscription).await?;
        Ok(Response::new(api::GetLicenseResponse { license: Some(license) }))
    }

    async fn create_license(
        &self,
        request: Request<api::CreateLicenseRequest>,
    ) -> Result<Response<api::CreateLicenseResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let new = &fields::new(request.license.as_ref(), "license")?;
        let attempt = Attempt { action: "license.create", target: "", right: Right::Issue };
        self.once(caller, attempt, request, |mut change| async move {
            let name = new.customer.as_str();
            let held = issue::hold_customers(&mut change, caller, [name].into_iter()).await?;
            let customer_id = issue::of_customer(&held, name)?;
            let response = self.issued(&mut change, caller, customer_id, new).await?;
            Ok((change, response))
        })
        .await
    }

    async fn update_license(
        &self,
        request: Request<api::UpdateLicenseRequest>,
    ) -> Result<Response<api::UpdateLicenseResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let (edit, detail) = &fields::edit(request)?;
        let attempt = Attempt {
            action: "license.update",
            target: &request.license_id,
            right: Right::Edit(&request.license_id),
        };
        self.once(caller, attempt, request, |mut change| async move {
            let edit = |_: &Kept, _| Ok((edit.clone(), detail.clone()));
            self.edit(&mut change, caller, &request.license_id, "license.update", edit).await?;
            let license = self.changed(&mut change, caller, &request.license_id).await?;
            let response = api::UpdateLicenseResponse { license: Some(license) };
            Ok((change, response))
        })
        .await
    }

    async fn suspend_license(
        &self,
        request: Request<api::SuspendLicenseRequest>,
    ) -> Result<Response<api::SuspendLicenseResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let to = fields::suspended(request.state)?;
        let action = to.action();
        let attempt =
            Attempt { action, target: &request.license_id, right: Right::Edit(&request.license_id) };
        self.once(caller, attempt, request, |mut change| async move {
            let edit = |license: &Kept, at| {
                let state = to.from(license.grants.state, at)?;
                Ok((Edit { state: Some(state), ..Edit::default() }, String::new()))
            };
            self.edit(&mut change, caller, &request.license_id, action, edit).await?;
            let license = self.changed(&mut change, caller, &request.license_id).await?;
            let response = api::SuspendLicenseResponse { license: Some(license) };
            Ok((change, response))
        })
        .await
    }

    async fn resume_license(
        &self,
        request: Request<api::ResumeLicenseRequest>,
    ) -> Result<Response<api::ResumeLicenseResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let attempt = Attempt {
            action: "license.resume",
            target: &request.license_id,
            right: Right::Edit(&request.license_id),
        };
        self.once(caller, attempt, request, |mut change| async move {
            let edit = |license: &Kept, _| match license.grants.state {
                LicenseState::Active | LicenseState::Suspended { .. } | LicenseState::Canceled { .. } => {
                    Ok((Edit { state: Some(LicenseState::Active), ..Edit::default() }, String::new()))
                }
                LicenseState::Deactivated { .. } => Err(fields::for_good(&license.id)),
            };
            self.edit(&mut change, caller, &request.license_id, "license.resume", edit).await?;
            let license = self.changed(&mut change, caller, &request.license_id).await?;
            let response = api::ResumeLicenseResponse { license: Some(license) };
            Ok((change, response))
        })
        .await
    }

    async fn renew_license(
        &self,
        request: Request<api::RenewLicenseRequest>,
    ) -> Result<Response<api::RenewLicenseResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let until = read::kept_instant("expires_at", request.expires_at.as_ref())?;
        let attempt = Attempt {
            action: "license.renew",
            target: &request.license_id,
            right: Right::Edit(&request.license_id),
        };
        self.once(caller, attempt, request, |mut change| async move {
            let edit = |license: &Kept, _| renewed(license, until);
            self.edit(&mut change, caller, &request.license_id, "license.renew", edit).await?;
            let license = self.changed(&mut change, caller, &request.license_id).await?;
            let response = api::RenewLicenseResponse { license: Some(license) };
            Ok((change, response))
        })
        .await
    }

    async fn rotate_license_key(
        &self,
        request: Request<api::RotateLicenseKeyRequest>,
    ) -> Result<Response<api::RotateLicenseKeyResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let attempt = Attempt {
            action: "license.rotate_key",
            target: &request.license_id,
            right: Right::RotateKey(&request.license_id),
        };
        self.once(caller, attempt, request, |mut change| async move {
            let license_key = self.rotate_key(&mut change, caller, &request.license_id).await?;
            Ok((change, api::RotateLicenseKeyResponse { license_key }))
        })
        .await
    }

    async fn import_licenses(
        &self,
        request: Request<api::ImportLicensesRequest>,
    ) -> Result<Response<api::ImportLicensesResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let count = request.licenses.len();
        if !(1..=MOST_IMPORTED).contains(&count) {
            let what = format!("{count} given; 1 to {MOST_IMPORTED} are taken in one call");
            return Err(Refusal::unreadable("licenses", what).into());
        }
        let read = |(position, license)| fields::new(Some(license), &format!("licenses[{position}]"));
        let licenses = &request.licenses.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        let attempt = Attempt { action: "license.create", target: "", right: Right::Issue };
        self.once(caller, attempt, request, |mut change| async move {
            let response = self.imported(&mut change, caller, licenses).await?;
            Ok((change, response))
        })
        .await
    }

    async fn delegate_license(
        &self,
        request: Request<api::DelegateLicenseRequest>,
    ) -> Result<Response<api::DelegateLicenseResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let attempt = Attempt {
            action: "license.delegate",
            target: &request.license_id,
            right: Right::Delegate(&request.license_id, &request.account),
        };
        self.once(caller, attempt, request, |mut change| async move {
            let done = self.delegate(&mut change, caller, &request.license_id, &request.account).await?;
            let response = api::DelegateLicenseResponse { delegation: Some(done) };
            Ok((change, response))
        })
        .await
    }

    async fn accept_license(
        &self,
        request: Request<api::AcceptLicenseRequest>,
    ) -> Result<Response<api::AcceptLicenseResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let attempt = Attempt {
            action: "license.accept",
            target: &request.license_id,
            right: Right::Accept(&request.license_id),
        };
        self.once(caller, attempt, request, |mut change| async move {
            let done = self.accept(&mut change, caller, &request.license_id).await?;
            let response = api::AcceptLicenseResponse { delegation: Some(done) };
            Ok((change, response))
        })
        .await
    }

    async fn revoke_license(
        &self,
        request: Request<api::RevokeLicenseRequest>,
    ) -> Result<Response<api::RevokeLicenseResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let attempt = Attempt {
            action: "license.revoke",
            target: &request.license_id,
            right: Right::Delegate(&request.license_id, &request.account),
        };
        self.once(caller, attempt, request, |mut change| async move {
            self.revoke(&mut change, caller, &request.license_id, &request.account).await?;
            let response = api::RevokeLicenseResponse {};
            Ok((change, response))
        })
        .await
    }
}

impl Backend {
    async fn issued(
        &self,
        change: &mut Change,
        caller: &Caller,
        customer_id: &str,
        new: &New,
    ) -> Result<api::CreateLicenseResponse, Refusal> {
        let issued = self.issue(change, caller, customer_id, new).await?;
        let license = self.changed(change, caller, &issued.license_id).await?;
        Ok(api::CreateLicenseResponse { license: Some(license), license_key: issued.key })
    }

    /// All of them or, when one is wrong, none.
    async fn imported(
        &self,
        change: &mut Change,
        caller: &Caller,
        licenses: &[New],
    ) -> Result<api::ImportLicensesResponse, Refusal> {
        let held = issue::lock_for_all(change, caller, licenses).await?;
        let mut response = api::ImportLicensesResponse::default();
        for (position, new) in licenses.iter().enumerate() {
            let at = |refusal| fields::in_import(position, refusal);
            let customer_id = issue::of_customer(&held, &new.customer).map_err(at)?;
            response.licenses.push(self.issued(change, caller, customer_id, new).await.map_err(at)?);
        }
        Ok(response)
    }

    /// A licence as this change leaves it.
    async fn changed(&self, change: &mut Change, caller: &Caller, id: &str) -> Result<api::License, Refusal> {
        let license = licenses::seen(&mut *change.tx, caller, Eye::on_licenses(caller), id).await?;
        let subscription = Subscription::read(&mut *change.tx, &license.subscription_id).await?;
        self.license(&mut *change.tx, caller, &license, subscription).await
    }

    /// A licence as the caller is told of it.
    async fn license<'e>(
        &self,
        from: impl Executor<'e, Database = Any>,
        caller: &Caller,
        license: &Kept,
        subscription: Option<Subscription>,
    ) -> Result<api::License, Refusal> {
        let missing = || Refusal::NotFound { what: "license", id: license.id.clone() };
        let owns = caller.is_owner() && caller.customer_id == license.customer_id;
        let delegations = if owns { delegation::of_license(from, &license.id).await? } else { Vec::new() };
        Ok(license.told(&subscription.ok_or_else(missing)?, delegations, self.clock.now()))
    }
}

fn renewed(license: &Kept, until: Instant) -> Result<(Edit, String), Refusal> {
    let License { expires_at, state, .. } = license.grants;
    if until < expires_at {
        let what = format!("earlier than {}, when it expires already", rfc3339::format(expires_at));
        return Err(Refusal::unreadable("expires_at", what));
    }
    if matches!(state, LicenseState::Deactivated { .. }) {
        return Err(fields::for_good(&license.id));
    }
    let edit = Edit { expires_at: Some(until), ..Edit::default() };
    Ok((edit, format!("from {} to {}", rfc3339::format(expires_at), rfc3339::format(until))))
}

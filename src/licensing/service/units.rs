//! `UnitService`.

use tonic::{Request, Response, Status};

use super::{
    once::{Attempt, Done, Right},
    pages, read,
};
use crate::{
    licensing::{
        Backend,
        actor::Actor,
        caller::Caller,
        change::Change,
        refusal::Refusal,
        sign_in::Address,
        store::sought,
        subscriptions::Subscription,
        units::{self, Activating, By, Filter, Listing, MOST_AT_ONCE, Sort},
    },
    proto::licensing::{self as api, unit_service_server::UnitService},
    wire::{
        self,
        usage::{Installation, ProductVersion},
    },
};

/// Bytes of a unit's ID in a request.
const LONGEST_UNIT_ID: usize = 64;

/// Licences a list is narrowed down to.
const MOST_LICENSES: usize = 1_000;

#[tonic::async_trait]
impl UnitService for Backend {
    async fn list_units(
        &self,
        request: Request<api::ListUnitsRequest>,
    ) -> Result<Response<api::ListUnitsResponse>, Status> {
        let (caller, _turn) = self.reader(&request, api::ApiScope::Read).await?;
        let mut asked = request.into_inner();
        let size = pages::size(std::mem::take(&mut asked.page_size))?;
        let token = std::mem::take(&mut asked.page_token);
        let list = pages::list(&asked, &caller.account_id);
        let listing = Listing { size, after: pages::place(&token, &list)?, ..listing(&asked)? };
        let (units, place) = self.units(&caller, &listing).await?;
        Ok(Response::new(api::ListUnitsResponse { units, next_page_token: pages::token(place, &list) }))
    }

    async fn get_unit(
        &self,
        request: Request<api::GetUnitRequest>,
    ) -> Result<Response<api::GetUnitResponse>, Status> {
        let (caller, _turn) = self.reader(&request, api::ApiScope::Read).await?;
        let unit = self.unit(&caller, &request.get_ref().unit_id).await?;
        Ok(Response::new(api::GetUnitResponse { unit: Some(unit) }))
    }

    async fn activate_unit(
        &self,
        request: Request<api::ActivateUnitRequest>,
    ) -> Result<Response<api::ActivateUnitResponse>, Status> {
        let by_key = !request.get_ref().license_key.is_empty();
        let address = Address::of(&request);
        let caller = if by_key { None } else { Some(self.caller(&request).await?) };
        let request = request.into_inner();
        let activating = &activating(&request, caller.clone())?;
        let (by, caller) = (&activating.by, caller.as_ref());
        let work = |mut change| async move {
            let response = self.activated(&mut change, activating, caller).await?;
            Ok((change, response))
        };
        if let Some(caller) = caller {
            let (target, right) = (&request.license_id, Right::Activate(by));
            return self
                .once(caller, Attempt { action: "unit.activate", target, right }, &request, work)
                .await;
        }
        let done = self.once_by_key(by, &address, &request, work).await;
        Ok(Response::new(self.by_key_ended(&request, done).await?))
    }

    async fn deactivate_units(
        &self,
        request: Request<api::DeactivateUnitsRequest>,
    ) -> Result<Response<api::DeactivateUnitsResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let mut request = request.into_inner();
        // Answered as it is kept, however it is written.
        request.unit_ids.iter_mut().for_each(|id| *id = sought(id));
        let request = &request;
        let count = request.unit_ids.len();
        if !(1..=MOST_AT_ONCE).contains(&count) {
            let what = format!("{count} given; 1 to {MOST_AT_ONCE} are taken in one call");
            return Err(Refusal::unreadable("unit_ids", what).into());
        }
        // Each is told again in the answer, which is kept.
        if let Some(position) = request.unit_ids.iter().position(|id| LONGEST_UNIT_ID < id.len()) {
            let what = format!("longer than {LONGEST_UNIT_ID} bytes, which no unit's ID is");
            return Err(Refusal::unreadable(format!("unit_ids[{position}]"), what).into());
        }
        let attempt = Attempt { action: "unit.deactivate", target: "", right: Right::Deactivate };
        let found = &self.to_deactivate(caller, &request.unit_ids).await?;
        let done = self.once_or_again(caller, attempt, request, |mut change| async move {
            let results = self.deactivate(&mut change, caller, &request.unit_ids, found).await?;
            let response = api::DeactivateUnitsResponse { results };
            Ok((change, response))
        });
        let Done { mut answer, repeated, .. } = done.await?;
        if repeated {
            let results = units::named_again(&request.unit_ids, answer.results);
            answer.results = self.still_seen(caller, results).await?;
        }
        Ok(Response::new(answer))
    }

    async fn revoke_unit_secret(
        &self,
        request: Request<api::RevokeUnitSecretRequest>,
    ) -> Result<Response<api::RevokeUnitSecretResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let (target, right) = (&request.unit_id, Right::Deactivate);
        let attempt = Attempt { action: "unit.revoke_secret", target, right };
        let revoked = self.once(caller, attempt, request, |mut change| async move {
            self.revoke_secret(&mut change, caller, &request.unit_id).await?;
            Ok((change, api::RevokeUnitSecretResponse::default()))
        });
        revoked.await?;
        let _turn = self.turn_of(caller).await?;
        let unit = Some(self.unit(caller, &request.unit_id).await?);
        Ok(Response::new(api::RevokeUnitSecretResponse { unit }))
    }
}

impl Backend {
    async fn activated(
        &self,
        change: &mut Change,
        activating: &Activating,
        caller: Option<&Caller>,
    ) -> Result<api::ActivateUnitResponse, Refusal> {
        let (unit, license) = self.activate(change, activating).await?;
        let subscription = Subscription::read(&mut *change.tx, &unit.subscription_id).await?;
        let status = subscription.map(|subscription| license.status(&subscription.facts, change.at));
        let status = status.unwrap_or(crate::domain::license::LicenseStatus::Attention);
        let nobody = Caller::nobody();
        let unit = unit.told(caller.unwrap_or(&nobody), status, change.at);
        Ok(api::ActivateUnitResponse { unit: Some(unit) })
    }

    /// A refused attempt with a licence key is written down with the customer whose key it is, and if it is nobody's with
    /// the backend's own. The key is not: it may be another one, with a slip of the pen.
    async fn by_key_ended(
        &self,
        request: &api::ActivateUnitRequest,
        done: Result<api::ActivateUnitResponse, Refusal>,
    ) -> Result<api::ActivateUnitResponse, Refusal> {
        let Err(refusal) = &done else { return done };
        let what = format!("{}: {refusal}", request.device_name);
        let license_id = if let Refusal::NotActivated { license_id, refusal: _ }
        | Refusal::UsedUp { license_id, what: _ } = refusal
        {
            Some(license_id.clone())
        } else if matches!(refusal, Refusal::TooFast(..)) {
            self.license_with(&request.license_key).await?
        } else {
            None
        };
        if let Some(license_id) = license_id
            && let Some(customer_id) = self.customer_of(self.store.reads(), &license_id).await?
        {
            let key = Actor::license_key(&license_id);
            self.attempted(key.failed(&customer_id, "unit.activate", &license_id, &*what)).await;
        }
        if let Refusal::Unauthenticated(_) = refusal {
            self.attempted_by_nobody("unit.activate", "", &what).await;
        }
        done
    }
}

fn listing(asked: &api::ListUnitsRequest) -> Result<Listing, Refusal> {
    let api::ListUnitsRequest {
        page_size: _,
        page_token: _,
        sort,
        descending,
        statuses,
        connections,
        states,
        license_ids,
        own,
    } = asked;
    if MOST_LICENSES < license_ids.len() {
        let what = format!("{} given; at most {MOST_LICENSES} are taken in one call", license_ids.len());
        return Err(Refusal::unreadable("license_ids", what));
    }
    let filter = Filter {
        statuses: read::statuses(statuses)?,
        connections: read::connections(connections)?,
        states: read::states(states)?,
        license_ids: license_ids.iter().map(|id| id.to_ascii_uppercase()).collect(),
        own: *own,
    };
    let sort = sort_by(*sort)?;
    Ok(Listing { filter, sort, descending: *descending, size: 0, after: None })
}

fn sort_by(sort: i32) -> Result<Sort, Refusal> {
    use api::UnitSort;
    Ok(match UnitSort::try_from(sort).map_err(|_| wire::unknown("sort", sort))? {
        UnitSort::Unspecified | UnitSort::DeviceName => Sort::Text("device_name"),
        UnitSort::Product => Sort::Text("product"),
        UnitSort::ProductVersion => Sort::Text("product_version"),
        UnitSort::ActivatedAt => Sort::Number("activated_at"),
        UnitSort::LastConnectedAt => Sort::LAST_CONNECTED,
        UnitSort::Subunits => Sort::Number("subunits"),
        UnitSort::ActivatedBy => Sort::Text("activated_by_name"),
        UnitSort::FromRemoteManagement => Sort::Number("from_remote"),
        UnitSort::State => Sort::Number("state"),
        UnitSort::LicenseId => Sort::License,
        UnitSort::Status => Sort::Status,
        UnitSort::Installation => Sort::Text("installation"),
    })
}

fn activating(asked: &api::ActivateUnitRequest, caller: Option<Caller>) -> Result<Activating, Refusal> {
    let api::ActivateUnitRequest {
        request_id: _,
        license_key,
        license_id,
        device_name,
        product,
        product_version,
        subunits,
        from_remote_management,
        secret_sha256,
        installation,
    } = asked;
    let by = match caller {
        Some(_) if license_id.is_empty() => {
            let what = "missing: name the license, or give a license key";
            return Err(Refusal::unreadable("license_id", what));
        }
        Some(caller) => By::Account(Box::new(caller), license_id.clone()),
        None => By::LicenseKey(license_key.clone()),
    };
    if !read::is_sha256(secret_sha256) {
        return Err(Refusal::unreadable("secret_sha256", read::SHA256));
    }
    Ok(Activating {
        by,
        device_name: read::text("device_name", device_name, 1, 255)?,
        product: read::text("product", product, 0, 255)?,
        product_version: ProductVersion::new(product_version)
            .map_err(|invalid| invalid.at("product_version"))?
            .as_str()
            .to_owned(),
        subunits: read::count("subunits", *subunits)?,
        from_remote: *from_remote_management,
        secret_sha256: secret_sha256.clone(),
        installation: Installation::new(installation)
            .map_err(|invalid| invalid.at("installation"))?
            .as_str()
            .to_owned(),
    })
}

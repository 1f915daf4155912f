//! The column *Distributions*: the attribute of its license that a reader chose to see of each unit (semantics 6.1).
//!
//! Not here: the rest of the row.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cli::{
        CommandError,
        status::values,
        unit_management::{backend::Backend, listing::LARGEST_PAGE},
    },
    proto::licensing as api,
};

/// The chosen attribute, and what it is for each license seen so far.
pub(super) struct Distributions {
    attribute: String,
    known: BTreeMap<String, String>,
    /// Whether every license was asked for already.
    is_complete: bool,
}

/// With more licenses unknown than this on one page, all are asked for at once.
const FEW: usize = 20;

impl Distributions {
    pub(super) fn showing(attribute: &str) -> Self {
        Self { attribute: attribute.to_owned(), known: BTreeMap::new(), is_complete: false }
    }

    /// What stands in the column for each of these units.
    pub(super) async fn of(
        &mut self,
        backend: &Backend,
        units: &[api::Unit],
    ) -> Result<Vec<String>, CommandError> {
        if self.attribute == "license_id" {
            return Ok(units.iter().map(|unit| unit.license_id.clone()).collect());
        }
        if FEW < self.unknown(units).len() && !self.is_complete {
            self.learn_all(backend).await?;
        }
        for license_id in self.unknown(units) {
            self.learn(backend, license_id).await?;
        }
        Ok(units.iter().map(|unit| self.known.get(&unit.license_id).cloned().unwrap_or_default()).collect())
    }

    fn unknown(&self, units: &[api::Unit]) -> BTreeSet<String> {
        let ids = units.iter().map(|unit| &unit.license_id);
        ids.filter(|license_id| !self.known.contains_key(*license_id)).cloned().collect()
    }

    async fn learn(&mut self, backend: &Backend, license_id: String) -> Result<(), CommandError> {
        let request = api::GetLicenseRequest { license_id: license_id.clone() };
        let answer = backend.ask(request, async |request| backend.licenses().get_license(request).await);
        let license = answer.await?.license.unwrap_or_default();
        self.known.insert(license_id, value(&license, &self.attribute));
        Ok(())
    }

    async fn learn_all(&mut self, backend: &Backend) -> Result<(), CommandError> {
        let mut request = api::ListLicensesRequest { page_size: LARGEST_PAGE, ..Default::default() };
        loop {
            let question = request.clone();
            let answer =
                backend.ask(question, async |request| backend.licenses().list_licenses(request).await);
            let api::ListLicensesResponse { licenses, next_page_token } = answer.await?;
            for license in licenses {
                let value = value(&license, &self.attribute);
                self.known.insert(license.license_id, value);
            }
            if next_page_token.is_empty() || next_page_token == request.page_token {
                self.is_complete = true;
                return Ok(());
            }
            request.page_token = next_page_token;
        }
    }
}

/// An attribute of a license: one of its own, or a further one.
fn value(license: &api::License, attribute: &str) -> String {
    match attribute {
        "name" => license.name.clone(),
        "type" => license.r#type.clone(),
        "customer" => license.customer.clone(),
        "product" => license.product.clone(),
        "seats" => license.seats.to_string(),
        "expires_at" => license.expires_at.as_ref().map(values::instant).unwrap_or_default(),
        key => license.attributes.get(key).cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_the_license_s_own_or_a_further_one() {
        let license = api::License {
            name: "ESA full".to_owned(),
            seats: 150,
            attributes: [("cost_centre".to_owned(), "4711".to_owned())].into(),
            ..Default::default()
        };
        assert_eq!(value(&license, "name"), "ESA full");
        assert_eq!(value(&license, "seats"), "150");
        assert_eq!(value(&license, "cost_centre"), "4711");
        assert_eq!(value(&license, "expires_at"), "");
        assert_eq!(value(&license, "colour"), "");
    }
}

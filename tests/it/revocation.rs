//! Revocation lists: which of them counts, and what becomes of callers when one is out of date or missing.

use std::fs;

use esa_sidecar::{
    edge::address::ListenAddress,
    proto::enforcement::{Operation, enforcement_service_client::EnforcementServiceClient},
};

use crate::{
    callers::Guarded,
    certificates::{Authority, Issued},
    sidecar::question,
};

const NAME: &str = "spiffe://example.org/authentication";

/// Whoever shows a certificate in that name asks everything.
const TABLE: &str = "[[callers]]\nname = 'it'\nrole = 'authentication_server'\ncertificate = 'spiffe://example.org/authentication'\n";

/// An authority whose server is certified, and which has revoked nothing.
fn authority() -> Authority {
    let authority = Authority::new();
    authority.serve(&authority.issue("sidecar.test", 1));
    authority
}

/// Whether a caller with this certificate is answered, on a connection of its own.
async fn is_answered(sidecar: &Guarded, authority: &Authority, issued: &Issued) -> bool {
    let Some(channel) = sidecar.connect(authority, Some(issued)).await else { return false };
    // With TLS 1.3 a client hears that it is refused only when it reads.
    EnforcementServiceClient::new(channel).authorize(question(Operation::EnableUsers)).await.is_ok()
}

#[tokio::test]
async fn of_several_lists_of_an_authority_the_newest_counts_wherever_it_stands() {
    let authority = authority();
    let (older, newer) = (authority.list(&[9], 2025, 2096), authority.list(&[8], 2026, 2096));
    for lists in [[&older, &newer], [&newer, &older]] {
        fs::write(authority.path("revoked.pem"), lists.map(String::as_str).concat()).unwrap();
        let toml = format!("{}{TABLE}", authority.table());
        let sidecar = Guarded::start(&toml, &ListenAddress::loopback(0)).await;
        assert!(!is_answered(&sidecar, &authority, &authority.issue(NAME, 8)).await);
        assert!(is_answered(&sidecar, &authority, &authority.issue(NAME, 9)).await);
        sidecar.stop().await;
    }
}

//! `AuditService`.

use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    once::{Attempt, Right},
    pages, read,
};
use crate::{
    licensing::{
        Backend,
        archive::Exported,
        audit::{LookedAt, Wanted},
        refusal::Refusal,
        store::sought,
    },
    proto::licensing::{self as api, audit_service_server::AuditService},
};

/// Entries archived in one call.
const MOST_ARCHIVED: u32 = 10_000;

#[tonic::async_trait]
impl AuditService for Backend {
    async fn list_audit_entries(
        &self,
        request: Request<api::ListAuditEntriesRequest>,
    ) -> Result<Response<api::ListAuditEntriesResponse>, Status> {
        let (caller, _turn) = self.reader(&request, api::ApiScope::ReadAudit).await?;
        self.ended(&caller, "audit.list", "", caller.must_be_owner()).await?;
        let mut asked = request.into_inner();
        let size = pages::size(std::mem::take(&mut asked.page_size))?;
        let token = std::mem::take(&mut asked.page_token);
        let list = pages::list(&asked, &caller.account_id);
        let api::ListAuditEntriesRequest {
            from, until, descending, actor, actor_kinds, action, target, ..
        } = asked;
        let wanted = Wanted {
            from: read::optional_instant("from", from.as_ref())?,
            until: read::optional_instant("until", until.as_ref())?,
            actor,
            actor_kinds: read::actor_kinds(&actor_kinds)?,
            action,
            target,
            descending,
            after: pages::place(&token, &list)?.unwrap_or_default(),
            most: i64::try_from(size + 1).unwrap_or(i64::MAX),
        };
        let LookedAt { found, last } = self.entries(&caller.customer_id, &wanted).await?;
        let (entries, place) = pages::cut(found, size, Message::encoded_len, |entry| entry.entry_id.clone());
        let next_page_token = pages::token(place.or(last), &list);
        Ok(Response::new(api::ListAuditEntriesResponse { entries, next_page_token }))
    }

    async fn archive_audit_entries(
        &self,
        request: Request<api::ArchiveAuditEntriesRequest>,
    ) -> Result<Response<api::ArchiveAuditEntriesResponse>, Status> {
        let caller = &self.caller(&request).await?;
        let request = &request.into_inner();
        let entries = request.entries;
        if !(1..=MOST_ARCHIVED).contains(&entries) {
            let what = format!("{entries}; 1 to {MOST_ARCHIVED} are archived in one call");
            return Err(Refusal::unreadable("entries", what).into());
        }
        let exported = &Exported {
            before: read::kept_instant("before", request.before.as_ref())?,
            last_entry_id: sought(&read::text("last_entry_id", &request.last_entry_id, 1, 64)?),
            entries: i64::from(entries),
        };
        let attempt = Attempt { action: "audit.archive", target: "", right: Right::Archive };
        let found = &self.to_archive(caller, exported).await?;
        self.once(caller, attempt, request, |mut change| async move {
            self.archive(&mut change, caller, exported, found).await?;
            Ok((change, api::ArchiveAuditEntriesResponse {}))
        })
        .await
    }
}

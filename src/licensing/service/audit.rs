//! `AuditService`.

use prost::Message;
use tonic::{Request, Response, Status};

use super::{pages, read};
use crate::{
    licensing::{Backend, audit::Wanted},
    proto::licensing::{self as api, audit_service_server::AuditService},
};

#[tonic::async_trait]
impl AuditService for Backend {
    async fn list_audit_entries(
        &self,
        request: Request<api::ListAuditEntriesRequest>,
    ) -> Result<Response<api::ListAuditEntriesResponse>, Status> {
        let caller = self.reader(request.metadata(), api::ApiScope::ReadAudit).await?;
        self.ended(&caller, "audit.list", "", caller.must_be_owner()).await?;
        let mut asked = request.into_inner();
        let size = pages::size(std::mem::take(&mut asked.page_size))?;
        let token = std::mem::take(&mut asked.page_token);
        let list = pages::list(&asked, &caller.account_id);
        let api::ListAuditEntriesRequest { from, until, descending, actor, action, target, .. } = asked;
        let wanted = Wanted {
            from: read::optional_instant("from", from.as_ref())?,
            until: read::optional_instant("until", until.as_ref())?,
            actor,
            action,
            target,
            descending,
            after: pages::place(&token, &list)?.unwrap_or_default(),
            most: i64::try_from(size + 1).unwrap_or(i64::MAX),
        };
        let found = self.entries(&caller.customer_id, &wanted).await?;
        let (entries, place) = pages::cut(found, size, Message::encoded_len, |entry| entry.entry_id.clone());
        let next_page_token = pages::token(place, &list);
        Ok(Response::new(api::ListAuditEntriesResponse { entries, next_page_token }))
    }
}

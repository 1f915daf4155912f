//! A service that answers every question with the same empty answer: what the transport alone costs.

use esa_sidecar::proto::enforcement::{self as api, enforcement_service_server::EnforcementService};
use futures_util::stream::Empty as NoItems;
use tonic::{Request, Response, Status, Streaming};

/// Does nothing.
pub(crate) struct Empty;

/// The calls that are not measured.
macro_rules! not_measured {
    ($($call:ident($request:ty) -> $response:ty;)+) => {
        #[tonic::async_trait]
        impl EnforcementService for Empty {
            async fn authorize(
                &self,
                _request: Request<api::AuthorizeRequest>,
            ) -> Result<Response<api::AuthorizeResponse>, Status> {
                Ok(Response::new(api::AuthorizeResponse::default()))
            }

            type StreamAuthorizeStream = NoItems<Result<api::StreamAuthorizeResponse, Status>>;
            type WatchSubscriptionStream = NoItems<Result<api::WatchSubscriptionResponse, Status>>;

            $(async fn $call(&self, _request: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented("not measured"))
            })+
        }
    };
}

not_measured! {
    batch_authorize(api::BatchAuthorizeRequest) -> api::BatchAuthorizeResponse;
    stream_authorize(Streaming<api::StreamAuthorizeRequest>) -> Self::StreamAuthorizeStream;
    get_subscription(api::GetSubscriptionRequest) -> api::GetSubscriptionResponse;
    watch_subscription(api::WatchSubscriptionRequest) -> Self::WatchSubscriptionStream;
    report_usage(api::ReportUsageRequest) -> api::ReportUsageResponse;
    refresh_subscription(api::RefreshSubscriptionRequest) -> api::RefreshSubscriptionResponse;
    get_restriction_table(api::GetRestrictionTableRequest) -> api::GetRestrictionTableResponse;
    simulate(api::SimulateRequest) -> api::SimulateResponse;
}

//! What answers the calls of one connection: `Authorize` its own way (see `question`), all others by routes.
//!
//! Not here: which services are on a listener, and what an answer says.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{Request, Response, body::Incoming, service::Service};
use tonic::{Status, service::Routes};
use tower::Service as _;

use super::{
    answer::Answer,
    deadline,
    question::{self, Question},
};
use crate::{config::Limits, edge::peer::Peer, enforcement::Enforcement};

/// The calls of one connection.
#[derive(Clone)]
pub(super) struct Calls {
    routes: Routes,
    questions: Option<Enforcement>,
    peer: Peer,
    timeout: Duration,
}

/// A call on its way to its answer.
pub(super) enum Answering {
    /// One question of `Authorize`.
    Question(Question),
    /// Anything else.
    Routed(Pin<Box<dyn Future<Output = Response<Answer>> + Send>>),
}

impl Calls {
    /// Calls of `peer`, answered by `routes`.
    pub(super) fn routed(routes: &Routes, limits: &Limits, peer: &Peer) -> Self {
        Self { routes: routes.clone(), questions: None, peer: peer.clone(), timeout: limits.call_timeout }
    }

    /// The same, but for questions, which `enforcement` answers.
    pub(super) fn with_questions(self, enforcement: Enforcement) -> Self {
        Self { questions: Some(enforcement), ..self }
    }

    fn routed_call(&self, mut request: Request<Incoming>) -> Answering {
        let timeout = deadline::of(request.headers()).map_or(self.timeout, |asked| asked.min(self.timeout));
        request.extensions_mut().insert(self.peer.clone());
        let answered = self.routes.clone().call(request.map(tonic::body::Body::new));
        Answering::Routed(Box::pin(async move {
            match tokio::time::timeout(timeout, answered).await {
                Ok(Ok(response)) => response.map(Answer::Routed),
                Ok(Err(impossible)) => match impossible {},
                Err(_) => Answer::of_status(&Status::deadline_exceeded(format!(
                    "the call was not answered within {}",
                    humantime::format_duration(timeout)
                ))),
            }
        }))
    }
}

impl Service<Request<Incoming>> for Calls {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        match &self.questions {
            Some(enforcement) if question::is_one(&request) => {
                let asked = Question::new(request.into_body(), enforcement.clone(), &self.peer, self.timeout);
                Answering::Question(asked)
            }
            Some(_) | None => self.routed_call(request),
        }
    }
}

impl Future for Answering {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Question(question) => Pin::new(question).poll(context).map(Ok),
            Self::Routed(answered) => answered.as_mut().poll(context).map(Ok),
        }
    }
}

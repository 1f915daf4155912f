//! What answers the calls of one connection: questions their own way (see `question`), all others by routes.
//!
//! Not here: which services are on a listener, and what an answer says.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{Request, Response, body::Incoming, header::AUTHORIZATION, service::Service};
use tonic::{Status, service::Routes};
use tower::Service as _;

use super::{
    answer::Answer,
    deadline, foreign,
    messages::Messages,
    question::{self, Desk, Question},
    rooms::{Call, Connected, Shares},
};
use crate::{config::Limits, edge::peer::Peer, enforcement::Enforcement, licensing::Backend};

/// The calls of one connection.
pub(super) struct Calls {
    routes: Routes,
    shares: Arc<Shares>,
    _connected: Connected,
    /// Where questions are asked, if they are on this listener; shared with each that is not answered yet.
    desk: Option<Arc<Desk>>,
    peer: Peer,
    timeout: Duration,
    /// Who tells of a message that could not be read whether its sender is known.
    doorkeeper: Option<Backend>,
    /// How much a call may send ahead of what is read of it.
    window: usize,
}

/// A call on its way to its answer, and its place until then.
pub(super) struct Answering {
    way: Way,
    call: Option<Call>,
}

/// How a call comes to its answer.
enum Way {
    /// One question, or a batch.
    Question(Question, Arc<Desk>),
    /// Anything else, or a call there was no place for.
    Routed(Pin<Box<dyn Future<Output = Response<Answer>> + Send>>),
}

/// `UNAUTHENTICATED`, as it is sent.
const UNAUTHENTICATED: &str = "16";

impl Calls {
    /// Calls of `peer`, answered by `routes` as far as it has `shares`.
    pub(super) fn routed(routes: &Routes, shares: Arc<Shares>, limits: &Limits, peer: &Peer) -> Self {
        Self {
            routes: routes.clone(),
            _connected: shares.connected(peer),
            shares,
            desk: None,
            peer: peer.clone(),
            timeout: limits.call_timeout,
            doorkeeper: None,
            window: usize::try_from(limits.bounds.stream_window_bytes).unwrap_or(usize::MAX),
        }
    }

    /// The same, but for questions, which `enforcement` answers.
    pub(super) fn with_questions(self, enforcement: Enforcement) -> Self {
        let desk = Desk { enforcement, peer: self.peer.clone(), timeout: self.timeout };
        Self { desk: Some(Arc::new(desk)), ..self }
    }

    /// The same, and `backend` looks at the credential of a caller before it is told what is wrong with its message.
    pub(super) fn with_credentials(self, backend: Backend) -> Self {
        Self { doorkeeper: Some(backend), ..self }
    }

    fn routed_call(&self, mut request: Request<Incoming>, call: &mut Call) -> Way {
        let timeout = deadline::of(request.headers()).map_or(self.timeout, |asked| asked.min(self.timeout));
        request.extensions_mut().insert(self.peer.clone());
        let (asked, answer) = (Arc::new(call.hold_asked()), call.hold_answer());
        let (parts, body) = request.into_parts();
        let domain = call.domain();
        let asker = self.doorkeeper.clone().map(|backend| {
            let credential = parts.headers.get(AUTHORIZATION).cloned();
            (backend, parts.uri.path().to_owned(), credential, self.peer.clone())
        });
        // Who asks here is known by a credential, once it was looked at; health and the names of calls need none.
        let caller = self.doorkeeper.as_ref().map(|_| self.peer.clone());
        let is_for_anybody = !call.counts_for_quota() || call.is_reflection();
        let messages = match Messages::new(body, Arc::clone(&asked), call, self.window) {
            Ok(messages) => messages,
            Err(full) => return Way::Routed(Box::pin(ready(Answer::of_status(&full)))),
        };
        let messages = messages.counted_at(self.desk.clone().filter(|_| call.is_reflection()));
        let (arrival, evicted, fault) = (messages.arrival(), call.evicted(), messages.fault());
        let body = tonic::body::Body::new(messages);
        let answered = self.routes.clone().call(Request::from_parts(parts, body));
        Way::Routed(Box::pin(async move {
            let answered = tokio::select! {
                biased;
                () = arrival.evicting() => return Answer::of_status(&evicted),
                answered = tokio::time::timeout(timeout, answered) => answered,
            };
            match answered {
                Ok(Ok(mut response)) => {
                    if let Some(status) = foreign::unexplained(response.headers()) {
                        let status = match asker.filter(|_| foreign::is_of_message(&status)) {
                            Some((backend, path, credential, peer)) => {
                                backend.known(&path, credential, &peer).await.err().unwrap_or(status)
                            }
                            None => status,
                        };
                        foreign::write(&foreign::explained(status, domain), response.headers_mut());
                    }
                    match (caller, response.headers().get("grpc-status")) {
                        (Some(caller), Some(code)) if code == UNAUTHENTICATED => caller.refused(),
                        (Some(caller), None) if !caller.is_known() && !is_for_anybody => caller.known(),
                        _ => {}
                    }
                    Answer::routed(response, asked, answer, fault, (&arrival, evicted))
                }
                Ok(Err(impossible)) => match impossible {},
                Err(_) => {
                    let what =
                        format!("the call was not answered within {}", humantime::format_duration(timeout));
                    Answer::of_status(&foreign::explained(Status::deadline_exceeded(what), domain))
                }
            }
        }))
    }
}

impl Service<Request<Incoming>> for Calls {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        if let Some(desk) = &self.desk
            && !self.peer.is_known()
            && desk.enforcement.knows(&self.peer)
        {
            self.peer.known();
        }
        let question = self.desk.as_ref().zip(question::kind_of(&request));
        // Of a question it is looked at when it does not arrive at once.
        if question.is_none()
            && let Some(desk) = &self.desk
            && let Err(refused) = desk.enforcement.admit(&self.peer, request.uri().path())
        {
            desk.refused(&refused);
            let refused = self.shares.refused(&request, &refused);
            return Answering { way: Way::Routed(Box::pin(ready(refused))), call: None };
        }
        let entered = match question {
            Some((_, kind)) => self.shares.enter_to_ask(kind.path(), &self.peer),
            None => self.shares.enter(&request, &self.peer),
        };
        let mut call = match entered {
            Ok(call) => call,
            Err(full) => {
                let refusal = self.shares.refusal(&request, full);
                return Answering { way: Way::Routed(Box::pin(ready(refusal))), call: None };
            }
        };
        let way = match question {
            // It counts once it is read: what is refused is counted by what it asked.
            Some((desk, kind)) => Way::Question(Question::new(kind, request.into_body()), Arc::clone(desk)),
            None => match self.desk.as_ref().filter(|_| call.counts_for_quota()).map(|desk| desk.spend()) {
                Some(Err(over)) => Way::Routed(Box::pin(ready(Answer::of_status(&over)))),
                Some(Ok(())) | None => self.routed_call(request, &mut call),
            },
        };
        Answering { way, call: Some(call) }
    }
}

impl Future for Answering {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let answered = match (&mut this.way, &mut this.call) {
            (Way::Question(question, desk), Some(call)) => question.poll(context, desk, call),
            // It was answered, and its place is its answer's.
            (Way::Question(..), None) => Poll::Pending,
            (Way::Routed(answered), _) => answered.as_mut().poll(context),
        };
        if let (Poll::Ready(_), Some(call)) = (&answered, &mut this.call) {
            call.answered();
        }
        answered.map(|response| Ok(response.map(|answer| answer.of_call(this.call.take()))))
    }
}

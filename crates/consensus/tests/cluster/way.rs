//! One node's way to another that a test has in its hands: closed, without answers, or letting go of the answers to
//! appends one by one.

use std::time::Duration;

use atoll_proto::raft::v1::AppendEntriesRequest;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};
use tower::ServiceExt;

use crate::harness::PATIENCE;

/// The call of heartbeats and proofs.
const APPEND_ENTRIES: &str = "/atoll.raft.v1.Raft/AppendEntries";
/// The call that carries log entries.
const STREAM_APPEND: &str = "/atoll.raft.v1.Raft/StreamAppend";
/// A message follows a flag and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;
/// Frames of a body on their way.
const FRAMES_MAX: usize = 64;

type Carried = Result<Frame<Bytes>, axum::Error>;

/// A way that carries calls of one node to another, and their answers.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) address: String,
    target: Channel,
    open: watch::Sender<bool>,
    /// Whether answers pass.
    heard: watch::Sender<bool>,
    /// Calls of heartbeats and proofs.
    calls: watch::Sender<usize>,
    appends: watch::Sender<Appends>,
}

/// Appends on the newest stream of them, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Appends {
    /// Streams that were begun.
    pub(crate) streams: usize,
    /// Whether each has entries.
    asked: Vec<bool>,
    /// So many answers have come.
    answered: usize,
    /// So many answers may pass; all when there is no number.
    may_pass: Option<usize>,
}

impl Appends {
    /// Places of appends with entries whose answers are kept.
    pub(crate) fn kept_with_entries(&self) -> Vec<usize> {
        (self.may_pass.unwrap_or(self.answered)..self.answered).filter(|at| self.asked[*at]).collect()
    }

    /// Whether all are answered, and the last one has told that the others are committed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.answered == self.asked.len() && self.ends_empty()
    }

    /// Whether the last append has no entries.
    pub(crate) fn ends_empty(&self) -> bool {
        self.asked.last() == Some(&false)
    }
}

impl Way {
    /// To whoever listens at an address, now or later.
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let way = Self {
            address: listener.local_addr().expect("an address").to_string(),
            target: Endpoint::from_shared(format!("http://{target}")).expect("an address").connect_lazy(),
            open: watch::Sender::new(true),
            heard: watch::Sender::new(true),
            calls: watch::Sender::new(0),
            appends: watch::Sender::default(),
        };
        let routes = Routes::from(Router::new().fallback(carry).with_state(way.clone()));
        // Or each answer waits for an acknowledgement.
        let incoming = TcpListenerStream::new(listener).map(|taken| taken.inspect(|way| drop(way.set_nodelay(true))));
        let serving = Server::builder().add_routes(routes).serve_with_incoming(incoming);
        tokio::spawn(serving);
        way
    }

    /// Nothing is carried any more, but for answers to appends that are let go.
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    /// Carries on what is asked, and no answer any more.
    pub(crate) fn hold_answers(&self) {
        self.heard.send_replace(false);
    }

    /// Heartbeats and proofs that were begun.
    pub(crate) fn calls(&self) -> usize {
        *self.calls.borrow()
    }

    /// Keeps what answers to appends come from now on.
    pub(crate) fn keep_answers(&self) {
        self.appends.send_modify(|appends| appends.may_pass = Some(appends.answered));
    }

    /// Lets go of the answers up to that of the append at a place.
    pub(crate) fn let_go_up_to(&self, place: usize) {
        self.appends.send_modify(|appends| appends.may_pass = Some(place + 1));
    }

    /// Waits until it is so with the appends.
    pub(crate) async fn wait_for(&self, what: &str, is_so: impl FnMut(&Appends) -> bool) -> Appends {
        let waited = self.wait_up_to(PATIENCE, is_so).await;
        waited.unwrap_or_else(|| panic!("{what} in time: {:?}", self.appends.borrow()))
    }

    /// Waits for some time until it is so with the appends.
    pub(crate) async fn wait_up_to(&self, patience: Duration, is_so: impl FnMut(&Appends) -> bool) -> Option<Appends> {
        let mut appends = self.appends.subscribe();
        let waited = tokio::time::timeout(patience, appends.wait_for(is_so)).await;
        waited.ok().map(|appends| appends.expect("the way is there").clone())
    }

    async fn opened(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    async fn answering(&self) {
        self.opened().await;
        let _ = self.heard.subscribe().wait_for(|heard| *heard).await;
    }

    /// Notes what is asked, and carries it.
    async fn carry_requests(self, mut body: Body, appends: bool, to: mpsc::Sender<Carried>) {
        let mut messages = Messages::default();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref).filter(|_| appends) {
                for message in messages.of(data) {
                    let append = AppendEntriesRequest::decode(&message[PREFIX_BYTES..]).expect("an append");
                    self.appends.send_modify(|appends| appends.asked.push(!append.entries.is_empty()));
                }
            }
            self.opened().await;
            if to.send(frame).await.is_err() {
                return;
            }
        }
    }

    /// Notes what is answered.
    async fn note_answers(
        self,
        mut body: tonic::body::Body,
        appends: bool,
        to: mpsc::Sender<(Option<usize>, Carried)>,
    ) {
        let mut messages = Messages::default();
        while let Some(frame) = body.frame().await {
            let answers = match frame.map_err(axum::Error::new) {
                Ok(frame) if appends && frame.is_data() => {
                    let answers = messages.of(&frame.into_data().unwrap_or_default()).into_iter();
                    answers.map(|answer| (Some(self.place_of_next_answer()), Ok(Frame::data(answer)))).collect()
                }
                frame => vec![(None, frame)],
            };
            for answer in answers {
                if to.send(answer).await.is_err() {
                    return;
                }
            }
        }
    }

    fn place_of_next_answer(&self) -> usize {
        let mut place = 0;
        self.appends.send_modify(|appends| {
            place = appends.answered;
            appends.answered += 1;
        });
        place
    }

    /// Carries answers, each when it may pass.
    async fn carry_answers(self, mut noted: mpsc::Receiver<(Option<usize>, Carried)>, to: mpsc::Sender<Carried>) {
        let mut appends = self.appends.subscribe();
        while let Some((place, answer)) = noted.recv().await {
            match place {
                Some(place) => {
                    let may_pass = |appends: &Appends| appends.may_pass.is_none_or(|count| count > place);
                    let _ = appends.wait_for(may_pass).await;
                    let _ = self.heard.subscribe().wait_for(|heard| *heard).await;
                }
                None => self.answering().await,
            }
            if to.send(answer).await.is_err() {
                return;
            }
        }
    }
}

/// Carries one call.
async fn carry(State(way): State<Way>, request: Request) -> Response {
    way.opened().await;
    let appends = request.uri().path() == STREAM_APPEND;
    if request.uri().path() == APPEND_ENTRIES {
        way.calls.send_modify(|calls| *calls += 1);
    }
    if appends {
        way.appends.send_modify(|appends| {
            *appends =
                Appends { streams: appends.streams + 1, may_pass: appends.may_pass.map(|_| 0), ..Appends::default() };
        });
    }
    let (head, body) = request.into_parts();
    let (to, requests) = mpsc::channel(FRAMES_MAX);
    tokio::spawn(way.clone().carry_requests(body, appends, to));
    let body = tonic::body::Body::new(StreamBody::new(ReceiverStream::new(requests)));
    let Ok(answer) = way.target.clone().oneshot(Request::from_parts(head, body)).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (head, body) = answer.into_parts();
    let ((to, noted), (on, answers)) = (mpsc::channel(FRAMES_MAX), mpsc::channel(FRAMES_MAX));
    tokio::spawn(way.clone().note_answers(body, appends, to));
    tokio::spawn(way.clone().carry_answers(noted, on));
    way.answering().await;
    Response::from_parts(head, Body::new(StreamBody::new(ReceiverStream::new(answers))))
}

/// Takes a body's data apart into messages.
#[derive(Default)]
struct Messages(BytesMut);

impl Messages {
    /// Those that are complete with this data, each with its prefix.
    fn of(&mut self, data: &[u8]) -> Vec<Bytes> {
        self.0.extend_from_slice(data);
        let mut complete = Vec::new();
        while let Some(mut length) = self.0.get(1..PREFIX_BYTES) {
            let bytes = PREFIX_BYTES + usize::try_from(length.get_u32()).expect("a length");
            if self.0.len() < bytes {
                break;
            }
            complete.push(self.0.split_to(bytes).freeze());
        }
        complete
    }
}

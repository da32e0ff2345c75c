//! A client of one node that tells what an answer, or its absence, says of a write.

use std::collections::HashMap;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use atoll_types::Digest;

use crate::history::Outcome;

/// Longer than a node takes to give an answer up.
const TIMEOUT: Duration = Duration::from_secs(8);
/// For what a node answers from memory.
const BRIEF: Duration = Duration::from_secs(3);
const BODY_BYTES_MAX: u64 = 64 << 20;

/// An answer, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// An answer with its whole body.
    Whole(Answer),
    /// The head of an answer, whose body broke off after so many bytes.
    Torn(Answer),
    /// Nobody listens: the request was never sent.
    NotSent,
    /// It was sent, at least in part, and no answer came.
    Silent,
}

impl Reply {
    /// The answer, if it is whole.
    pub(crate) fn answer(self) -> Option<Answer> {
        if let Self::Whole(answer) = self { Some(answer) } else { None }
    }

    /// The status; 0 without one.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Whole(answer) | Self::Torn(answer) => answer.status,
            Self::NotSent | Self::Silent => 0,
        }
    }

    /// A header of the answer; empty without one.
    pub(crate) fn header(&self, name: &str) -> &str {
        match self {
            Self::Whole(answer) | Self::Torn(answer) => answer.headers.get(name).map_or("", String::as_str),
            Self::NotSent | Self::Silent => "",
        }
    }

    /// The revision of an acknowledged write.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.header("atoll-revision").parse().ok()
    }

    /// How old the node's view may have been, in milliseconds; `None` when it did not know.
    pub(crate) fn staleness_ms(&self) -> Option<u64> {
        self.header("atoll-staleness-ms").parse().ok()
    }

    /// What a client knows of a write after this.
    pub(crate) fn outcome_of_write(&self) -> Outcome {
        match self.status() {
            _ if self.header("atoll-outcome") == "unknown" => Outcome::Unknown,
            200..=299 => Outcome::Ok,
            // A node that met a bug may have written before.
            500 | 502 | 504 => Outcome::Unknown,
            0 => {
                if matches!(self, Self::NotSent) {
                    Outcome::Failed
                } else {
                    Outcome::Unknown
                }
            }
            _ => Outcome::Failed,
        }
    }

    /// What a client knows of a read after this: an answer of 4xx is one.
    pub(crate) fn outcome_of_read(&self) -> Outcome {
        match self {
            Self::Whole(answer) if answer.status < 500 && answer.status != 429 => Outcome::Ok,
            _ => Outcome::Failed,
        }
    }

    /// The start of the answer's body, for people.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Whole(answer) => String::from_utf8_lossy(&answer.body).chars().take(300).collect(),
            Self::Torn(_) => "the body broke off".to_owned(),
            Self::NotSent => "nobody listens".to_owned(),
            Self::Silent => "no answer".to_owned(),
        }
    }
}

/// A client of one node. Each request has a connection of its own, so that one that was never sent is told from one
/// that was.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) node: usize,
    address: SocketAddr,
    base: String,
    agent: ureq::Agent,
}

impl Client {
    /// A client of the node at a place.
    pub(crate) fn new(node: usize, address: SocketAddr) -> Self {
        Self::with(node, address, TIMEOUT)
    }

    /// A client that does not wait long.
    pub(crate) fn brief(node: usize, address: SocketAddr) -> Self {
        Self::with(node, address, BRIEF)
    }

    fn with(node: usize, address: SocketAddr, timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .timeout_global(Some(timeout))
            .build();
        Self { node, address, base: format!("http://{address}"), agent: config.into() }
    }

    /// One request.
    pub(crate) fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let Ok(request) = request.body(body.to_vec()) else { return Reply::NotSent };
        match self.agent.run(request) {
            Ok(response) => whole(response, method),
            Err(error) if was_refused(&error) => Reply::NotSent,
            Err(_) => Reply::Silent,
        }
    }

    /// A GET.
    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.call("GET", path, headers, b"")
    }

    /// Whether the node takes pushes.
    pub(crate) fn ready(&self) -> bool {
        self.get("/readyz?for=push", &[]).status() == 200
    }

    /// Half of a blob, after which the connection is closed.
    pub(crate) fn push_and_leave(&self, repository: &str, digest: &Digest, bytes: &[u8]) {
        let Ok(mut stream) = std::net::TcpStream::connect_timeout(&self.address, BRIEF) else { return };
        let head = format!(
            "POST /v2/{repository}/blobs/uploads/?digest={digest} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
            self.address,
            bytes.len()
        );
        // However far it comes: the client is on its way out.
        let _ = stream.set_write_timeout(Some(BRIEF));
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes[..bytes.len() / 2]));
    }

    /// A blob in one request.
    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) -> Reply {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::sha256(bytes));
        self.call("POST", &path, &[("content-type", "application/octet-stream")], bytes)
    }
}

fn was_refused(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::ConnectionFailed)
        || matches!(error, ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused)
}

fn whole(mut response: http::Response<ureq::Body>, method: &str) -> Reply {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: HashMap<String, String> =
        response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let status = response.status().as_u16();
    let stated: Option<usize> = headers.get("content-length").and_then(|l| l.parse().ok());
    let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec();
    let is_whole = |body: &Vec<u8>| method == "HEAD" || stated.is_none_or(|stated| stated == body.len());
    match body {
        Ok(body) if is_whole(&body) => Reply::Whole(Answer { status, headers, body }),
        _ => Reply::Torn(Answer { status, headers, body: Vec::new() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, headers: &[(&str, &str)]) -> Reply {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Reply::Whole(Answer { status, headers, body: Vec::new() })
    }

    #[test]
    fn what_a_write_came_to_is_told_by_its_answer() {
        for (reply, outcome) in [
            (reply(201, &[]), Outcome::Ok),
            (reply(503, &[]), Outcome::Failed),
            (reply(412, &[]), Outcome::Failed),
            (reply(504, &[]), Outcome::Unknown),
            (reply(409, &[("atoll-outcome", "unknown")]), Outcome::Unknown),
            (reply(500, &[]), Outcome::Unknown),
            (Reply::NotSent, Outcome::Failed),
            (Reply::Silent, Outcome::Unknown),
        ] {
            assert_eq!(reply.outcome_of_write(), outcome, "{reply:?}");
        }
    }

    #[test]
    fn who_does_not_listen_was_sent_nothing() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(Client::new(0, free).call("PUT", "/", &[], b"x"), Reply::NotSent));
    }

    #[test]
    fn a_connection_that_breaks_is_silence_or_a_torn_body() {
        use std::io::Read;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let client = Client::new(0, address);
        assert!(matches!(client.get("/", &[]), Reply::Silent));
        assert!(matches!(client.get("/", &[]), Reply::Torn(_)));
        server.join().unwrap();
    }
}

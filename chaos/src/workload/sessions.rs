//! Upload sessions whose requests go through several nodes.

use std::time::Duration;

use atoll_types::Digest;
use rand::RngExt as _;

use super::Worker;
use super::pushes::own_tag;
use super::world::Put;
use crate::client::Reply;
use crate::content::{Blob, Image};
use crate::history::{Outcome, SessionStep, Span, Step};

/// How often a session is asked where it is after a chunk without an answer.
const ASKS_MAX: usize = 3;
/// A client that is slow between two chunks.
const PATIENT_CLIENT: Duration = Duration::from_millis(3_300);

impl Worker {
    /// A blob in chunks, each through another node, and an image of it.
    pub(super) fn chunked_push(&mut self, node: usize) -> Outcome {
        let bytes = self.random.random_range(1_000..400_000);
        let blob = Blob::new(self.world.seed(), bytes);
        let repository = self.world.repository(&mut self.random);
        let outcome = self.upload(node, &repository, &blob);
        if outcome != Outcome::Ok {
            return outcome;
        }
        let image = Image::new(self.world.seed(), vec![blob], None);
        for config in &image.blobs[1..] {
            let outcome = self.world.push_blob(node, &repository, config);
            if outcome != Outcome::Ok {
                return outcome;
            }
        }
        self.world.put(node, &Put::new(&repository, &own_tag(&image), &image))
    }

    fn upload(&mut self, node: usize, repository: &str, blob: &Blob) -> Outcome {
        let start = self.world.recorder.now();
        let opened = self.world.clients[node].call("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        if opened.status() != 202 {
            // What was never finished has no effect, whatever became of it.
            return Outcome::Failed;
        }
        let mut session =
            Session { at: opened.header("location").to_owned(), id: opened.header("docker-upload-uuid").to_owned() };
        self.stepped(node, &session, start, Step::Opened, &opened);
        if self.chance(20) {
            self.ask_through_another_repository(&session);
        }
        let content = blob.content();
        let outcome = if self.append_all(&mut session, &content) {
            self.finish(&session, repository, blob)
        } else {
            Outcome::Failed
        };
        if outcome == Outcome::Failed {
            self.cancel(&session);
        }
        outcome
    }

    /// All chunks; false when the session is lost.
    fn append_all(&mut self, session: &mut Session, content: &[u8]) -> bool {
        let mut offset = 0;
        let mut asks = 0;
        while offset < content.len() {
            let length = self.random.random_range(2..=content.len().min(150_000)).min(content.len() - offset);
            let node = self.node();
            let range = format!("{offset}-{}", offset + length - 1);
            let start = self.world.recorder.now();
            let chunk = &content[offset..offset + length];
            let reply = self.world.clients[node].call("PATCH", &session.at, &[("content-range", &range)], chunk);
            if reply.status() == 202 {
                offset += length;
                session.at = reply.header("location").to_owned();
                self.stepped(node, session, start, Step::Appended { offset: offset as u64 }, &reply);
                self.between_chunks(session, offset as u64);
                continue;
            }
            if reply.status() == 404 {
                self.stepped(node, session, start, Step::Lost, &reply);
                return false;
            }
            asks += 1;
            match self.ask(session) {
                Some(known) if asks <= ASKS_MAX && known <= content.len() as u64 => offset = known as usize,
                _ => return false,
            }
        }
        true
    }

    /// What a client may do, or let pass, before its next chunk.
    fn between_chunks(&mut self, session: &Session, offset: u64) {
        match self.random.random_range(0..100) {
            0..8 => std::thread::sleep(PATIENT_CLIENT),
            8..40 => {
                self.ask(session);
            }
            40..50 => {
                let (node, start) = (self.node(), self.world.recorder.now());
                let range = format!("{}-{}", offset + 7, offset + 11);
                let reply = self.world.clients[node].call("PATCH", &session.at, &[("content-range", &range)], b"wrong");
                if reply.status() != 0 {
                    self.stepped(node, session, start, Step::Misplaced, &reply);
                }
            }
            _ => {}
        }
    }

    /// Gives a session up. When that fails, nobody knows whether it is open.
    fn cancel(&mut self, session: &Session) {
        let (node, start) = (self.node(), self.world.recorder.now());
        let reply = self.world.clients[node].call("DELETE", &session.at, &[], b"");
        if matches!(reply.status(), 204 | 404) {
            self.stepped(node, session, start, Step::Cancelled, &reply);
        }
    }

    /// How many bytes a session has, asked through any node.
    fn ask(&mut self, session: &Session) -> Option<u64> {
        let (node, start) = (self.node(), self.world.recorder.now());
        let reply = self.world.clients[node].get(&session.at, &[]);
        if reply.status() != 204 {
            return None;
        }
        let last: u64 = reply.header("range").split_once('-')?.1.parse().ok()?;
        // An empty session says 0-0, as one of a single byte does; no chunk here is so small that it matters.
        let offset = if last == 0 { 0 } else { last + 1 };
        self.stepped(node, session, start, Step::Asked { offset }, &reply);
        Some(offset)
    }

    fn ask_through_another_repository(&mut self, session: &Session) {
        let (node, start) = (self.node(), self.world.recorder.now());
        let reply = self.world.clients[node].get(&format!("/v2/foreign/none/blobs/uploads/{}", session.id), &[]);
        if reply.status() != 0 {
            self.stepped(node, session, start, Step::Foreign, &reply);
        }
    }

    /// Finishes the session; once in a while twice, as a client does whose first answer got lost.
    fn finish(&mut self, session: &Session, repository: &str, blob: &Blob) -> Outcome {
        let (node, start) = (self.node(), self.world.recorder.now());
        let path = format!("{}{}digest={}", session.at, if session.at.contains('?') { '&' } else { '?' }, blob.digest);
        let reply = self.world.clients[node].call("PUT", &path, &[], b"");
        let outcome = self.world.blob_pushed(node, repository, blob, start, &reply);
        let finished = |digest: Digest| Step::Finished { digest: digest.to_string() };
        if outcome == Outcome::Ok {
            self.stepped(node, session, start, finished(blob.digest), &reply);
            if self.chance(25) {
                let (again, start) = (self.node(), self.world.recorder.now());
                let reply = self.world.clients[again].call("PUT", &path, &[], b"");
                self.stepped(again, session, start, Step::FinishedAgain, &reply);
                if reply.status() == 201 {
                    let digest = reply.header("docker-content-digest").parse().unwrap_or(Digest::sha256(b""));
                    self.stepped(again, session, start, finished(digest), &reply);
                }
            }
        }
        outcome
    }

    fn stepped(&self, node: usize, session: &Session, start: u64, step: Step, reply: &Reply) {
        let span = Span { node, start, end: self.world.recorder.now() };
        let step = SessionStep { session: session.id.clone(), span, step, status: reply.status() };
        self.world.recorder.add(|h| h.sessions.push(step));
    }
}

/// Where a session is.
struct Session {
    at: String,
    id: String,
}

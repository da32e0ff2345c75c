//! What waits and what is in flight stay bounded together, in bytes.

use std::time::Duration;

use atoll_metadata::{Command, Envelope, Expected, ManifestBody, PutManifest, TagUpdate};
use atoll_types::{ClusterId, Digest, NodeId, RequestId, Revision};
use openraft::errors::ForwardToLeader;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::clock::SystemClock;

const PATIENCE: Duration = Duration::from_secs(20);
/// A command's body in bytes.
const BODY: usize = 4_096;

type AResult = Result<WriteResult<Types>, Fatal<Types>>;

/// A batch that was proposed: how many entries, and where its answers are given.
struct Batch {
    entries: usize,
    answers: mpsc::UnboundedSender<AResult>,
}

/// Takes batches and leaves the answers to the test.
struct Held(mpsc::UnboundedSender<Batch>);

impl ProposeMany for Held {
    async fn propose_many(&self, entries: Vec<EncodedEntry>) -> Result<Results, Fatal<Types>> {
        let (answers, results) = mpsc::unbounded_channel();
        self.0.send(Batch { entries: entries.len(), answers }).expect("the test looks");
        Ok(Box::pin(UnboundedReceiverStream::new(results)))
    }
}

fn command() -> Entry {
    let body = Bytes::from(vec![b' '; BODY]);
    let put = PutManifest {
        repository: "team/app".parse().expect("a name"),
        digest: Digest::sha256(&body),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        body: ManifestBody::Inline(body),
        references: Vec::new(),
        subject: None,
        artifact_type: String::new(),
        annotations: None,
        tags: vec![TagUpdate { tag: "latest".parse().expect("a tag"), expected: Expected::Any }],
    };
    let envelope = Envelope {
        request: RequestId::random(),
        attempt: 0,
        seen: Revision(0),
        actor: String::new(),
        client_address: String::new(),
        origin: NodeId(1),
        trace_parent: String::new(),
        cluster: ClusterId::random(),
        epoch: 1,
        feature_level: 1,
    };
    Entry { time_ms: 0, envelope, command: Command::PutManifest(Box::new(put)) }
}

/// A batcher with room for two commands and not for three.
fn batcher() -> (Batcher, mpsc::UnboundedReceiver<Batch>, CancellationToken) {
    let (held, batches) = mpsc::unbounded_channel();
    let stamper = Arc::new(Stamper::new(Arc::new(SystemClock::default())));
    let (batcher, task) = Batcher::with_room(Held(held), stamper, 3 * BODY);
    let cancel = CancellationToken::new();
    tokio::spawn(task.run(cancel.clone()));
    (batcher, batches, cancel)
}

fn propose(batcher: &Batcher, within: Duration) -> tokio::task::JoinHandle<Answer> {
    let (batcher, deadline) = (batcher.clone(), Instant::now() + within);
    tokio::spawn(async move { batcher.propose(command(), deadline).await })
}

async fn answer(asked: tokio::task::JoinHandle<Answer>) -> Answer {
    tokio::time::timeout(PATIENCE, asked).await.expect("in time").expect("answered")
}

/// Batches until so many entries were proposed.
async fn proposed(batches: &mut mpsc::UnboundedReceiver<Batch>, entries: usize) -> Vec<Batch> {
    let mut found: Vec<Batch> = Vec::new();
    while found.iter().map(|batch| batch.entries).sum::<usize>() < entries {
        let next = tokio::time::timeout(PATIENCE, batches.recv()).await;
        found.push(next.expect("in time").expect("the batcher runs"));
    }
    found
}

fn refuse(batch: &Batch) {
    for _ in 0..batch.entries {
        let answer = ClientWriteError::ForwardToLeader(ForwardToLeader::empty());
        batch.answers.send(Ok(Err(answer))).expect("it is waited for");
    }
}

#[tokio::test]
async fn what_does_not_fit_beside_what_is_in_flight_is_not_proposed() {
    let (batcher, mut batches, cancel) = batcher();
    let first = propose(&batcher, PATIENCE);
    let in_flight = proposed(&mut batches, 1).await;
    let second = propose(&batcher, PATIENCE);
    let second_batch = proposed(&mut batches, 1).await;

    let deadline = Instant::now() + Duration::from_millis(400);
    let refused = answer(propose(&batcher, Duration::from_millis(400))).await;
    assert!(matches!(refused, Answer::Refused { is_final: true, .. }), "{refused:?}");
    assert!(Instant::now() < deadline, "the answer must arrive before the deadline");
    assert!(batches.try_recv().is_err(), "nothing was proposed for it");

    // Whoever can wait gets the room of what is answered.
    let third = propose(&batcher, PATIENCE);
    refuse(&in_flight[0]);
    assert!(matches!(answer(first).await, Answer::Refused { is_final: false, .. }));
    let third_batch = proposed(&mut batches, 1).await;
    refuse(&second_batch[0]);
    refuse(&third_batch[0]);
    answer(second).await;
    answer(third).await;
    cancel.cancel();
}

#[tokio::test]
async fn what_waits_for_room_is_bounded_too() {
    let (batcher, mut batches, cancel) = batcher();
    let in_flight = [propose(&batcher, PATIENCE), propose(&batcher, PATIENCE)];
    let mut held = proposed(&mut batches, 2).await;
    let waiting = [propose(&batcher, PATIENCE), propose(&batcher, PATIENCE)];
    while batcher.waiting.available_permits() > BODY {
        tokio::task::yield_now().await;
    }
    let asked = Instant::now();
    let refused = answer(propose(&batcher, PATIENCE)).await;
    assert!(matches!(refused, Answer::Refused { is_final: true, .. }), "{refused:?}");
    assert!(asked.elapsed() < PATIENCE / 2, "it is refused at once");
    held.iter().for_each(refuse);
    held = proposed(&mut batches, 2).await;
    held.iter().for_each(refuse);
    for asked in in_flight.into_iter().chain(waiting) {
        answer(asked).await;
    }
    assert_eq!(batcher.waiting.available_permits(), 3 * BODY);
    cancel.cancel();
}

#[tokio::test]
async fn room_is_kept_for_what_is_in_flight_when_its_asker_has_gone() {
    let (batcher, mut batches, cancel) = batcher();
    let askers = [propose(&batcher, PATIENCE), propose(&batcher, PATIENCE)];
    let in_flight = proposed(&mut batches, 2).await;
    askers.iter().for_each(tokio::task::JoinHandle::abort);
    for asker in askers {
        assert!(asker.await.expect_err("it has gone").is_cancelled());
    }
    let refused = answer(propose(&batcher, Duration::from_millis(200))).await;
    assert!(matches!(refused, Answer::Refused { is_final: true, .. }), "{refused:?}");
    in_flight.iter().for_each(refuse);
    let next = propose(&batcher, PATIENCE);
    let batch = proposed(&mut batches, 1).await;
    refuse(&batch[0]);
    answer(next).await;
    cancel.cancel();
}

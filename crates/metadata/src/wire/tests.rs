//! What is encoded comes back, what has landed never changes, and no bytes make the decoder panic.

use atoll_types::{ClusterId, Digest, Incarnation, NodeId, ObjectName, RepositoryName, RequestId, Revision, StoreId};
use bytes::Bytes;
use proptest::prelude::*;

use crate::{
    Applied, BlobSource, Command, CopyItem, CopyOutcome, Done, DropItem, Entry, Envelope, Expected, LinkItem,
    ManifestBody, ManifestReference, NodeConflict, NodeRole, Outcome, PutManifest, RegisterNode, Rejection, TagUpdate,
    TooLarge,
};

fn repository() -> RepositoryName {
    "team/app".parse().unwrap()
}

fn digest() -> Digest {
    Digest::sha256(b"blob")
}

fn object() -> ObjectName {
    ObjectName::from_parts(7, [0xab; 16])
}

fn put() -> PutManifest {
    PutManifest {
        repository: repository(),
        digest: digest(),
        media_type: "m/t".into(),
        body: ManifestBody::Inline(Bytes::from_static(b"{}")),
        references: vec![ManifestReference::Blob(digest(), 0), ManifestReference::Manifest(digest())],
        subject: Some(digest()),
        artifact_type: "a/t".into(),
        annotations: Some(vec![("k".into(), "v".into())]),
        tags: vec![
            TagUpdate { tag: "a".parse().unwrap(), expected: Expected::Any },
            TagUpdate { tag: "b".parse().unwrap(), expected: Expected::Absent },
            TagUpdate { tag: "c".parse().unwrap(), expected: Expected::Digest(digest()) },
        ],
    }
}

fn node(role: NodeRole) -> Box<RegisterNode> {
    Box::new(RegisterNode {
        node: NodeId(1),
        name: "east-1".parse().unwrap(),
        region: "east".parse().unwrap(),
        role,
        grpc_address: "g:1".into(),
        http_address: "h:2".into(),
        admin_address: "a:3".into(),
        store: (role != NodeRole::Witness).then_some(StoreId::from_bytes([3; 16])),
        store_kind: "fs".into(),
        feature_level: 1,
        incarnation: None,
    })
}

/// One of each command, with every field set to something.
fn commands() -> Vec<Command> {
    let region: atoll_types::RegionId = "east".parse().unwrap();
    let store = StoreId::from_bytes([3; 16]);
    let links = vec![LinkItem { repository: repository(), digest: digest(), revision: Revision(9) }];
    let link = |source| Command::LinkBlob { repository: repository(), digest: digest(), size: 5, source };
    vec![
        Command::InitCluster { cluster: ClusterId::from_bytes([1; 16]), epoch: 2 },
        link(BlobSource::Uploaded { region: region.clone(), store, object: object() }),
        link(BlobSource::Mounted { from: repository() }),
        Command::PutManifest(Box::new(put())),
        Command::PutManifest(Box::new(PutManifest {
            body: ManifestBody::Stored { size: 40_000 },
            annotations: None,
            ..put()
        })),
        Command::DeleteManifest { repository: repository(), digest: digest() },
        Command::DeleteTag { repository: repository(), tag: "v1".parse().unwrap() },
        Command::DeleteBlob { repository: repository(), digest: digest() },
        Command::RecordCopies {
            region: region.clone(),
            store,
            copies: vec![CopyItem { digest: digest(), size: 5, object: object() }],
        },
        Command::DropCopies { region: region.clone(), copies: vec![DropItem { digest: digest(), object: object() }] },
        Command::ForgetGarbage { region: region.clone(), objects: vec![(Revision(9), object())] },
        Command::RegisterRegion { region: region.clone() },
        Command::RegisterNode(node(NodeRole::Voter)),
        Command::RegisterNode(node(NodeRole::Learner)),
        Command::RegisterNode(node(NodeRole::Witness)),
        Command::SetStore { region: region.clone(), store, replaces: Some(StoreId::from_bytes([4; 16])) },
        Command::SetStore { region: region.clone(), store, replaces: None },
        Command::AcquireLease { region: region.clone(), duty: "replication".into(), holder: NodeId(1), ttl_ms: 6 },
        Command::AdvanceSweep { region: region.clone() },
        Command::SetReplicationPaused { region, paused: true },
        Command::ContinueJob { job: Revision(8) },
        Command::CondemnLinks { links: links.clone() },
        Command::DropLinks { links },
        Command::RemoveNode { node: NodeId(1) },
    ]
}

fn outcomes() -> Vec<Outcome> {
    let copies = [
        CopyOutcome::Done,
        CopyOutcome::Already,
        CopyOutcome::NotWanted,
        CopyOutcome::StaleEpoch,
        CopyOutcome::SizeMismatch,
        CopyOutcome::LastCopy,
    ];
    let done = [
        Done::Empty,
        Done::Linked,
        Done::ManifestPut { created: true },
        Done::ManifestPut { created: false },
        Done::Deleted { continues: true },
        Done::Deleted { continues: false },
        Done::Copies(copies.to_vec()),
        Done::Lease { granted: true, holder: NodeId(1), expires_ms: 2, now_ms: 3 },
        Done::SweepEpoch(0),
        Done::Job { finished: false },
    ];
    let tag = || "v1".parse().unwrap();
    let name = || "east-1".parse().unwrap();
    let rejected = [
        Rejection::RepositoryUnknown(repository()),
        Rejection::ManifestUnknown(digest()),
        Rejection::TagUnknown(tag()),
        Rejection::BlobUnknown(digest()),
        Rejection::BlobsMissing(vec![digest(), Digest::sha256(b"other")]),
        Rejection::ManifestsMissing(vec![digest()]),
        Rejection::SizeMismatch { digest: digest(), stated: 1, actual: 2 },
        Rejection::TagConflict { tag: tag(), found: None },
        Rejection::TagConflict { tag: tag(), found: Some(digest()) },
        Rejection::Referenced { digest: digest(), by: Digest::sha256(b"other") },
        Rejection::Expired,
        Rejection::StaleEpoch,
        Rejection::StoreMismatch("east".into()),
        Rejection::RegionUnknown("east".into()),
        Rejection::WrongCluster,
        Rejection::FeatureLevel(3),
        Rejection::Denied("why".into()),
        Rejection::TooLarge(TooLarge::Told("why".into())),
        Rejection::NodeConflict(NodeConflict::Told("why".into())),
        Rejection::JobUnknown(Revision(4)),
        Rejection::RequestReused,
        Rejection::MediaTypeConflict { digest: digest(), found: "m/t".into() },
        Rejection::TooLarge(TooLarge::Items { actual: 600, limit: 512 }),
        Rejection::TooLarge(TooLarge::InlineManifest { bytes: 40_000, limit: 32_768 }),
        Rejection::TooLarge(TooLarge::Regions { limit: 64 }),
        Rejection::TooLarge(TooLarge::LeaseTtl { ttl_ms: 700_000, limit_ms: 600_000 }),
        Rejection::TooLarge(TooLarge::Duty { bytes: 65, limit: 64 }),
        Rejection::NodeConflict(NodeConflict::Full { limit: 1_024 }),
        Rejection::NodeConflict(NodeConflict::Removed(NodeId(9))),
        Rejection::NodeConflict(NodeConflict::NumberTaken { node: NodeId(9), name: name() }),
        Rejection::NodeConflict(NodeConflict::NameTaken { name: name(), node: NodeId(9) }),
        Rejection::NodeConflict(NodeConflict::Unknown(NodeId(9))),
        Rejection::NodeConflict(NodeConflict::OtherFolder { node: NodeId(9), name: name() }),
    ];
    done.into_iter().map(Outcome::Done).chain(rejected.into_iter().map(Outcome::Rejected)).collect()
}

fn envelope() -> Envelope {
    Envelope {
        request: RequestId::from_bytes([2; 16]),
        attempt: 1,
        seen: Revision(300),
        actor: "someone".into(),
        client_address: "10.0.0.1".into(),
        origin: NodeId(4),
        trace_parent: "00-1-2-01".into(),
        cluster: ClusterId::from_bytes([1; 16]),
        epoch: 5,
        feature_level: 6,
    }
}

fn entry(command: Command) -> Entry {
    Entry { time_ms: 1_700_000_000_000, envelope: envelope(), command }
}

#[test]
fn everything_comes_back_as_it_was() {
    for command in commands() {
        assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
        let entry = entry(command);
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }
    assert_eq!(Envelope::decode(&envelope().encode()), Ok(envelope()));
    for outcome in outcomes() {
        assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome.clone()));
        let applied = Applied { revision: Revision(77), outcome };
        assert_eq!(Applied::decode(&applied.encode()), Ok(applied));
    }
}

#[test]
fn what_has_landed_never_changes() {
    let mut found = Vec::new();
    found.extend(commands().iter().map(|command| const_hex::encode(command.encode())));
    found.extend(outcomes().iter().map(|outcome| const_hex::encode(outcome.encode())));
    found.push(const_hex::encode(envelope().encode()));
    found.push(const_hex::encode(entry(Command::ContinueJob { job: Revision(8) }).encode()));
    let applied = Applied { revision: Revision(77), outcome: Outcome::Done(Done::Empty) };
    found.push(const_hex::encode(applied.encode()));
    let landed: Vec<&str> = include_str!("golden.txt").lines().collect();
    assert_eq!(found, landed, "\n{}", found.join("\n"));
}

#[test]
fn a_node_with_its_incarnation_comes_back_and_never_changes() {
    let named = RegisterNode { incarnation: Some(Incarnation::from_bytes([9; 16])), ..*node(NodeRole::Voter) };
    let command = Command::RegisterNode(Box::new(named));
    let landed = "5a4b08011206656173742d311a046561737420012a03673a313203683a323a03613a334210030303030303030303030303030303034a02667350015a1009090909090909090909090909090909";
    assert_eq!(const_hex::encode(command.encode()), landed);
    assert_eq!(Command::decode(&command.encode()), Ok(command));
}

#[test]
fn bounds_are_checked_on_receipt() {
    let refused = |command: Command| Command::decode(&command.encode()).unwrap_err().to_string();
    let with = |change: &dyn Fn(&mut PutManifest)| {
        let mut put = put();
        change(&mut put);
        refused(Command::PutManifest(Box::new(put)))
    };
    let blob = ManifestReference::Blob(digest(), 1);
    assert!(with(&|put| put.references = vec![blob.clone(); Command::REFERENCES_MAX + 1]).contains("references"));
    let tag = TagUpdate { tag: "a".parse().unwrap(), expected: Expected::Any };
    assert!(with(&|put| put.tags = vec![tag.clone(); Command::TAGS_MAX + 1]).contains("tags"));
    assert!(with(&|put| put.tags = vec![tag.clone(); 2]).contains("twice"));
    let long = Bytes::from(vec![b' '; Command::INLINE_BODY_BYTES_MAX + 1]);
    assert!(with(&|put| put.body = ManifestBody::Inline(long.clone())).contains("body"));
    assert!(with(&|put| put.subject = None).contains("annotations"));
    assert!(with(&|put| put.media_type = "x".repeat(2_000)).contains("media type"));
    let pair = ("k".to_owned(), "v".repeat(Command::INLINE_BODY_BYTES_MAX));
    assert!(with(&|put| put.annotations = Some(vec![pair.clone()])).contains("annotations"));
    let (region, item) = ("east".parse().unwrap(), DropItem { digest: digest(), object: object() });
    let many = Command::DropCopies { region, copies: vec![item; Command::ITEMS_MAX + 1] };
    assert!(refused(many).contains("copies"));
    let mut envelope = envelope();
    envelope.actor = "x".repeat(1_000);
    assert!(Envelope::decode(&envelope.encode()).is_err());
    assert!(Command::decode(&[]).is_err() && Entry::decode(&[]).is_err() && Outcome::decode(&[]).is_err());
}

/// What a person reads is made where it is shown: of what is kept, no word but names and media types.
#[test]
fn no_wording_is_kept() {
    for outcome in outcomes() {
        let Outcome::Rejected(rejection) = &outcome else { continue };
        let (kept, text) = (outcome.encode(), rejection.to_string());
        let told = matches!(
            rejection,
            Rejection::TooLarge(TooLarge::Told(_)) | Rejection::NodeConflict(NodeConflict::Told(_))
        );
        for word in text.split(' ').filter(|word| word.len() > 2 && word.chars().all(|c| c.is_ascii_lowercase())) {
            let found = kept.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(told || !found || ["why", "east"].contains(&word), "{word:?} of {text:?} is kept");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>) {
        let _ = (Entry::decode(&bytes), Command::decode(&bytes), Envelope::decode(&bytes));
        let _ = (Outcome::decode(&bytes), Applied::decode(&bytes));
    }

    /// Near misses get further into the decoder than noise does; what still decodes comes back as it was.
    #[test]
    fn damaged_entries_are_refused_or_mean_something(
        which in 0usize..24, at: prop::sample::Index, flip in 1u8..=255, cut: prop::sample::Index
    ) {
        let commands = commands();
        let mut bytes = entry(commands[which % commands.len()].clone()).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(decoded) = Entry::decode(&bytes) {
            prop_assert_eq!(Entry::decode(&decoded.encode()), Ok(decoded));
        }
        let _ = Entry::decode(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn puts_come_back_as_they_were(
        body: Vec<u8>, sizes in prop::collection::vec(any::<Option<u64>>(), 0..20), long: bool,
        tags in prop::collection::btree_set("[A-Za-z0-9_][A-Za-z0-9._-]{0,5}", 0..6), absent: bool, subject: bool
    ) {
        let of = |n: usize| {
            let algorithm = if long { atoll_types::Algorithm::Sha512 } else { atoll_types::Algorithm::Sha256 };
            algorithm.digest(&n.to_le_bytes())
        };
        let reference = |(n, size): (usize, &Option<u64>)| match size {
            Some(size) => ManifestReference::Blob(of(n), *size),
            None => ManifestReference::Manifest(of(n)),
        };
        let expected = if absent { Expected::Absent } else { Expected::Digest(of(0)) };
        let put = PutManifest {
            body: ManifestBody::Inline(body.into()),
            references: sizes.iter().enumerate().map(reference).collect(),
            subject: subject.then(|| of(1)),
            annotations: subject.then(Vec::new),
            tags: tags.iter().map(|tag| TagUpdate { tag: tag.parse().unwrap(), expected }).collect(),
            ..put()
        };
        let command = Command::PutManifest(Box::new(put));
        prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
}

//! What the log, peers and kept outcomes hold: what is accepted keeps its bounds, and comes back from its own bytes.
#![no_main]

use atoll_metadata::{Applied, Command, Entry, Envelope, ManifestBody, Outcome};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entry) = Entry::decode(bytes) {
        bounded(&entry.command);
        let encoded = entry.encode();
        assert_eq!(Entry::decode(&encoded), Ok(entry.clone()));
        assert_eq!(Entry::decode(&encoded).map(|entry| entry.encode()), Ok(encoded));
        assert_eq!(Command::decode(&entry.command.encode()), Ok(entry.command));
    }
    if let Ok(command) = Command::decode(bytes) {
        bounded(&command);
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
    if let Ok(envelope) = Envelope::decode(bytes) {
        assert!([&envelope.actor, &envelope.client_address, &envelope.trace_parent].iter().all(|t| t.len() <= 512));
        assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
    }
    if let Ok(outcome) = Outcome::decode(bytes) {
        assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
    }
    if let Ok(applied) = Applied::decode(bytes) {
        assert_eq!(Applied::decode(&applied.encode()), Ok(applied));
    }
});

/// A command touches a bounded number of keys.
fn bounded(command: &Command) {
    match command {
        Command::PutManifest(put) => {
            assert!(put.references.len() <= Command::REFERENCES_MAX && put.tags.len() <= Command::TAGS_MAX);
            let mut tags: Vec<_> = put.tags.iter().map(|update| &update.tag).collect();
            tags.sort();
            tags.dedup();
            assert_eq!(tags.len(), put.tags.len(), "no tag is moved twice");
            if let ManifestBody::Inline(body) = &put.body {
                assert!(body.len() <= Command::INLINE_BODY_BYTES_MAX);
            }
            assert!(put.annotations.is_none() || put.subject.is_some());
        }
        Command::RecordCopies { copies, .. } => assert!(copies.len() <= Command::ITEMS_MAX),
        Command::DropCopies { copies, .. } => assert!(copies.len() <= Command::ITEMS_MAX),
        Command::ForgetGarbage { objects, .. } => assert!(objects.len() <= Command::ITEMS_MAX),
        Command::CondemnLinks { links } | Command::DropLinks { links } => assert!(links.len() <= Command::ITEMS_MAX),
        _ => {}
    }
}

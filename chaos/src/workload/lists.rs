//! Paged lists.

use serde_json::Value;

use super::Worker;
use super::pushes::own_tag;
use super::world::Put;
use crate::content::Image;
use crate::history::{Listing, Outcome, Span, TagAction, TagAnswer};

/// Pages of one list that are followed.
const PAGES_MAX: usize = 400;
/// Through a barrier: what was acknowledged before has to be there.
const LINEARIZABLE: (&str, &str) = ("atoll-consistency", "linearizable");

impl Worker {
    /// All tags of a repository, a few on each page, each page at another node.
    pub(super) fn list(&mut self, node: usize) -> Option<Outcome> {
        let repository = self.world.repository(&mut self.random);
        let start = self.world.recorder.now();
        let mut path = format!("/v2/{repository}/tags/list?n={}", if self.chance(50) { 7 } else { 25 });
        let mut tags = Vec::new();
        for _ in 0..PAGES_MAX {
            let at = self.node();
            let reply = self.world.clients[at].get(&path, &[LINEARIZABLE]);
            if reply.status() == 404 && tags.is_empty() {
                // Right for a repository in which nothing was ever pushed.
                self.listed(node, repository, start, tags);
                return Some(Outcome::Ok);
            }
            if reply.status() != 200 {
                return Some(Outcome::Failed);
            }
            let next = next(reply.header("link"));
            let page: Value = serde_json::from_slice(&reply.answer()?.body).unwrap_or_default();
            tags.extend(page["tags"].as_array().into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)));
            match next {
                Some(next) => path = next,
                None => {
                    self.listed(node, repository, start, tags);
                    return Some(Outcome::Ok);
                }
            }
        }
        Some(Outcome::Failed)
    }

    /// Pushes what refers to an image, and lists all that does.
    ///
    /// A referrer is written down as a tag of a repository of its own, so that its list is judged as any other.
    pub(super) fn referrers(&mut self, node: usize) -> Option<Outcome> {
        let subject = self.world.pick(&mut self.random)?;
        let image = Image::new(self.world.seed(), Vec::new(), Some(&subject.image));
        let repository = &subject.repository;
        for blob in &image.blobs {
            let outcome = self.world.push_blob(node, repository, blob);
            if outcome != Outcome::Ok {
                return Some(outcome);
            }
        }
        let start = self.world.recorder.now();
        let tag = own_tag(&image);
        let put = Put { keep: true, ..Put::new(repository, &tag, &image) };
        let outcome = self.world.put(node, &put);
        if outcome != Outcome::Ok {
            return Some(outcome);
        }
        let place = format!("{repository}@{}", subject.image.digest);
        let span = Span { node, start, end: self.world.recorder.now() };
        let digest = image.digest.to_string();
        let action = TagAction::Put { digest: digest.clone() };
        self.world.tag_done(&place, &digest, span, action, TagAnswer::Done, None, Some(0));
        let (start, reader) = (self.world.recorder.now(), self.node());
        let path = format!("/v2/{repository}/referrers/{}", subject.image.digest);
        let reply = self.world.clients[reader].get(&path, &[LINEARIZABLE]);
        if reply.status() != 200 || next(reply.header("link")).is_some() {
            return Some(Outcome::Failed);
        }
        let page: Value = serde_json::from_slice(&reply.answer()?.body).unwrap_or_default();
        let of = |m: &Value| m["digest"].as_str().map(str::to_owned);
        self.listed(reader, place, start, page["manifests"].as_array().into_iter().flatten().filter_map(of).collect());
        Some(Outcome::Ok)
    }

    fn listed(&self, node: usize, repository: String, start: u64, tags: Vec<String>) {
        let span = Span { node, start, end: self.world.recorder.now() };
        self.world.recorder.add(|h| h.listings.push(Listing { repository, span, tags }));
    }
}

/// The path of a `Link` to the next page.
fn next(link: &str) -> Option<String> {
    let path = link.strip_prefix('<')?.split_once('>')?.0;
    (!path.is_empty()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_the_next_page() {
        assert_eq!(next("</v2/r/tags/list?n=7&last=a>; rel=\"next\"").as_deref(), Some("/v2/r/tags/list?n=7&last=a"));
        assert_eq!(next(""), None);
    }
}

//! The pulls that are compared between sizes: the same scripts and number of connections at each. Each draws evenly
//! from all that was filled in, so that nothing is asked for more often than anything else.

use crate::content::digest_of;
use crate::results::Round;
use crate::servers::Server;
use crate::wrk::Load;

use super::fill::{Size, TAGS_PER_PAGE, TAGS_PER_REPOSITORY, manifest, page, repository, small};

const CONNECTIONS: u64 = 32;
/// Hexadecimal digits of a digest.
const HEX: usize = 64;

/// A pull that draws from all that is there.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    asked: Asked,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Tag,
    UnknownTag,
    Digest,
    Blob,
    Page,
}

/// All of them.
pub(crate) const PULLS: &[Pull] = &[
    Pull { name: "manifest-tag", title: "manifest GET, any tag of all", asked: Asked::Tag },
    Pull { name: "manifest-digest", title: "manifest GET by digest, any repository's own", asked: Asked::Digest },
    Pull { name: "unknown-tag", title: "GET of an unknown tag, any repository", asked: Asked::UnknownTag },
    Pull { name: "blob-record", title: "blob GET, 64 bytes, any record of all", asked: Asked::Blob },
    Pull { name: "tags-page", title: "a page of 100 tags, any repository", asked: Asked::Page },
];

/// What the scripts are made of, once for a size: digests one behind the other, without what they begin with. As one
/// text they take a thread of wrk 64 bytes each, 1.3 MB for the 20,000 blobs that all 2,000,000 records are of.
#[derive(Debug)]
pub(super) struct Known {
    size: Size,
    manifests: String,
    blobs: String,
}

impl Known {
    pub(super) fn of(size: Size) -> Self {
        let manifests = (0..size.repositories()).map(|number| manifest(number).digest);
        let blobs = (0..size.blobs).map(|number| digest_of(&small(number)));
        Self { size, manifests: joined(manifests), blobs: joined(blobs) }
    }
}

fn joined(digests: impl Iterator<Item = String>) -> String {
    digests.fold(String::new(), |joined, digest| joined + digest.trim_start_matches("sha256:"))
}

impl Pull {
    pub(super) async fn measure(
        &self,
        server: &Server,
        known: &Known,
        seconds: u64,
        round: u32,
    ) -> anyhow::Result<Round> {
        let load = Load {
            path: format!("/v2/{}/tags/list?n=1", repository(0)),
            headers: Vec::new(),
            connections: CONNECTIONS,
            script: self.script(known),
            round,
        };
        let refused = self.asked == Asked::UnknownTag;
        crate::measure::pulls(server, &load, seconds, refused, self.body_bytes(&known.size)).await
    }

    /// Bytes of body that an answer has at least, over many answers.
    fn body_bytes(&self, size: &Size) -> u64 {
        let bytes = match self.asked {
            Asked::Tag | Asked::Digest => manifest(0).body.len(),
            // What a refusal says is the server's own.
            Asked::UnknownTag => 0,
            Asked::Blob => small(0).len(),
            // The last repository may have fewer tags than a page; the others have no shorter names.
            Asked::Page => page(size, 0).len().min(page(size, size.repositories() - 1).len()),
        };
        bytes as u64
    }

    /// Lua that draws a number evenly and asks for what has it; names are those of [`super::fill`].
    fn script(&self, known: &Known) -> String {
        let size = &known.size;
        let (of, digests, path) = match self.asked {
            Asked::Tag => (
                size.tags,
                "",
                format!(
                    "format(\"/v2/bench/scale-%04d/manifests/t%03d\", floor(n / {TAGS_PER_REPOSITORY}), \
                     n % {TAGS_PER_REPOSITORY})"
                ),
            ),
            Asked::UnknownTag => {
                (size.repositories(), "", "format(\"/v2/bench/scale-%04d/manifests/unknown\", n)".to_owned())
            }
            Asked::Digest => (
                size.repositories(),
                known.manifests.as_str(),
                "format(\"/v2/bench/scale-%04d/manifests/%s\", n, digest(n))".to_owned(),
            ),
            Asked::Blob => (
                size.records,
                known.blobs.as_str(),
                format!(
                    "format(\"/v2/bench/%s/blobs/%s\", n < {blobs} and \"blobs\" or \
                     format(\"links-%05d\", floor(n / {blobs}) - 1), digest(n % {blobs}))",
                    blobs = size.blobs
                ),
            ),
            Asked::Page => {
                (size.repositories(), "", format!("format(\"/v2/bench/scale-%04d/tags/list?n={TAGS_PER_PAGE}\", n)"))
            }
        };
        format!(
            "local floor, format, sub = math.floor, string.format, string.sub\n\
             local digests = \"{digests}\"\n\
             local function digest(n) return \"sha256:\" .. sub(digests, n * {HEX} + 1, n * {HEX} + {HEX}) end\n\
             request = function()\n\
             \x20 local n = math.random({of}) - 1\n\
             \x20 return wrk.format(nil, {path})\n\
             end\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { tags: 2_050, blobs: 20, records: 2_000 };

    fn pull(asked: Asked) -> &'static Pull {
        PULLS.iter().find(|pull| pull.asked == asked).unwrap()
    }

    #[test]
    fn each_draws_from_all_that_was_filled_in() {
        let known = Known::of(SIZE);
        let drawn =
            [(Asked::Tag, 2_050), (Asked::Digest, 3), (Asked::UnknownTag, 3), (Asked::Blob, 2_000), (Asked::Page, 3)];
        for (asked, of) in drawn {
            let script = pull(asked).script(&known);
            assert!(script.contains(&format!("local n = math.random({of}) - 1\n")), "{script}");
        }
        let blobs = pull(Asked::Blob).script(&known);
        assert!(blobs.contains("n < 20 and") && blobs.contains("digest(n % 20)"), "{blobs}");
    }

    #[test]
    fn digests_lie_where_the_script_looks_for_them() {
        let known = Known::of(SIZE);
        assert_eq!((known.manifests.len(), known.blobs.len()), (3 * HEX, 20 * HEX));
        let at = |digests: &str, n: usize| format!("sha256:{}", &digests[n * HEX..(n + 1) * HEX]);
        assert_eq!(at(&known.manifests, 2), manifest(2).digest);
        assert_eq!(at(&known.blobs, 19), digest_of(&small(19)));
    }

    #[test]
    fn bodies_are_as_long_as_the_shortest() {
        assert_eq!(pull(Asked::Blob).body_bytes(&SIZE), 64);
        assert_eq!(pull(Asked::Tag).body_bytes(&SIZE), manifest(2).body.len() as u64);
        assert_eq!(pull(Asked::Page).body_bytes(&SIZE), page(&SIZE, 2).len() as u64);
        assert!(page(&SIZE, 2).len() < page(&SIZE, 0).len(), "50 tags");
    }
}

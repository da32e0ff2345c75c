//! The pulls that are compared between sizes: the same script and number of connections at each.

use crate::content::{Image, KIB};
use crate::results::Round;
use crate::servers::Server;
use crate::wrk::Load;

use super::fill::{Size, TAGS_PER_REPOSITORY, repository};

const CONNECTIONS: u64 = 32;

/// A pull that draws from all that is there.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What comes behind the repository: `%s` is the tag.
    path: Path,
}

#[derive(Debug)]
enum Path {
    ByTag,
    UnknownTag,
    ByDigest,
    Blob,
    List,
}

/// All of them.
pub(crate) const PULLS: &[Pull] = &[
    Pull { name: "manifest-tag", title: "manifest GET, any tag of all", path: Path::ByTag },
    Pull { name: "manifest-digest", title: "manifest GET by digest, any repository", path: Path::ByDigest },
    Pull { name: "unknown-tag", title: "GET of an unknown tag, any repository", path: Path::UnknownTag },
    Pull { name: "blob-4k", title: "blob GET, 4 KiB, any repository", path: Path::Blob },
    Pull { name: "tags-page", title: "a page of 100 tags, any repository", path: Path::List },
];

impl Pull {
    pub(super) async fn measure(&self, server: &Server, size: &Size, seconds: u64) -> anyhow::Result<Round> {
        let refused = matches!(self.path, Path::UnknownTag);
        crate::measure::pulls(server, &self.load(size), seconds, refused, 0).await
    }

    fn load(&self, size: &Size) -> Load {
        let image = Image::new(41, 4 * KIB);
        let behind = match self.path {
            Path::ByTag => format!(
                "manifests/t\" .. string.format(\"%03d\", math.random({}) - 1)",
                size.tags.min(TAGS_PER_REPOSITORY)
            ),
            Path::UnknownTag => "manifests/unknown\"".to_owned(),
            Path::ByDigest => format!("manifests/{}\"", image.manifest.digest),
            Path::Blob => format!("blobs/{}\"", image.layer.digest),
            Path::List => "tags/list?n=100\"".to_owned(),
        };
        let repositories = size.tags.div_ceil(TAGS_PER_REPOSITORY);
        // Numbers have four digits, as in `repository`.
        let script = format!(
            "request = function()\n\
             \x20 local repository = string.format(\"%04d\", math.random({repositories}) - 1)\n\
             \x20 return wrk.format(nil, \"/v2/bench/scale-\" .. repository .. \"/{behind})\n\
             end\n"
        );
        let path = format!("/v2/{}/tags/list?n=1", repository(0));
        Load { path, headers: Vec::new(), connections: CONNECTIONS, script }
    }
}

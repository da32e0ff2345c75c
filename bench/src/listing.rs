//! Listing all tags of a repository, page by page as a client follows `Link`: one listing is one operation.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::content::{TAGS, TAGS_COUNT, listed_tag};
use crate::http::{Client, path_of};
use crate::latency::Latencies;

#[derive(Deserialize)]
struct Page {
    tags: Vec<String>,
}

/// Lists by so many clients at once; yields the latencies of whole listings and the time it took.
pub(crate) async fn run(address: SocketAddr, clients: u64, time: Duration) -> anyhow::Result<(Latencies, Duration)> {
    let start = Instant::now();
    let clients = (0..clients).map(|_| tokio::spawn(client(address, time)));
    let mut all = Latencies::new()?;
    for latencies in futures::future::try_join_all(clients).await? {
        all.add(&latencies?)?;
    }
    Ok((all, start.elapsed()))
}

async fn client(address: SocketAddr, time: Duration) -> anyhow::Result<Latencies> {
    let mut client = Client::connect(address).await?;
    let mut latencies = Latencies::new()?;
    let mut right = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let begin = Instant::now();
        let pages = pages(&mut client).await?;
        latencies.record(begin.elapsed());
        // Comparing takes the server less of the processor than reading JSON again.
        if pages != right {
            check(&pages)?;
            right = pages;
        }
    }
    Ok(latencies)
}

async fn pages(client: &mut Client) -> anyhow::Result<Vec<bytes::Bytes>> {
    let mut pages = Vec::new();
    let mut next = Some(format!("/v2/{TAGS}/tags/list?n={TAGS_COUNT}"));
    while let Some(path) = next {
        let answer = client.get(&path).await?;
        if !answer.status.is_success() {
            bail!("{path}: {}", answer.status);
        }
        next = answer.header("link").map(target).transpose()?;
        pages.push(answer.body);
    }
    Ok(pages)
}

/// `</v2/…?n=1000&last=x>; rel="next"`.
fn target(link: &str) -> anyhow::Result<String> {
    let target = link.strip_prefix('<').and_then(|rest| rest.split_once('>')).map(|(target, _)| target);
    path_of(target.with_context(|| format!("Link {link:?} is not understood"))?)
}

/// All tags, each once; some servers sort them and some do not.
fn check(pages: &[bytes::Bytes]) -> anyhow::Result<()> {
    let mut tags = Vec::new();
    for page in pages {
        tags.extend(serde_json::from_slice::<Page>(page).context("a page of tags is not JSON")?.tags);
    }
    tags.sort_unstable();
    if tags.len() != TAGS_COUNT || tags.iter().enumerate().any(|(number, tag)| *tag != listed_tag(number)) {
        bail!("a listing has {} tags, not the {TAGS_COUNT} that were pushed", tags.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_either_form_are_followed() {
        assert_eq!(target("</v2/a/tags/list?n=5&last=x>; rel=\"next\"").unwrap(), "/v2/a/tags/list?n=5&last=x");
        assert_eq!(target("<http://h:1/v2/a/tags/list?last=x>; rel=\"next\"").unwrap(), "/v2/a/tags/list?last=x");
        assert!(target("nonsense").is_err());
    }

    #[test]
    fn a_listing_that_lacks_a_tag_is_wrong() {
        let page = |numbers: std::ops::Range<usize>| {
            let tags: Vec<_> = numbers.map(listed_tag).collect();
            bytes::Bytes::from(serde_json::json!({ "tags": tags }).to_string())
        };
        check(&[page(0..4000), page(4000..TAGS_COUNT)]).unwrap();
        assert!(check(&[page(0..4000), page(4001..TAGS_COUNT)]).is_err());
    }
}

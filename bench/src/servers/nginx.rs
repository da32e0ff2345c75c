//! nginx with the same bytes as static files: what this machine can do at most, with sendfile for what is large and
//! cached descriptors.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use super::{Launch, Server, free_addresses, write};
use crate::content::{Blob, Content, Image, MIXED, PULL, TAGS, TAGS_COUNT, listed_tag};
use crate::rows::blob_path;

/// Files of the site.
const SITE: &str = "site";

pub(super) fn prepare(server: &mut Server, program: &Path) -> anyhow::Result<Vec<Launch<'static>>> {
    let address = free_addresses(1)?[0];
    let site = server.folder.join(SITE);
    std::fs::create_dir_all(&site)?;
    std::fs::write(site.join("ready"), "ready\n")?;
    let folder = server.folder.display();
    let config = write(&server.folder, "nginx.conf", &config(&server.folder, address))?;
    server.http.push(address);
    let log = format!("{folder}/error.log");
    let command = vec![program.display().to_string(), "-c".to_owned(), config, "-e".to_owned(), log];
    Ok(vec![Launch { command, output: "output.0" }])
}

/// As fast as this nginx serves static files that are in the page cache, small ones and large ones, over connections
/// that stay open. Each line is there because nginx is what Atoll is compared with:
///
/// - A worker for each core, and with `reuseport` a queue of connections for each worker: otherwise the worker that
///   wakes first may take most of them. No pinning: the generator wants the same cores.
/// - Files stay open and known, also those that are missing; no log, no `ETag`, and connections never end by count.
/// - Large files by `sendfile`, which copies nothing to nginx. `tcp_nopush` is what makes one stream of head and file:
///   without it the head goes out alone and the client wakes twice: 1 MiB took 1.5 times the processor time of server
///   and client together. It costs four calls of `setsockopt`, two of them for `tcp_nodelay`, which saves none if off.
/// - Small files by `read` and one `writev` of head and body, which is less than those and `sendfile`: nginx took a
///   seventh less processor time for a manifest and a fifth less for 4 KiB, but twice as much for 1 MiB. nginx cannot
///   choose by size, so the small files have locations of their own, an exact one and a prefix; and what is asked
///   for by range is small here.
fn config(folder: &Path, address: SocketAddr) -> String {
    // The workers run as whoever runs this: the folder is nobody else's.
    let user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .concat();
    let small_blob = blob_path(&Content::small_image().layer.digest);
    let small = [format!("/v2/{PULL}/manifests/"), format!("= {small_blob}")]
        .map(|location| format!("location {location} {{ sendfile off; }}\n"))
        .concat();
    let ranges = format!("location /v2/{PULL}/blobs/ {{ if ($http_range) {{ sendfile off; }} }}\n");
    format!(
        "{user}daemon off;\nworker_processes auto;\npid {folder}/pid;\nerror_log {folder}/error.log crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n{temporary}\
         access_log off;\netag off;\nkeepalive_timeout 1h;\nkeepalive_requests 1000000000;\n\
         sendfile on;\ntcp_nopush on;\ntcp_nodelay on;\n\
         open_file_cache max=20000 inactive=1h;\nopen_file_cache_valid 1h;\nopen_file_cache_errors on;\n\
         default_type application/octet-stream;\n\
         server {{\nlisten {address} reuseport;\nroot {folder}/{SITE};\n{small}{ranges}}}\n}}\n"
    )
}

pub(super) fn load(folder: &Path, content: &Content) -> anyhow::Result<()> {
    let site = folder.join(SITE).join("v2");
    image(&site, PULL, "v1", &content.small)?;
    for (mixed, (mb, _)) in content.mixed.iter().zip(MIXED) {
        image(&site, PULL, &mb.to_string(), mixed)?;
    }
    for loose in content.loose() {
        blob(&site, PULL, loose)?;
    }
    if content.tags {
        let tags: Vec<String> = (0..TAGS_COUNT).map(listed_tag).collect();
        let listing = json!({ "name": TAGS, "tags": tags }).to_string();
        file(&site, &format!("{TAGS}/tags/list"), listing.as_bytes())?;
    }
    Ok(())
}

fn image(site: &Path, repository: &str, tag: &str, image: &Image) -> anyhow::Result<()> {
    blob(site, repository, &image.config)?;
    blob(site, repository, &image.layer)?;
    for reference in [tag, &image.manifest.digest] {
        file(site, &format!("{repository}/manifests/{reference}"), &image.manifest.body)?;
    }
    Ok(())
}

fn blob(site: &Path, repository: &str, blob: &Blob) -> anyhow::Result<()> {
    let path = site.join(format!("{repository}/blobs/{}", blob.digest));
    std::fs::create_dir_all(path.parent().unwrap_or(site))?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for frame in blob.frames() {
        file.write_all(&frame)?;
    }
    Ok(file.flush()?)
}

fn file(site: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let path = site.join(name);
    std::fs::create_dir_all(path.parent().unwrap_or(site))?;
    Ok(std::fs::write(path, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_read_and_all_others_sent() {
        let text = config(Path::new("/f"), SocketAddr::from(([127, 0, 0, 1], 80)));
        let small = &Content::small_image().layer.digest;
        assert!(text.contains(&format!("location = /v2/{PULL}/blobs/{small} {{ sendfile off; }}")), "{text}");
        assert!(text.contains(&format!("location /v2/{PULL}/manifests/ {{ sendfile off; }}")), "{text}");
        assert!(text.contains("\nsendfile on;\ntcp_nopush on;\n"), "{text}");
    }
}

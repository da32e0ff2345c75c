//! nginx with the same bytes as static files: what this machine can do at most with sendfile and cached descriptors.

use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use super::{Launch, Server, free_addresses, write};
use crate::content::{Blob, Content, Image, MIXED, PULL, TAGS, TAGS_COUNT, listed_tag};

/// Files of the site.
const SITE: &str = "site";

pub(super) fn prepare(server: &mut Server, program: &Path) -> anyhow::Result<Vec<Launch<'static>>> {
    let address = free_addresses(1)?[0];
    let site = server.folder.join(SITE);
    std::fs::create_dir_all(&site)?;
    std::fs::write(site.join("ready"), "ready\n")?;
    let folder = server.folder.display();
    // The workers run as whoever runs this: the folder is nobody else's.
    let user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .concat();
    let text = format!(
        "{user}daemon off;\nworker_processes auto;\npid {folder}/pid;\nerror_log {folder}/error.log crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n{temporary}\
         access_log off;\nsendfile on;\ntcp_nopush on;\ntcp_nodelay on;\nkeepalive_requests 1000000000;\n\
         open_file_cache max=20000 inactive=1h;\nopen_file_cache_valid 1h;\nopen_file_cache_errors on;\n\
         default_type application/octet-stream;\n\
         server {{ listen {address}; root {site}; }}\n}}\n",
        site = site.display(),
    );
    let config = write(&server.folder, "nginx.conf", &text)?;
    server.http.push(address);
    let log = format!("{folder}/error.log");
    let command = vec![program.display().to_string(), "-c".to_owned(), config, "-e".to_owned(), log];
    Ok(vec![Launch { command, output: "output.0" }])
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

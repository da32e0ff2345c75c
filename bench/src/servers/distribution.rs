//! distribution, of either version: files, an in-memory cache of descriptors, no log of requests.

use std::path::Path;

use super::{Launch, Server, free_addresses, write};

pub(super) fn prepare(server: &mut Server, program: &Path) -> anyhow::Result<Vec<Launch<'static>>> {
    let address = free_addresses(1)?[0];
    let text = format!(
        "version: 0.1\n\
         log: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage:\n  filesystem: {{rootdirectory: {data}}}\n  cache: {{blobdescriptor: inmemory}}\n  \
         maintenance: {{uploadpurging: {{enabled: false}}}}\n\
         http: {{addr: \"{address}\", secret: bench}}\n",
        data = server.folder.join("data").display(),
    );
    let config = write(&server.folder, "config.yml", &text)?;
    server.http.push(address);
    let command = vec![program.display().to_string(), "serve".to_owned(), config];
    Ok(vec![Launch { command, output: "output.0" }])
}

//! How `atoll dev start | stop | restart NODE` reaches the supervisor: one line of JSON each way, over a socket.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::folder::DevFolder;
use super::keeper::{Answer, KeeperHandle};
use super::{Verb, say};
use crate::cli::Failure;

const LINE_BYTES_MAX: u64 = 16 << 10;
const CONNECTIONS_MAX: usize = 16;
/// How long a client may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A restart may take a grace, and then a start.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(70);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    verb: Verb,
    node: String,
}

/// The keepers by the names of their nodes.
pub(super) type Keepers = BTreeMap<String, KeeperHandle>;

/// Asks the supervisor of a folder, and prints what it says.
pub(super) fn ask(folder: &DevFolder, verb: Verb, node: &str) -> Result<(), Failure> {
    let stream = StdUnixStream::connect(folder.socket()).map_err(|error| {
        Failure::Unreachable(format!(
            "no `dev` runs on {} ({error}); start one, or name its folder with --data",
            folder.path().display()
        ))
    })?;
    let answer = exchange(stream, &Request { verb, node: node.to_owned() })?;
    say(answer.map_err(Failure::Failed)?);
    Ok(())
}

fn exchange(mut stream: StdUnixStream, request: &Request) -> anyhow::Result<Answer> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    writeln!(stream, "{}", serde_json::to_string(request)?).context("the supervisor does not listen")?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line).context("the supervisor does not answer")?;
    serde_json::from_str(&line).context("the supervisor ended before it answered")
}

/// Takes the place of a socket that a dead supervisor left; the caller holds the folder's lock.
pub(super) fn listen(folder: &DevFolder) -> anyhow::Result<UnixListener> {
    let path = folder.socket();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    UnixListener::bind(&path)
        .with_context(|| format!("cannot listen on {}; its path may be too long, see --data", path.display()))
}

/// Serves clients until it is dropped.
pub(super) async fn serve(listener: UnixListener, keepers: Arc<Keepers>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let keepers = Arc::clone(&keepers);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &keepers).await {
                        say(format!("a client of dev.sock: {error:#}"));
                    }
                    drop(place);
                });
            }
            Err(error) => {
                say(format!("dev.sock: {error}"));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, keepers: &Keepers) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(LINE_BYTES_MAX));
    let read = timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await.context("said nothing")??;
    if read == 0 {
        return Ok(()); // Somebody who only looked whether this is alive.
    }
    let answer = match serde_json::from_str(&line) {
        Ok(request) => carry_out(request, keepers).await,
        Err(error) => Err(format!("not a request: {error}")),
    };
    writer.write_all(format!("{}\n", serde_json::to_string(&answer)?).as_bytes()).await?;
    Ok(())
}

async fn carry_out(Request { verb, node }: Request, keepers: &Keepers) -> Answer {
    match keepers.get(&node) {
        Some(keeper) => keeper.ask(verb).await,
        None => {
            let names: Vec<&str> = keepers.keys().map(String::as_str).collect();
            Err(format!("there is no node {node:?}; there are {}", names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, DevFolder) {
        let temp = tempfile::tempdir().unwrap();
        let folder = DevFolder::new(Some(temp.path().to_owned())).unwrap();
        (temp, folder)
    }

    #[test]
    fn without_a_supervisor_the_folder_is_named() {
        let (_temp, folder) = folder();
        let failure = ask(&folder, Verb::Stop, "us-east-1").unwrap_err();
        assert!(matches!(&failure, Failure::Unreachable(m) if m.contains(&folder.path().display().to_string())));
    }

    #[tokio::test]
    async fn an_unknown_node_is_refused_with_the_names_there_are() {
        let (_temp, folder) = folder();
        drop(listen(&folder).unwrap()); // What a dead supervisor leaves.
        let listener = listen(&folder).unwrap();
        let program = super::super::process::Program::node(folder.path());
        let files =
            super::super::process::NodeFiles { binary: "none".into(), folder: folder.path().to_owned(), program };
        let (handle, _task) = super::super::keeper::Keeper::spawn(
            "us-east-1".parse().unwrap(),
            "127.0.0.1:1".parse().unwrap(),
            files,
            Default::default(),
            String::new(),
        );
        let server = tokio::spawn(serve(listener, Arc::new(Keepers::from([("us-east-1".into(), handle)]))));
        let failure = tokio::task::spawn_blocking(move || ask(&folder, Verb::Stop, "nowhere-1")).await.unwrap();
        let failure = failure.unwrap_err();
        assert!(
            matches!(&failure, Failure::Failed(m) if m.contains("nowhere-1") && m.contains("us-east-1")),
            "{failure}"
        );
        server.abort();
    }
}

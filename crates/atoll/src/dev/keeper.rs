//! The keeper of one node: the only one that starts, stops and waits for its process.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{anyhow, bail};
use atoll_types::NodeName;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::process::{NodeFiles, Process, describe};
use super::{Verb, probe, say};

/// How long a node may take to listen; below the minute that a script gives `start`.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(50);
/// How long a process that answers no more may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const LISTEN_POLL: Duration = Duration::from_millis(20);
/// Requests that may wait for one node.
const INBOX_MAX: usize = 8;

/// What became of a request, in words.
pub(super) type Answer = Result<String, String>;

/// When the supervisor ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending {
    /// Nodes are to end in good order.
    pub(super) begun: CancellationToken,
    /// Nodes are to be killed.
    pub(super) hurry: CancellationToken,
}

/// Owns a node's process.
#[derive(Debug)]
pub(super) struct Keeper {
    name: NodeName,
    http: SocketAddr,
    files: NodeFiles,
    ending: Ending,
    process: Option<Process>,
    /// How to repeat this supervisor's command line with a verb.
    again: String,
}

/// Asks a keeper.
#[derive(Clone, Debug)]
pub(super) struct KeeperHandle(mpsc::Sender<(Verb, oneshot::Sender<Answer>)>);

impl KeeperHandle {
    /// Has the verb done, and waits until it is.
    pub(super) async fn ask(&self, verb: Verb) -> Answer {
        let (sender, answer) = oneshot::channel();
        let ending = || "the supervisor is ending".to_owned();
        self.0.send((verb, sender)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?
    }
}

impl Keeper {
    /// A keeper of a node that is down. Its task ends, with the node, when `ending` has begun.
    pub(super) fn spawn(
        name: NodeName,
        http: SocketAddr,
        files: NodeFiles,
        ending: Ending,
        again: String,
    ) -> (KeeperHandle, tokio::task::JoinHandle<()>) {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let keeper = Self { name, http, files, ending, process: None, again };
        (KeeperHandle(sender), tokio::spawn(keeper.run(inbox)))
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<(Verb, oneshot::Sender<Answer>)>) {
        loop {
            tokio::select! {
                biased;
                () = self.ending.begun.cancelled() => break,
                status = ended(self.process.as_mut()) => self.report_death(&status),
                Some((verb, answer)) = inbox.recv() => {
                    let outcome = self.do_verb(verb).await.map_err(|error| format!("{error:#}"));
                    // Who asked may have left; what was done stays done.
                    let _ = answer.send(outcome);
                }
            }
        }
        if let Err(error) = self.stop().await {
            say(format!("{}: {error:#}", self.name));
        }
    }

    async fn do_verb(&mut self, verb: Verb) -> anyhow::Result<String> {
        match verb {
            Verb::Start if self.runs().await => bail!("{} runs already; `restart` starts it anew", self.name),
            Verb::Start => self.start().await,
            Verb::Stop if self.process.is_none() => Ok(format!("{} was down already", self.name)),
            Verb::Stop => self.stop().await,
            Verb::Restart => {
                self.stop().await?;
                self.start().await
            }
        }
    }

    /// Whether the node runs. One that does not answer is perhaps ending: whoever killed it and starts it again must
    /// not be told that it runs. That it takes connections proves nothing: the kernel does so until the last thread is
    /// gone.
    async fn runs(&mut self) -> bool {
        if self.process.is_some() && !probe::answers(self.http).await {
            let status = tokio::time::timeout(END_TIMEOUT, ended(self.process.as_mut())).await;
            if let Ok(status) = status {
                self.report_death(&status);
            }
        }
        self.process.is_some()
    }

    /// Done when the node listens for container clients.
    async fn start(&mut self) -> anyhow::Result<String> {
        let mut process = self.files.spawn()?;
        let pid = process.pid().unwrap_or_default();
        let listening = async {
            while !probe::listens(self.http).await {
                sleep(LISTEN_POLL).await;
            }
        };
        let problem = tokio::select! {
            () = listening => None,
            status = process.wait() => Some(format!("it {}", describe(&status))),
            () = sleep(LISTEN_TIMEOUT) => Some(format!("it does not listen after {} s", LISTEN_TIMEOUT.as_secs())),
            () = self.ending.begun.cancelled() => Some("the supervisor is ending".into()),
        };
        let Some(problem) = problem else {
            self.process = Some(process);
            return Ok(format!("{} runs (pid {pid}) on http://{}", self.name, self.http));
        };
        process.stop(&self.ending.hurry).await?;
        let log = self.files.log();
        let tail = self.files.log_tail();
        Err(anyhow!("{} did not start: {problem}; the end of {}:\n    {tail}", self.name, log.display()))
    }

    /// Done when the process is gone.
    async fn stop(&mut self) -> anyhow::Result<String> {
        let Some(process) = self.process.take() else { return Ok(String::new()) };
        let asked = Instant::now();
        let status = process.stop(&self.ending.hurry).await;
        Ok(format!("{} {} after {:.1} s", self.name, describe(&status), asked.elapsed().as_secs_f32()))
    }

    fn report_death(&mut self, status: &std::io::Result<std::process::ExitStatus>) {
        self.process = None;
        say(format!(
            "{} died: {}; its log is {}; start it again with: {} start {}",
            self.name,
            describe(status),
            self.files.log().display(),
            self.again,
            self.name
        ));
    }
}

/// The end of a process; never, if there is none.
async fn ended(process: Option<&mut Process>) -> std::io::Result<std::process::ExitStatus> {
    match process {
        Some(process) => process.wait().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// A keeper of a shell script in place of `atoll`: what is under test here is how processes are kept.
    struct Fixture {
        temp: tempfile::TempDir,
        handle: KeeperHandle,
        task: tokio::task::JoinHandle<()>,
        ending: Ending,
        /// Listens in the script's place.
        listener: Option<std::net::TcpListener>,
    }

    fn keep(script: &str) -> Fixture {
        let temp = tempfile::tempdir().unwrap();
        let binary = temp.path().join("script");
        std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let program = super::super::process::Program::node(temp.path());
        let files = NodeFiles { binary, folder: temp.path().to_owned(), program };
        let ending = Ending::default();
        let http = listener.local_addr().unwrap();
        let (handle, task) = Keeper::spawn("n-1".parse().unwrap(), http, files, ending.clone(), "atoll dev".into());
        Fixture { temp, handle, task, ending, listener: Some(listener) }
    }

    impl Fixture {
        fn pid(&self) -> u32 {
            std::fs::read_to_string(self.temp.path().join("pid")).unwrap().trim().parse().unwrap()
        }

        /// Answers one request in the node's place, if it comes after a connection that asked nothing.
        fn answer_once(&self) {
            let listener = self.listener.as_ref().unwrap().try_clone().unwrap();
            std::thread::spawn(move || {
                while let Ok((mut stream, _)) = listener.accept() {
                    let mut request = [0; 512];
                    if std::io::Read::read(&mut stream, &mut request).unwrap_or(0) > 0 {
                        return std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                    }
                }
            });
        }

        async fn log_has(&self, text: &str) {
            let log = self.temp.path().join("log");
            let written = async {
                while !std::fs::read_to_string(&log).unwrap_or_default().contains(text) {
                    sleep(LISTEN_POLL).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), written).await.unwrap();
        }
    }

    fn is_alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn a_node_is_started_stopped_and_restarted() {
        let node = keep("exec sleep 600");
        node.answer_once();
        node.handle.ask(Verb::Start).await.unwrap();
        let first = node.pid();
        assert!(is_alive(first));
        assert!(node.handle.ask(Verb::Start).await.unwrap_err().contains("runs already"));
        node.handle.ask(Verb::Restart).await.unwrap();
        assert!(!is_alive(first) && is_alive(node.pid()));
        node.handle.ask(Verb::Stop).await.unwrap();
        assert!(!is_alive(node.pid()));
        assert!(node.handle.ask(Verb::Stop).await.unwrap().contains("down already"));
        node.handle.ask(Verb::Start).await.unwrap();
    }

    #[tokio::test]
    async fn a_node_that_is_killed_can_be_started_at_once() {
        // It listens and answers nothing, as a process does that was killed and still has a thread to end.
        let node = keep("exec sleep 600");
        node.handle.ask(Verb::Start).await.unwrap();
        let first = node.pid();
        kill_process(Pid::from_raw(first as i32).unwrap(), Signal::KILL).unwrap();
        node.handle.ask(Verb::Start).await.unwrap();
        assert!(node.pid() != first);
    }

    #[tokio::test]
    async fn a_node_that_dies_stays_down_until_it_is_started() {
        let node = keep("exec sleep 600");
        node.handle.ask(Verb::Start).await.unwrap();
        let pid = Pid::from_raw(i32::try_from(node.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        // `stop` of a node that is down says so: it was noticed, or is by this very request.
        node.handle.ask(Verb::Stop).await.unwrap();
        assert!(node.handle.ask(Verb::Stop).await.unwrap().contains("down already"));
        node.handle.ask(Verb::Start).await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_log_says_why_a_node_did_not_start() {
        let mut node = keep("echo the disk is gone >&2; exit 7");
        node.listener = None;
        let refusal = node.handle.ask(Verb::Start).await.unwrap_err();
        assert!(refusal.contains("exited with code 7") && refusal.contains("the disk is gone"), "{refusal}");
    }

    #[tokio::test]
    async fn ending_takes_the_node_along() {
        let node = keep("exec sleep 600");
        node.handle.ask(Verb::Start).await.unwrap();
        let pid = node.pid();
        node.ending.begun.cancel();
        node.task.await.unwrap();
        assert!(!is_alive(pid));
    }

    #[tokio::test]
    async fn a_stopped_process_ends_too() {
        let node = keep("exec sleep 600");
        node.handle.ask(Verb::Start).await.unwrap();
        let pid = Pid::from_raw(i32::try_from(node.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        node.handle.ask(Verb::Stop).await.unwrap();
        assert!(!is_alive(node.pid()));
    }

    #[tokio::test]
    async fn a_node_that_will_not_end_is_killed_at_once_in_a_hurry() {
        let node = keep("trap '' TERM; echo trapped; while :; do sleep 600 & wait; done");
        node.handle.ask(Verb::Start).await.unwrap();
        node.log_has("trapped").await;
        let asked = Instant::now();
        node.ending.begun.cancel();
        node.ending.hurry.cancel();
        let pid = node.pid();
        node.task.await.unwrap();
        assert!(!is_alive(pid) && asked.elapsed() < Duration::from_secs(5));
    }
}

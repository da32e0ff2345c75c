//! How a command fails: the message for people, and the exit code that scripts rely on.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

/// How long the message may take to be written.
const REPORT_WAIT: Duration = Duration::from_secs(2);

/// A failed command. The messages say what happened, to what, and what to do next.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed, or a check found a difference: exit code 1.
    Failed(String),
    /// The command line is wrong in a way that clap cannot see: exit code 2.
    Usage(String),
    /// The node, or the quorum that it needs, cannot be reached: exit code 3.
    Unreachable(String),
}

impl Failure {
    const fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
        }
    }

    /// Writes the message to standard error and gives the exit code. Standard error that is gone, or that nobody reads, is
    /// no reason to lose the exit code, or never to end.
    pub(crate) fn report(&self) -> ExitCode {
        use std::io::Write;
        let line = format!("atoll: {self}\n");
        let (written, done) = std::sync::mpsc::channel();
        let write = move || {
            let _ = std::io::stderr().write_all(line.as_bytes());
            let _ = written.send(());
        };
        // Where no thread can be had, there is nothing to be said.
        if std::thread::Builder::new().name("report".into()).spawn(write).is_ok() {
            let _ = done.recv_timeout(REPORT_WAIT);
        }
        ExitCode::from(self.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) | Self::Usage(message) | Self::Unreachable(message) => f.write_str(message),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::Failed(error.to_string())
    }
}

//! How a command fails: the message for people, and the exit code that scripts rely on.

use std::fmt;
use std::process::ExitCode;

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

    /// Writes the message to standard error and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        use std::io::Write;
        // Standard error that is gone is no reason to lose the exit code.
        let _ = writeln!(std::io::stderr(), "atoll: {self}");
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

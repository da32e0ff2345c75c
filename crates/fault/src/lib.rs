//! Faults on purpose, inside the product: failpoints before and after every durable step, and planted bugs by which
//! the checkers of `chaos` are proved.
//!
//! A *failpoint* is a place with a name. `ATOLL_FAILPOINTS="log.append.after=kill@3,object.sync.before=error@1"` ends
//! the process at the third visit of the one as SIGKILL does, and has the first visit of the other fail. Names are
//! `<area>.<step>.before` and `<area>.<step>.after`; what fails `before` has not been done, what fails `after` has been
//! and was reported as failed. `ATOLL_FAILPOINTS_VISITS=FILE` has each name appended to FILE at its first visit.
//!
//! A *planted bug* is a mistake of one line that `ATOLL_PLANTED=name,name` switches on, in a build with the feature
//! `planted` alone. They are listed in `chaos/corpus/planted.toml`.
//!
//! The sources are the only list of names: [`sources`] reads them.
//!
//! Architecture invariant: knows no other crate of Atoll. In a release build a failpoint is nothing at all, and so is a
//! planted bug in any build without its feature; in the test profile a failpoint costs one relaxed load.

mod failpoints;
mod planted;
mod rules;
pub mod sources;

pub use failpoints::{COMPILED, Site};
pub use planted::{PLANTED, is_planted};

/// The variable that names failpoints and what they do.
pub const FAILPOINTS_VARIABLE: &str = "ATOLL_FAILPOINTS";
/// The variable that names the file of visited failpoints.
pub const VISITS_VARIABLE: &str = "ATOLL_FAILPOINTS_VISITS";
/// The variable that names planted bugs.
pub const PLANTED_VARIABLE: &str = "ATOLL_PLANTED";

/// The names that a build has.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Failpoints that can only end the process.
    pub failpoints: &'a [&'a str],
    /// Failpoints that can also fail.
    pub failpoints_io: &'a [&'a str],
    /// Planted bugs.
    pub planted: &'a [&'a str],
}

/// What the environment asks for cannot be done.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct FaultError {
    variable: &'static str,
    problem: String,
}

impl FaultError {
    pub(crate) fn new(variable: &'static str, problem: impl Into<String>) -> Self {
        Self { variable, problem: problem.into() }
    }
}

/// Switches on what the environment asks for: once, before the node does anything. Returns what that is, for the log;
/// nothing in a process that shall run as it should. An unknown name or a malformed value is an error, and so is a
/// build that cannot do it: a run that tests nothing must not look like one that found nothing.
pub fn arm(known: &Known<'_>) -> Result<Option<String>, FaultError> {
    let armed = [failpoints::arm(known)?, planted::check(known)?];
    let armed: Vec<String> = armed.into_iter().flatten().collect();
    Ok((!armed.is_empty()).then(|| armed.join("; ")))
}

/// A variable's value; nothing where it is not set or empty.
fn variable(name: &'static str) -> Result<Option<String>, FaultError> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(FaultError::new(name, error.to_string())),
    }
}

/// A place where the process may be ended on purpose.
#[macro_export]
macro_rules! failpoint {
    ($name:expr) => {
        if $crate::COMPILED {
            static SITE: $crate::Site = $crate::Site::new($name);
            SITE.pass();
        }
    };
}

/// A place where the process may be ended, or what is done there may fail, on purpose: an `std::io::Result<()>`.
#[macro_export]
macro_rules! failpoint_io {
    ($name:expr) => {
        if $crate::COMPILED {
            static SITE: $crate::Site = $crate::Site::new($name);
            SITE.try_pass()
        } else {
            ::std::io::Result::Ok(())
        }
    };
}

/// A durable step between two places where the process may be ended: `step!("area.step", what)` is `what` between the
/// failpoints `area.step.before` and `area.step.after`.
#[macro_export]
macro_rules! step {
    ($name:literal, $what:expr) => {{
        $crate::failpoint!(concat!($name, ".before"));
        let done = $what;
        $crate::failpoint!(concat!($name, ".after"));
        done
    }};
}

/// The same for a step that may fail on purpose, too: `step_io!("area.step", error, what)`, where `what` is a `Result` and
/// `error` makes its error of an `std::io::Error`. What fails after the step has been done.
#[macro_export]
macro_rules! step_io {
    ($name:literal, $error:expr, $what:expr) => {
        match $crate::failpoint_io!(concat!($name, ".before")) {
            Ok(()) => match $what {
                Ok(done) => match $crate::failpoint_io!(concat!($name, ".after")) {
                    Ok(()) => Ok(done),
                    Err(error) => Err(($error)(error)),
                },
                Err(error) => Err(error),
            },
            Err(error) => Err(($error)(error)),
        }
    };
}

/// Whether a planted bug is switched on: false, as a constant, without the feature `planted`.
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::PLANTED && $crate::is_planted($name)
    };
}

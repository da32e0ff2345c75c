//! Failpoints: where they are, and what they do when they are armed.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::rules::{self, Action, Rule};
use crate::{FAILPOINTS_VARIABLE, FaultError, Known, VISITS_VARIABLE, variable};

/// Whether this build has failpoints.
pub const COMPILED: bool = cfg!(any(debug_assertions, feature = "failpoints"));

/// Set once, when there is a plan.
static ARMED: AtomicBool = AtomicBool::new(false);
static PLAN: OnceLock<Plan> = OnceLock::new();

/// What the environment asks for.
struct Plan {
    rules: Vec<Rule>,
    /// Where first visits are written down.
    visits: Option<File>,
}

/// One failpoint, made by [`crate::failpoint!`] and [`crate::failpoint_io!`].
pub struct Site {
    name: &'static str,
    visits: AtomicU64,
}

impl Site {
    /// The failpoint of a name, not visited yet.
    pub const fn new(name: &'static str) -> Self {
        Self { name, visits: AtomicU64::new(0) }
    }

    /// Passes by a place that cannot fail.
    #[inline]
    pub fn pass(&'static self) {
        if ARMED.load(Ordering::Relaxed) {
            // An error is refused for such a place when the plan is made.
            let _ = self.visit();
        }
    }

    /// Passes by a place that can fail; the error names the failpoint.
    #[inline]
    pub fn try_pass(&'static self) -> io::Result<()> {
        if ARMED.load(Ordering::Relaxed) { self.visit() } else { Ok(()) }
    }

    #[cold]
    fn visit(&self) -> io::Result<()> {
        let Some(plan) = PLAN.get() else { return Ok(()) };
        let visit = self.visits.fetch_add(1, Ordering::Relaxed) + 1;
        if visit == 1 {
            plan.write_down(self.name);
        }
        match plan.action(self.name, visit) {
            Some(Action::Kill) => kill(self.name, visit),
            Some(Action::Error) => {
                tell(&format!("failpoint {}: visit {visit} fails", self.name));
                Err(io::Error::other(format!("failpoint {}", self.name)))
            }
            None => Ok(()),
        }
    }
}

impl Plan {
    fn action(&self, name: &str, visit: u64) -> Option<Action> {
        self.rules.iter().find(|rule| rule.name == name && rule.visit == visit).map(|rule| rule.action)
    }

    /// One short write to a file that is opened for appending: whole, also when several nodes share the file.
    fn write_down(&self, name: &str) {
        let Some(mut file) = self.visits.as_ref() else { return };
        if let Err(error) = file.write_all(format!("{name}\n").as_bytes()) {
            tell(&format!("failpoint {name}: the visit cannot be written down: {error}"));
        }
    }
}

fn tell(what: &str) {
    // Whoever has closed standard error does not want to know.
    let _ = writeln!(io::stderr(), "{what}");
}

fn kill(name: &str, visit: u64) -> ! {
    tell(&format!("failpoint {name}: killed at visit {visit}"));
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // Only where a process may not send itself a signal.
    std::process::abort()
}

/// Makes the plan that the environment asks for, if it asks for one.
pub(crate) fn arm(known: &Known<'_>) -> Result<Option<String>, FaultError> {
    let (rules, visits) = (variable(FAILPOINTS_VARIABLE)?, variable(VISITS_VARIABLE)?);
    if rules.is_none() && visits.is_none() {
        return Ok(None);
    }
    if !COMPILED {
        let problem = "this build has no failpoints: use one with debug assertions, or with the feature `failpoints`";
        return Err(FaultError::new(FAILPOINTS_VARIABLE, problem));
    }
    let told = format!("failpoints: {}", rules.as_deref().unwrap_or("visits are written down"));
    let rules = rules.map(|text| rules::parse(&text)).transpose();
    let rules = rules.map_err(|problem| FaultError::new(FAILPOINTS_VARIABLE, problem))?.unwrap_or_default();
    rules.iter().try_for_each(|rule| check(rule, known))?;
    let visits = visits.map(|path| open(&path)).transpose()?;
    // A second call changes nothing: the first plan is in force already.
    let _ = PLAN.set(Plan { rules, visits });
    ARMED.store(true, Ordering::Relaxed);
    Ok(Some(told))
}

fn check(rule: &Rule, known: &Known<'_>) -> Result<(), FaultError> {
    let name = rule.name.as_str();
    let (passes, fails) = (known.failpoints.contains(&name), known.failpoints_io.contains(&name));
    let problem = match rule.action {
        _ if !passes && !fails => format!("there is no failpoint {name}"),
        Action::Error if !fails => format!("failpoint {name} stands where nothing can fail; only kill works there"),
        _ => return Ok(()),
    };
    Err(FaultError::new(FAILPOINTS_VARIABLE, problem))
}

fn open(path: &str) -> Result<File, FaultError> {
    let file = File::options().append(true).create(true).open(path);
    file.map_err(|error| FaultError::new(VISITS_VARIABLE, format!("cannot open {path}: {error}")))
}

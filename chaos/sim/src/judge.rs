//! What a run found, and what it counted: a fault that never fired proves nothing, nor does a check that never ran.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::trace::Trace;

/// Something that must never be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Violation {
    /// Which invariant, by its name in the list.
    pub(crate) invariant: String,
    /// What was seen.
    pub(crate) detail: String,
}

/// How often an invariant was looked at, and how long that took in real time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Looked {
    pub(crate) times: u64,
    pub(crate) micros: u64,
}

/// Counts and findings of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// By operation and outcome (ok, failed, unknown).
    pub(crate) operations: BTreeMap<String, [u64; 3]>,
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) looked: BTreeMap<String, Looked>,
    pub(crate) violations: Vec<Violation>,
    /// Tags, manifests and links whose histories are too tangled to find an order in them, or that there is none.
    pub(crate) undecided: u64,
}

/// Where all parts of a run report. Clones are the same judge.
#[derive(Clone)]
pub(crate) struct Judge {
    findings: Arc<Mutex<Findings>>,
    trace: Trace,
}

/// More of the same tell nothing new.
const VIOLATIONS_MAX: usize = 20;

impl Judge {
    pub(crate) fn new(trace: Trace) -> Self {
        Self { findings: Arc::default(), trace }
    }

    pub(crate) fn operation(&self, name: &str, outcome: usize) {
        self.findings.lock().operations.entry(name.to_owned()).or_default()[outcome.min(2)] += 1;
    }

    pub(crate) fn fired(&self, fault: &str) {
        self.fired_times(fault, 1);
    }

    pub(crate) fn fired_times(&self, fault: &str, times: u64) {
        *self.findings.lock().faults.entry(fault.to_owned()).or_default() += times;
    }

    /// A history was too tangled to be searched.
    pub(crate) fn undecided(&self) {
        self.findings.lock().undecided += 1;
    }

    pub(crate) fn violated(&self, invariant: &str, detail: impl Into<String>) {
        let detail = detail.into();
        self.trace.note("JUDGE", &format!("{invariant} violated: {detail}"));
        let mut findings = self.findings.lock();
        if findings.violations.len() < VIOLATIONS_MAX {
            findings.violations.push(Violation { invariant: invariant.to_owned(), detail });
        }
    }

    /// Counts a look, and the time since `start` of it.
    pub(crate) fn looked(&self, invariant: &str, start: Stopwatch) {
        let mut findings = self.findings.lock();
        let looked = findings.looked.entry(invariant.to_owned()).or_default();
        looked.times += 1;
        looked.micros += start.elapsed_micros();
    }

    pub(crate) fn findings(&self) -> Findings {
        self.findings.lock().clone()
    }
}

/// Real time. The usual clocks stand still in a simulation.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Duration);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(now())
    }

    fn elapsed_micros(self) -> u64 {
        u64::try_from(now().saturating_sub(self.0).as_micros()).unwrap_or(u64::MAX)
    }
}

fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

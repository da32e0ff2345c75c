//! Which faults strike which operations, and how often they did.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// An operation of a store, or of its writers, in which a fault may strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the method of its name")]
pub enum Operation {
    Create,
    Write,
    Complete,
    Abort,
    Stat,
    Checksums,
    Read,
    Delete,
    List,
    Identify,
    Probe,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Create,
        Self::Write,
        Self::Complete,
        Self::Abort,
        Self::Stat,
        Self::Checksums,
        Self::Read,
        Self::Delete,
        Self::List,
        Self::Identify,
        Self::Probe,
    ];
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and the answer is `Unavailable`.
    Unavailable,
    /// Nothing is done, and the answer is `Other`, as for a failing disk.
    Broken,
    /// Nothing is done, and the answer is `Full`.
    Full,
    /// Nothing is done, and the answer, `Unavailable`, takes this long.
    Hang(Duration),
    /// All is well, but only after this time.
    Slow(Duration),
    /// It is done, and answered with `Unavailable`.
    LostAnswer,
    /// The body ends early, without an error.
    Cut,
    /// The body ends early, with `Unavailable`.
    Reset,
    /// One bit is wrong: of what is read, of what is written, or of a checksum.
    FlipBit,
    /// The list knows nothing of the latest objects, and still has those that were removed last.
    StaleList,
}

impl Fault {
    /// Whether the fault has a meaning in an operation.
    pub const fn strikes(self, operation: Operation) -> bool {
        use Operation as O;
        match self {
            Self::Unavailable | Self::Broken | Self::Hang(_) | Self::Slow(_) => true,
            Self::Full => matches!(operation, O::Create | O::Write | O::Complete | O::Identify | O::Probe),
            Self::LostAnswer => matches!(operation, O::Complete | O::Abort | O::Delete | O::Identify),
            Self::Cut | Self::Reset => matches!(operation, O::Read),
            Self::FlipBit => matches!(operation, O::Read | O::Write | O::Checksums),
            Self::StaleList => matches!(operation, O::List),
        }
    }
}

/// A rule that can never fire.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "the fault {fault:?} with chance {chance} never strikes in {operation:?}; take another, and a chance above 0 and up to 1"
)]
pub struct InvalidRule {
    /// Where.
    pub operation: Operation,
    /// What.
    pub fault: Fault,
    /// How likely.
    pub chance: f64,
}

/// The faults of a run, in an order: of those that would strike in one call, the first does. Whether one strikes in
/// the n-th call of its operation depends on the seed and n alone, not on what else runs.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    seed: u64,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    operation: Operation,
    fault: Fault,
    chance: f64,
    times_max: u64,
}

impl FaultPlan {
    /// A plan without faults.
    pub fn new(seed: u64) -> Self {
        Self { seed, rules: Vec::new() }
    }

    /// Adds a fault that strikes in a share of the calls of an operation.
    pub fn with(self, operation: Operation, fault: Fault, chance: f64) -> Result<Self, InvalidRule> {
        self.with_at_most(operation, fault, chance, u64::MAX)
    }

    /// The same, with an end: after `times_max` calls that it struck it does so no more.
    pub fn with_at_most(
        mut self,
        operation: Operation,
        fault: Fault,
        chance: f64,
        times_max: u64,
    ) -> Result<Self, InvalidRule> {
        let can_fire = fault.strikes(operation) && chance > 0.0 && chance <= 1.0 && times_max > 0;
        if !can_fire {
            return Err(InvalidRule { operation, fault, chance });
        }
        self.rules.push(Rule { operation, fault, chance, times_max });
        Ok(self)
    }
}

/// How often a fault took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Where.
    pub operation: Operation,
    /// What.
    pub fault: Fault,
    /// How often.
    pub times: u64,
}

impl fmt::Display for Fired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {:?}: {} times", self.fault, self.operation, self.times)
    }
}

/// A plan at work.
pub(super) struct Rules {
    seed: u64,
    rules: Vec<Counted>,
    active: AtomicBool,
}

struct Counted {
    rule: Rule,
    calls: AtomicU64,
    strikes: AtomicU64,
    fired: AtomicU64,
}

/// A fault that is to strike in this call.
pub(super) struct Strike<'a> {
    counted: &'a Counted,
    entropy: u64,
}

impl Rules {
    pub(super) fn new(plan: FaultPlan) -> Self {
        let counted = |rule| Counted { rule, calls: 0.into(), strikes: 0.into(), fired: 0.into() };
        Self { seed: plan.seed, rules: plan.rules.into_iter().map(counted).collect(), active: true.into() }
    }

    pub(super) fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Relaxed);
    }

    /// The fault that strikes in this call, if one does.
    pub(super) fn strike(&self, operation: Operation) -> Option<Strike<'_>> {
        if !self.active.load(Ordering::Relaxed) {
            return None;
        }
        let mut chosen = None;
        for (index, counted) in self.rules.iter().enumerate().filter(|(_, c)| c.rule.operation == operation) {
            // Every rule counts every call, or the first would change when the second strikes.
            let call = counted.calls.fetch_add(1, Ordering::Relaxed);
            let entropy = entropy(self.seed, index as u64, call);
            if chosen.is_none() && chance_of(entropy) < counted.rule.chance && counted.take_strike() {
                chosen = Some(Strike { counted, entropy: entropy.wrapping_mul(0x9e37_79b9_7f4a_7c15) });
            }
        }
        chosen
    }

    pub(super) fn fired(&self) -> Vec<Fired> {
        let one = |counted: &Counted| {
            let (Rule { operation, fault, .. }, times) = (counted.rule, counted.fired.load(Ordering::Relaxed));
            Fired { operation, fault, times }
        };
        self.rules.iter().map(one).collect()
    }
}

impl Counted {
    /// One of the strikes that the rule has; false when they are used up.
    fn take_strike(&self) -> bool {
        let more = |strikes| (strikes < self.rule.times_max).then_some(strikes + 1);
        self.strikes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

impl Strike<'_> {
    pub(super) fn fault(&self) -> Fault {
        self.counted.rule.fault
    }

    /// Random bits that say where in the operation it strikes.
    pub(super) fn entropy(&self) -> u64 {
        self.entropy
    }

    /// Counts it, and gives the message to answer with.
    pub(super) fn fired(&self, what: &str) -> String {
        self.counted.fired.fetch_add(1, Ordering::Relaxed);
        format!("injected in {:?}: {what}", self.counted.rule.operation)
    }
}

fn entropy(seed: u64, rule: u64, call: u64) -> u64 {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&rule.to_le_bytes());
    key[8..].copy_from_slice(&call.to_le_bytes());
    xxh3_64_with_seed(&key, seed)
}

/// A number from 0 up to, not including, 1.
fn chance_of(entropy: u64) -> f64 {
    (entropy >> 11) as f64 / (1_u64 << 53) as f64
}

//! One round: clients at work, faults among them, healing, and a look at everything.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::Run;
use crate::checkers::{Violation, check};
use crate::cluster::{Cluster, NODES, NotBack, REVERTED};
use crate::failpoints::Failpoints;
use crate::faults::{Fault, Firings, Kinds, Now, Scene};
use crate::history::{History, Recorder};
use crate::rest::{self, Ledger};
use crate::wait::wait_for;
use crate::watch::Watch;
use crate::workload::{Workload, World};

/// Acknowledged operations before the first fault, and after the last.
const WARM_UP: usize = 30;
/// How long they may take.
const WARM_UP_WAIT: Duration = Duration::from_secs(60);
/// Images of earlier rounds that are read again.
const AGAIN: usize = 60;
/// Attempts at a fault that has met nothing of what it is about.
const TRIES: usize = 3;

/// What a round needs.
pub(super) struct Round<'a> {
    pub(super) run: &'a Run,
    pub(super) number: u32,
    pub(super) seed: u64,
    pub(super) clients: usize,
    pub(super) random: &'a mut StdRng,
    pub(super) ledger: &'a mut Ledger,
    pub(super) kinds: &'a mut Kinds,
    pub(super) failpoints: Option<&'a mut Failpoints>,
    /// All of what earlier rounds left is read again.
    pub(super) last: bool,
}

/// What came of it.
pub(super) struct Outcomes {
    pub(super) history: History,
    pub(super) fired: Firings,
    pub(super) violations: Vec<Violation>,
}

impl Round<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// When the harness fails. A node that does not come back is a violation.
    pub(super) fn run(mut self, cluster: &mut Cluster) -> anyhow::Result<Outcomes> {
        let recorder = Arc::new(Recorder::new());
        cluster.recorder = Some(recorder.clone());
        let clients = (0..NODES).map(|n| cluster.client(n)).collect();
        let world = Arc::new(World::new(recorder.clone(), clients, self.number, self.seed));
        let watch = Watch::start(cluster.desk.clone(), cluster.pids(), recorder.clone());
        let workload = Workload::start(&world, self.clients, self.seed ^ (u64::from(self.number) << 20));
        let (mut fired, mut found) = (Firings::default(), Vec::new());
        let faults = self.faults(cluster, &world, &mut fired, &mut found);
        cluster.links.heal();
        let stopped = workload.stop().and(watch.stop());
        let back = match tell_apart(faults, &mut found).and_then(|back| stopped.map(|()| back)) {
            Ok(back) => back,
            Err(error) => return self.broken_off(cluster, &recorder, fired, found, error),
        };
        rest::heal(cluster, &recorder);
        // One that has not healed is looked at, too, as long as all nodes answer: that tells why.
        let answers = back && (0..NODES).all(|node| cluster.is_alive(node) && cluster.client(node).ready());
        if answers {
            let again = if self.last { usize::MAX } else { AGAIN };
            rest::audit(cluster, &world, self.ledger, again);
        }
        self.ledger.add(&world);
        found.extend(self.alarms(cluster));
        let history = recorder.finish();
        let mut violations: Vec<Violation> = check(&history);
        if violations.iter().any(|v| v.invariant == "I14") || found.iter().any(|(invariant, _)| *invariant == "I14") {
            // It is known why nobody looked.
            violations.retain(|v| !v.is_unseen());
        }
        violations.extend(found.into_iter().map(|(invariant, what)| Violation { invariant, what }));
        Ok(Outcomes { history, fired, violations })
    }

    /// What nodes said that is a violation. A follower whose log was damaged on purpose may have lost its end.
    fn alarms(&self, cluster: &mut Cluster) -> Vec<(&'static str, String)> {
        let mut alarms = cluster.alarms();
        if self.run.plan.iter().any(|planned| planned.fault == Fault::DamagedLog) {
            alarms.retain(|(_, said)| !said.contains(REVERTED));
        }
        alarms
    }

    /// The harness failed in the midst of it. What was violated until then is told all the same.
    fn broken_off(
        &self,
        cluster: &mut Cluster,
        recorder: &Recorder,
        fired: Firings,
        mut found: Vec<(&'static str, String)>,
        error: anyhow::Error,
    ) -> anyhow::Result<Outcomes> {
        let history = recorder.finish();
        let mut violations = check(&history);
        violations.retain(|v| !v.is_unseen());
        found.extend(self.alarms(cluster));
        violations.extend(found.into_iter().map(|(invariant, what)| Violation { invariant, what }));
        if violations.is_empty() {
            return Err(error);
        }
        println!("the harness failed, too: {error:#}");
        Ok(Outcomes { history, fired, violations })
    }

    fn faults(
        &mut self,
        cluster: &mut Cluster,
        world: &Arc<World>,
        fired: &mut Firings,
        found: &mut Vec<(&'static str, String)>,
    ) -> anyhow::Result<()> {
        if self.failpoints.is_none() {
            warm_up(&world.recorder)?;
        }
        for fault in self.due() {
            world.recorder.add(|h| h.faults.push(fault.name()));
            let (cluster, fired, found) = (&mut *cluster, &mut *fired, &mut *found);
            let (random, kinds, now) = (&mut *self.random, &mut *self.kinds, Now::default());
            let mut scene = Scene { cluster, world, random, fired, kinds, found, now };
            match (&mut self.failpoints, fault) {
                (Some(failpoints), Fault::Failpoint) => failpoints.fire(&mut scene)?,
                _ => fire(&mut scene, fault)?,
            }
        }
        warm_up(&world.recorder)
    }

    /// The faults of this round in their order.
    fn due(&mut self) -> Vec<Fault> {
        let of_round = self.run.plan.iter().filter(|p| self.number.is_multiple_of(p.every));
        let mut due: Vec<Fault> = of_round.flat_map(|p| (0..p.times).map(|_| p.fault)).collect();
        // What damages copies comes last: until then every checker looks.
        due.shuffle(self.random);
        due.sort_by_key(|f| *f == Fault::DamagedBlobs);
        due
    }
}

/// Fires a fault, and again while it has met nothing: one that never does is missing from what the plan asks for.
fn fire(scene: &mut Scene<'_>, fault: Fault) -> anyhow::Result<()> {
    for _ in 0..TRIES {
        if scene.fire(fault)? {
            break;
        }
    }
    Ok(())
}

/// Waits until clients get something done.
fn warm_up(recorder: &Recorder) -> anyhow::Result<()> {
    let enough = recorder.acknowledged() + WARM_UP;
    wait_for("operations are acknowledged", WARM_UP_WAIT, || (recorder.acknowledged() >= enough).then_some(()))
        .map_err(|error| NotBack(format!("{error:#}")).into())
}

/// Whether all nodes came back; that one did not is the cluster's fault, any other failure is the harness's.
fn tell_apart(faults: anyhow::Result<()>, found: &mut Vec<(&'static str, String)>) -> anyhow::Result<bool> {
    match faults {
        Ok(()) => Ok(true),
        Err(error) if error.downcast_ref::<NotBack>().is_some() => {
            found.push(("I14", format!("{error:#}")));
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

//! What a batch came to, as tables.

use comfy_table::Table;

use crate::batch::Batch;

/// Everything that has to fire somewhere in a batch for the batch to count.
const FAULTS: &[&str] = &[
    "answer of a write lost",
    "barrier failed",
    "bit flipped at rest",
    "bridge partition",
    "blob of a manifest pulled in a calm",
    "child of an index kept",
    "child of an index pulled",
    "chunk at a wrong offset",
    "clock jump",
    "connection reset",
    "crash",
    "cut-off node asked",
    "disk full",
    "end of a session repeated",
    "failed sync followed by a crash",
    "flapping link",
    "index put",
    "leader deposed",
    "leader elected",
    "lossy network",
    "message lost",
    "name lost with the power",
    "node applies late",
    "node ended after a failed sync of its log",
    "object cut short at rest",
    "object torn by a crash",
    "one-way partition",
    "partition",
    "session cancelled",
    "slow network",
    "state torn by a crash",
    "store: Broken in Write",
    "store: Cut in Read",
    "store: FlipBit in Checksums",
    "store: FlipBit in Read",
    "store: Hang in Complete",
    "store: Hang in Create",
    "store: Hang in Read",
    "store: LostAnswer in Complete",
    "store: LostAnswer in Delete",
    "store: Reset in Read",
    "store: Slow in Read",
    "store: Slow in Write",
    "store: Unavailable in Complete",
    "store: Unavailable in Create",
    "store: Unavailable in Delete",
    "store: Unavailable in Probe",
    "store: Unavailable in Read",
    "sync of an object failed",
    "sync of an object's name failed",
    "sync of the log failed",
    "unfinished object swept",
    "upload torn",
    "write answered before it was applied",
    "write committed by the next leader",
    "write left without a majority",
    "write lost with its leader",
    "write torn in a log",
    "write without an answer in time",
];

/// Invariants that have to be looked at.
const INVARIANTS: &[&str] = &["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I10", "I11", "I12", "I13", "I14", "I15"];

/// Failed seeds that are told.
const FAILED_TOLD: usize = 10;
/// Of so many seeds, one may have a history that is too tangled to be searched; and so may one in all.
const UNDECIDED_ONE_IN: u64 = 100;

/// The exit code of a batch in which nothing was violated: 3 when it proves less than it says.
pub(crate) fn verdict(batch: &Batch) -> u8 {
    if batch.undecided > 1 && batch.undecided * UNDECIDED_ONE_IN > batch.seeds {
        println!("INVALID: in {} of {} seeds a history was too tangled to be searched", batch.undecided, batch.seeds);
        return 3;
    }
    let faults = FAULTS.iter().filter(|name| !batch.findings.faults.contains_key(**name));
    let looks = INVARIANTS.iter().filter(|name| !batch.findings.looked.contains_key(**name));
    let missing: Vec<&str> = faults.chain(looks).copied().collect();
    if missing.is_empty() {
        println!("nothing violated");
        return 0;
    }
    println!("INVALID: never fired, or never looked at: {}", missing.join(", "));
    3
}

pub(crate) fn print(batch: &Batch) {
    operations(batch);
    faults(batch);
    invariants(batch);
    let (seconds, seeds) = (batch.time.as_secs_f64(), batch.seeds as f64);
    println!(
        "{} seeds in {seconds:.0} s, {:.1}/s; {:.0} hours of virtual time; {} run twice and the same",
        batch.seeds,
        seeds / seconds.max(0.001),
        batch.virtual_ms as f64 / 3_600_000.0,
        batch.repeated
    );
    println!(
        "linearizability: {} histories in {} seeds were too tangled to be searched",
        batch.findings.undecided, batch.undecided
    );
    for (seed, failures) in batch.failed.iter().take(FAILED_TOLD) {
        println!("FAILED seed {seed}:");
        failures.iter().for_each(|failure| println!("  {failure}"));
    }
    if batch.failed.len() > FAILED_TOLD {
        let more: Vec<String> = batch.failed.keys().skip(FAILED_TOLD).map(u64::to_string).collect();
        println!("FAILED too: {}", more.join(" "));
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    table
}

fn operations(batch: &Batch) {
    let mut table = table(&["operation", "ok", "failed", "unknown"]);
    for (name, [ok, failed, unknown]) in &batch.findings.operations {
        table.add_row([name.clone(), ok.to_string(), failed.to_string(), unknown.to_string()]);
    }
    println!("{table}\n");
}

fn faults(batch: &Batch) {
    let mut table = table(&["fault", "fired"]);
    for (name, times) in &batch.findings.faults {
        table.add_row([name.clone(), times.to_string()]);
    }
    println!("{table}\n");
}

fn invariants(batch: &Batch) {
    let mut rows: Vec<_> = batch.findings.looked.iter().collect();
    rows.sort_by_key(|(_, looked)| std::cmp::Reverse(looked.micros));
    let mut table = table(&["invariant", "looked at", "seconds"]);
    for (name, looked) in &rows {
        let seconds = looked.micros as f64 / 1e6;
        table.add_row([(*name).clone(), looked.times.to_string(), format!("{seconds:.2}")]);
    }
    println!("{table}\n");
    if let Some((name, _)) = rows.first() {
        println!("the slowest invariant is {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Looked;

    /// A batch in which everything has fired.
    fn batch(seeds: u64, undecided: u64) -> Batch {
        let mut batch = Batch { seeds, undecided, ..Batch::default() };
        batch.findings.faults = FAULTS.iter().map(|name| ((*name).to_owned(), 1)).collect();
        batch.findings.looked = INVARIANTS.iter().map(|name| ((*name).to_owned(), Looked::default())).collect();
        batch
    }

    #[test]
    fn histories_that_nobody_searched_are_no_proof() {
        for (seeds, undecided, code) in [(60, 0, 0), (60, 1, 0), (60, 2, 3), (200, 2, 0), (200, 3, 3), (10_000, 101, 3)]
        {
            assert_eq!(verdict(&batch(seeds, undecided)), code, "{undecided} of {seeds}");
        }
    }

    #[test]
    fn what_never_fired_is_no_proof() {
        for name in FAULTS {
            let mut batch = batch(500, 0);
            batch.findings.faults.remove(*name);
            assert_eq!(verdict(&batch), 3, "{name}");
        }
    }
}

//! What a person reads of a run, and the evidence that is kept.

use std::path::{Path, PathBuf};

use anyhow::Context;
use comfy_table::{Table, presets};

use super::Run;
use super::plan::Counts;
use crate::checkers::Violation;
use crate::faults::Fault;
use crate::history::{History, Kind};

/// Faults fired, against each kind of operation: how many were under way anywhere, and at the nodes that were touched.
pub(super) fn table(run: &Run, counts: &Counts) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let kinds = Kind::ALL.map(|k| k.name().to_owned());
    table.set_header(["fault".to_owned(), "fired".to_owned()].into_iter().chain(kinds));
    for planned in run.plan {
        let fired = counts.fired.get(&planned.fault).copied().unwrap_or(0);
        let against = Kind::ALL.map(|kind| {
            let met = counts.met(planned.fault, kind);
            format!("{}/{}", met.anywhere, met.there)
        });
        table.add_row([planned.fault.name().to_owned(), fired.to_string()].into_iter().chain(against));
    }
    let told = run.plan.iter().filter_map(|planned| kinds_of(planned.fault, counts));
    [table.to_string()].into_iter().chain(told).collect::<Vec<_>>().join("\n")
}

/// How often each kind of a fault fired, if it has any.
fn kinds_of(fault: Fault, counts: &Counts) -> Option<String> {
    let counted: Vec<String> =
        fault.kinds().iter().map(|kind| format!("{kind} {}", counts.kinds.count(fault, kind))).collect();
    (!counted.is_empty()).then(|| format!("{}: {}", fault.name(), counted.join(", ")))
}

/// One line of a round.
pub(super) fn line(round: u32, history: &History, violations: &[Violation]) -> String {
    use crate::history::Outcome;
    let count = |outcome| history.operations.iter().filter(|o| o.outcome == outcome).count();
    let healed = history
        .healing
        .as_ref()
        .and_then(|h| h.took)
        .map_or_else(|| "not healed".to_owned(), |t| format!("healed in {:.1} s", t.as_secs_f32()));
    format!(
        "round {round}: {} ok, {} failed, {} unknown; {} tags, {} reads, {} lag reports; {healed}; {} violations",
        count(Outcome::Ok),
        count(Outcome::Failed),
        count(Outcome::Unknown),
        history.tags.len(),
        history.reads.len(),
        history.lags.len(),
        violations.len()
    )
}

/// Writes down what is needed to understand a violation.
pub(super) fn keep(folder: &Path, name: &str, history: &History, violations: &[Violation]) -> anyhow::Result<PathBuf> {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let write = |file: &str, bytes: Vec<u8>| {
        std::fs::write(folder.join(file), bytes).with_context(|| format!("cannot write {file}"))
    };
    write("violations.json", serde_json::to_vec_pretty(violations)?)?;
    write("history.json", serde_json::to_vec(history)?)?;
    Ok(folder)
}

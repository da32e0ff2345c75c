//! `cargo xtask bench report`: the tables of docs/benchmarks.md, between markers, from the results.

use std::fmt::Write as _;

use anyhow::{Context, bail};

use crate::args::ReportArgs;
use crate::limits::verdicts;
use crate::results::{Measured, Outcome, Results, RowResult};
use crate::rows::ROWS;
use crate::servers::Kind;
use crate::table::{by_size, number, rate_and_p99, ratio, scale_lines};

const BEGIN: &str = "<!-- bench: begin; written by `cargo xtask bench report` -->";
const END: &str = "<!-- bench: end -->";

/// Writes what is between the markers anew.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let results = Results::read(&args.results)?;
    if results.rows.is_empty() && results.scale.is_empty() {
        bail!("{} has no results; measure first with cargo xtask bench", args.results.display());
    }
    let page = std::fs::read_to_string(&args.page).with_context(|| format!("cannot read {}", args.page.display()))?;
    let page = replaced(&page, &tables(&results)?).with_context(|| args.page.display().to_string())?;
    std::fs::write(&args.page, page).with_context(|| format!("cannot write {}", args.page.display()))?;
    println!("{} has the tables of {}", args.page.display(), args.results.display());
    Ok(())
}

fn replaced(page: &str, tables: &str) -> anyhow::Result<String> {
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("the page lacks {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("the page lacks {END}"))?;
    Ok(format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))
}

fn tables(results: &Results) -> anyhow::Result<String> {
    let mut text = String::new();
    limits(&mut text, results)?;
    rates(&mut text, results)?;
    ratios(&mut text, results)?;
    costs(&mut text, results)?;
    scale(&mut text, results)?;
    settings(&mut text, results)?;
    Ok(text)
}

fn limits(text: &mut String, results: &Results) -> anyhow::Result<()> {
    writeln!(text, "### Limits\n\n| what | limit | figure | |\n|---|---|---|---|")?;
    for verdict in verdicts(results) {
        let figure = verdict.figure.map_or("-".to_owned(), |figure| verdict.bound.figure_text(figure));
        writeln!(text, "| {} | {} | {figure} | {} |", verdict.what, verdict.bound.text(), verdict.text())?;
    }
    Ok(())
}

/// Rows that were measured, with their titles.
fn measured(results: &Results) -> impl Iterator<Item = (&'static str, &'static str, &RowResult)> {
    ROWS.iter().filter_map(|row| Some((row.name, row.title, results.rows.get(row.name)?)))
}

fn rates(text: &mut String, results: &Results) -> anyhow::Result<()> {
    writeln!(text, "\n### Per second, 99th percentile in ms in brackets\n")?;
    header(text, &Kind::ALL)?;
    for (_, title, row) in measured(results) {
        let cell = |kind: &Kind| match row.servers.get(kind) {
            Some(Outcome::Measured(measured)) => rate_and_p99(measured),
            Some(Outcome::Invalid { .. }) => "**invalid**".to_owned(),
            None => String::new(),
        };
        writeln!(text, "| {title} | {} |", Kind::ALL.iter().map(cell).collect::<Vec<_>>().join(" | "))?;
    }
    Ok(())
}

fn header(text: &mut String, kinds: &[Kind]) -> anyhow::Result<()> {
    let names = kinds.iter().map(Kind::to_string).collect::<Vec<_>>().join(" | ");
    Ok(writeln!(text, "| | {names} |\n|---|{}", "---|".repeat(kinds.len()))?)
}

fn ratios(text: &mut String, results: &Results) -> anyhow::Result<()> {
    writeln!(text, "\n### How often Atoll's rate with one region is theirs\n")?;
    header(text, &Kind::ALL[1..])?;
    for (name, title, row) in measured(results) {
        if row.measured(Kind::AtollOne).and_then(Measured::per_second).is_some() && row.servers.len() > 1 {
            let cells: Vec<String> = Kind::ALL[1..].iter().map(|kind| ratio(results, name, *kind)).collect();
            writeln!(text, "| {title} | {} |", cells.join(" | "))?;
        }
    }
    Ok(())
}

/// A figure of a server in a row, and how it is written.
type Cost = (&'static str, fn(&Measured) -> Option<String>);

const COSTS: [Cost; 4] = [
    ("CPU seconds per thousand", |m| Some(number(m.cpu()?.median, 3))),
    ("Peak of memory (VmHWM of the largest process), MiB", |m| Some(number(m.peak_mib()?.median, 0))),
    ("Syncs per push, all nodes", |m| Some(number(m.fsyncs_per_push?, 1))),
    ("Spread of the rounds, percent of the median", |m| {
        Some(number(m.per_second().or(m.p50_ms())?.spread_percent(), 0))
    }),
];

fn costs(text: &mut String, results: &Results) -> anyhow::Result<()> {
    for (name, of) in COSTS {
        writeln!(text, "\n### {name}\n")?;
        header(text, &Kind::ALL)?;
        for (_, title, row) in measured(results) {
            let cell = |kind: &Kind| row.measured(*kind).and_then(of).unwrap_or_default();
            let cells: Vec<String> = Kind::ALL.iter().map(cell).collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                writeln!(text, "| {title} | {} |", cells.join(" | "))?;
            }
        }
    }
    Ok(())
}

fn scale(text: &mut String, results: &Results) -> anyhow::Result<()> {
    let sizes = by_size(results);
    if sizes.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = sizes.iter().map(|size| format!("{} tags", number(size.size.tags as f64, 0))).collect();
    writeln!(text, "\n### At size\n\n| | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()))?;
    for (name, values) in scale_lines(&sizes) {
        writeln!(text, "| {name} | {} |", values.join(" | "))?;
    }
    Ok(())
}

/// Where all was measured; rows that were measured apart have lines apart.
fn settings(text: &mut String, results: &Results) -> anyhow::Result<()> {
    let rows =
        measured(results).map(|(name, _, row)| (name.to_owned(), &row.setting, row.seconds, row.servers.values()));
    writeln!(
        text,
        "\n### Measured on\n\n| row | when | commit | rounds | load average before |\n|---|---|---|---|---|"
    )?;
    let mut machines = Vec::new();
    for (name, setting, seconds, servers) in rows {
        let rounds: Vec<_> =
            servers.filter_map(|s| if let Outcome::Measured(m) = s { Some(&m.rounds) } else { None }).collect();
        let count = rounds.iter().map(|r| r.len()).max().unwrap_or(0);
        let loads = rounds.iter().flat_map(|r| r.iter().map(|round| round.load_average_before));
        let (low, high) = loads.fold((f64::MAX, 0.0_f64), |(low, high), load| (low.min(load), high.max(load)));
        writeln!(
            text,
            "| {name} | {} | {} | {count} of {seconds} s | {low:.1} to {high:.1} |",
            setting.taken, setting.commit
        )?;
        let versions = setting.servers.iter().map(|(kind, version)| format!("{kind}: {version}"));
        let machine = format!(
            "{}, {} cores, {} MiB, {}, {}; {}",
            setting.processor,
            setting.cores,
            setting.memory_mib,
            setting.kernel,
            setting.file_system,
            setting.generator
        );
        machines.extend(std::iter::once(machine).chain(versions));
    }
    for scale in by_size(results) {
        writeln!(text, "| scale, {} | {} | {} | | |", scale.size.name(), scale.setting.taken, scale.setting.commit)?;
    }
    machines.sort();
    machines.dedup();
    writeln!(text)?;
    for machine in machines {
        writeln!(text, "- {machine}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::row;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = format!("# Benchmarks\n\n{BEGIN}\nold\n{END}\n\nWhy.\n");
        let once = replaced(&page, "new").unwrap();
        assert_eq!(once, format!("# Benchmarks\n\n{BEGIN}\n\nnew\n{END}\n\nWhy.\n"));
        assert_eq!(replaced(&once, "new").unwrap(), once);
        assert!(replaced("# Benchmarks\n", "new").is_err());
    }

    #[test]
    fn every_table_is_there_with_its_figures() {
        let mut results = Results::default();
        let rates = [(Kind::AtollOne, 64_000.0, 1.5), (Kind::Distribution, 10_000.0, 10.0)];
        results.rows.insert("manifest-tag".into(), row(&rates));
        let text = tables(&results).unwrap();
        for part in ["### Limits", "| 6.40 | met |", "64,000 (1.5)", "| manifest GET by tag |", "CPU seconds", "Linux"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

//! `cargo xtask bench report`: the tables of docs/benchmarks.md, between markers, from the results, and the results
//! themselves beside it, since target/ is not committed.

use std::fmt::Write as _;

use anyhow::{Context, bail};

use crate::args::ReportArgs;
use crate::limits::verdicts;
use crate::machine::Setting;
use crate::results::{Measured, Outcome, Results, Round, RowResult};
use crate::rows::ROWS;
use crate::servers::Kind;
use crate::table::{by_size, number, other_load, rate_and_latencies, ratio, scale_lines, scale_spreads};

const BEGIN: &str = "<!-- bench: begin; written by `cargo xtask bench report` -->";
const END: &str = "<!-- bench: end -->";

/// Writes what is between the markers anew, and the JSON whole.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let results = Results::read(&args.results)?;
    if results.rows.is_empty() && results.scale.is_empty() {
        bail!("{} has no results; measure first with cargo xtask bench", args.results.display());
    }
    let page = std::fs::read_to_string(&args.page).with_context(|| format!("cannot read {}", args.page.display()))?;
    let page = replaced(&page, &tables(&results)?).with_context(|| args.page.display().to_string())?;
    std::fs::write(&args.page, page).with_context(|| format!("cannot write {}", args.page.display()))?;
    let json = args.page.with_extension("json");
    std::fs::write(&json, results.json()?).with_context(|| format!("cannot write {}", json.display()))?;
    println!("{} has the tables of {}, {} its results", args.page.display(), args.results.display(), json.display());
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
    writeln!(text, "\n### Per second, p50 and p99 in ms in brackets\n")?;
    header(text, &Kind::ALL)?;
    for (_, title, row) in measured(results) {
        let cell = |kind: &Kind| match row.servers.get(kind) {
            Some(Outcome::Measured(measured)) => rate_and_latencies(measured),
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
    writeln!(text, "\n### Spread at size, percent of the median\n\n| | {} |", names.join(" | "))?;
    writeln!(text, "|---|{}", "---|".repeat(names.len()))?;
    for (name, values) in scale_spreads(&sizes) {
        writeln!(text, "| {} | {} |", name.trim_start_matches("spread: "), values.join(" | "))?;
    }
    Ok(())
}

/// Where all was measured; rows that were measured apart have lines apart.
fn settings(text: &mut String, results: &Results) -> anyhow::Result<()> {
    writeln!(
        text,
        "\n### Measured on\n\n| row | when | commit | rounds | load average before | other load at most |\n\
         |---|---|---|---|---|---|"
    )?;
    let mut machines = Vec::new();
    for (name, _, row) in measured(results) {
        let servers: Vec<&Measured> = Kind::ALL.iter().filter_map(|kind| row.measured(*kind)).collect();
        let count = servers.iter().map(|server| server.rounds.len()).max().unwrap_or(0);
        let rounds = servers.iter().flat_map(|server| &server.rounds);
        writeln!(text, "| {name} | {} |", taken(&row.setting, count, row.seconds, rounds))?;
        machines.extend(machine(&row.setting));
    }
    for scale in by_size(results) {
        let count = scale.pulls.values().map(|pull| pull.rounds.len()).max().unwrap_or(0);
        let cells = taken(&scale.setting, count, scale.seconds, scale.rounds());
        writeln!(text, "| scale, {} | {cells} |", scale.size.name())?;
        machines.extend(machine(&scale.setting));
    }
    machines.sort();
    machines.dedup();
    writeln!(text)?;
    for machine in machines {
        writeln!(text, "- {machine}")?;
    }
    Ok(())
}

/// When something was measured, of which commit, in how many rounds of how many seconds, and what ran beside it.
fn taken<'a>(setting: &Setting, count: usize, seconds: u64, rounds: impl Iterator<Item = &'a Round>) -> String {
    let start = (f64::MAX, 0.0_f64, 0.0_f64, false);
    let (low, high, other, disturbed) = rounds.fold(start, |(low, high, other, disturbed), round| {
        let before = round.load_average_before;
        (low.min(before), high.max(before), other.max(round.other_load), disturbed || round.disturbed())
    });
    let loads = if low > high { String::new() } else { format!("{low:.1} to {high:.1}") };
    let other = other_load(other, disturbed);
    format!("{} | {} | {count} of {seconds} s | {loads} | {other}", setting.taken, setting.commit)
}

/// The machine, and the versions of what ran on it.
fn machine(setting: &Setting) -> impl Iterator<Item = String> {
    let Setting { processor, cores, memory_mib, kernel, file_system, generator, .. } = setting;
    let machine = format!("{processor}, {cores} cores, {memory_mib} MiB, {kernel}, {file_system}; {generator}");
    std::iter::once(machine).chain(setting.servers.iter().map(|(kind, version)| format!("{kind}: {version}")))
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
        for part in
            ["### Limits", "| 6.40 | met |", "64,000 (0.75, 1.50)", "| manifest GET by tag |", "CPU seconds", "Linux"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    #[test]
    fn sizes_have_their_rounds_their_spread_and_what_ran_beside_them() {
        let mut results = crate::results::tests::scales(900.0);
        let large = results.scale.get_mut("1000000-tags-2000000-records").unwrap();
        large.pulls.values_mut().for_each(|pull| pull.rounds[0].other_load = 0.4);
        let text = tables(&results).unwrap();
        for part in [
            "### Spread at size",
            "| manifest GET, any tag of all | 1,000 (1.00, 2.00) | 900 (1.00, 2.00) ! |",
            "| start to ready after kill -9 | 22 | 22 |",
            "| scale, 1000-tags-2000-records | 2026-01-01 00:00 UTC | abc | 3 of 5 s | 0.2 to 0.2 | 1 % |",
            "| 3 of 5 s | 0.2 to 0.2 | 40 % ! |",
            "- a processor, 2 cores",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_results_are_written_beside_the_page_and_a_second_time_alike() {
        let temp = tempfile::tempdir().unwrap();
        let args = ReportArgs { results: temp.path().join("results.json"), page: temp.path().join("benchmarks.md") };
        std::fs::write(&args.page, format!("# Benchmarks\n\n{BEGIN}\n{END}\n")).unwrap();
        crate::results::tests::scales(900.0).write(&args.results).unwrap();
        let read = || std::fs::read_to_string(temp.path().join("benchmarks.json")).unwrap();
        run(&args).unwrap();
        let once = read();
        run(&args).unwrap();
        assert!(once.ends_with("}\n") && once == read(), "{once}");
        assert!(Results::read(&temp.path().join("benchmarks.json")).unwrap().scale.len() == 2);
    }
}

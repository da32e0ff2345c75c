//! The tables that a run prints.

use comfy_table::{Table, presets};

use crate::limits;
use crate::results::{Measured, Outcome, Results, RowResult};
use crate::rows::Row;
use crate::scale::Scale;
use crate::servers::Kind;
use crate::stats::Figure;

/// What stands where there is no figure.
const NONE: &str = "-";

/// A row with all that was measured.
pub(crate) fn row(row: &Row, result: &RowResult) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        row.title,
        "per second",
        "spread",
        "p50 ms",
        "p99 ms",
        "CPU s/1000",
        "peak MiB",
        "fsyncs/push",
        "other load",
    ]);
    for (kind, outcome) in &result.servers {
        match outcome {
            Outcome::Measured(measured) => table.add_row(cells(*kind, measured)),
            Outcome::Invalid { reason } => table.add_row([kind.to_string(), format!("INVALID: {reason}")]),
        };
    }
    table.to_string()
}

fn cells(kind: Kind, measured: &Measured) -> Vec<String> {
    let median = |figure: Option<Figure>, digits| figure.map_or(NONE.to_owned(), |f| number(f.median, digits));
    let spread =
        measured.per_second().or(measured.p50_ms()).map_or(NONE.to_owned(), |f| format!("{:.0} %", f.spread_percent()));
    vec![
        kind.to_string(),
        median(measured.per_second(), 0),
        spread,
        median(measured.p50_ms(), 2),
        median(measured.p99_ms(), 2),
        median(measured.cpu(), 3),
        median(measured.peak_mib(), 0),
        measured.fsyncs_per_push.map_or(NONE.to_owned(), |count| number(count, 1)),
        other_load(measured.other_load(), measured.disturbed()),
    ]
}

/// The share of all cores that others took, marked where it was too much.
pub(crate) fn other_load(share: f64, disturbed: bool) -> String {
    format!("{:.0} %{}", share * 100.0, if disturbed { " !" } else { "" })
}

/// Rates of all rows, and how often those of Atoll are those of its peers.
pub(crate) fn ratios(results: &Results, rows: &[&Row], kinds: &[Kind]) -> String {
    let peers: Vec<Kind> = kinds.iter().copied().filter(|kind| *kind != Kind::AtollOne).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let over = peers.iter().map(|peer| format!("atoll-one over {peer}"));
    table.set_header(["row".to_owned(), "atoll-one".to_owned()].into_iter().chain(over));
    for row in rows {
        let rate = results.measured(row.name, Kind::AtollOne).and_then(Measured::per_second);
        let first = [row.name.to_owned(), rate.map_or(NONE.to_owned(), |f| number(f.median, 0))];
        table.add_row(first.into_iter().chain(peers.iter().map(|peer| ratio(results, row.name, *peer))));
    }
    table.to_string()
}

/// Atoll's rate over a peer's.
pub(crate) fn ratio(results: &Results, row: &str, peer: Kind) -> String {
    limits::ratio(results, row, Kind::AtollOne, peer).map_or(NONE.to_owned(), |ratio| number(ratio, 2))
}

/// All sizes.
pub(crate) fn scale(results: &Results) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let sizes: Vec<&Scale> = by_size(results);
    table.set_header(
        [String::new()].into_iter().chain(sizes.iter().map(|s| format!("{} tags", number(s.size.tags as f64, 0)))),
    );
    for (name, values) in scale_lines(&sizes).into_iter().chain(scale_spreads(&sizes)) {
        table.add_row([name].into_iter().chain(values));
    }
    table.to_string()
}

pub(crate) fn by_size(results: &Results) -> Vec<&Scale> {
    let mut sizes: Vec<&Scale> = results.scale.values().collect();
    sizes.sort_by_key(|scale| scale.size.tags);
    sizes
}

/// What is told of each size: a name, and a text for each.
pub(crate) fn scale_lines(sizes: &[&Scale]) -> Vec<(String, Vec<String>)> {
    let line = |name: &str, of: &dyn Fn(&Scale) -> String| line(sizes, name.to_owned(), of);
    let mut lines = vec![
        line("records of blobs in repositories", &|s| number(s.size.records as f64, 0)),
        line("of them different blobs", &|s| number(s.size.blobs as f64, 0)),
        line("filled in, s", &|s| number(s.fill_seconds, 0)),
        line("all asked for once before", &|s| if s.all_asked_before { "yes".to_owned() } else { NONE.to_owned() }),
        line("start to ready after a good end, ms", &|s| number(s.ready_ms.median, 0)),
        line("start to ready after kill -9, ms", &|s| {
            s.ready_after_kill_ms.map_or(NONE.to_owned(), |figure| number(figure.median, 0))
        }),
        line("other load while starting", &|s| other_load(s.starts_other_load, s.starts_disturbed())),
        line("resident when ready, MiB", &|s| number(s.resident_mib.median, 0)),
        line("peak over all pulls, MiB", &|s| number(s.peak_mib, 0)),
        line("newest snapshot, ms", &|s| s.snapshot.map_or(NONE.to_owned(), |made| number(made.ms, 0))),
        line("its files, MiB", &|s| s.snapshot.map_or(NONE.to_owned(), |made| number(made.mib, 1))),
    ];
    for pull in crate::scale::PULLS {
        let of = |s: &Scale| s.pulls.get(pull.name).map_or(NONE.to_owned(), rate_and_latencies);
        lines.push(line(pull.title, &of));
    }
    lines
}

/// How far the rounds and starts of each size lie apart, in percent of the median.
pub(crate) fn scale_spreads(sizes: &[&Scale]) -> Vec<(String, Vec<String>)> {
    let line = |name: &str, of: &dyn Fn(&Scale) -> Option<Figure>| {
        line(sizes, format!("spread: {name}"), &|s| of(s).map_or(NONE.to_owned(), |f| number(f.spread_percent(), 0)))
    };
    let mut lines = vec![
        line("start to ready after a good end", &|s| Some(s.ready_ms)),
        line("start to ready after kill -9", &|s| s.ready_after_kill_ms),
        line("resident when ready", &|s| Some(s.resident_mib)),
    ];
    for pull in crate::scale::PULLS {
        lines.push(line(pull.title, &|s| s.pulls.get(pull.name)?.per_second()));
    }
    lines
}

fn line(sizes: &[&Scale], name: String, of: &dyn Fn(&Scale) -> String) -> (String, Vec<String>) {
    (name, sizes.iter().map(|size| of(size)).collect())
}

/// `12,790 (0.41, 10.7)`, which are p50 and p99; where there is no rate, `p50 1.20, p99 3.40 ms`.
pub(crate) fn rate_and_latencies(measured: &Measured) -> String {
    let (Some(p50), Some(p99)) = (measured.p50_ms(), measured.p99_ms()) else { return NONE.to_owned() };
    let text = match measured.per_second() {
        Some(rate) => format!("{} ({}, {})", rate_text(rate.median), ms_text(p50.median), ms_text(p99.median)),
        None => format!("p50 {}, p99 {} ms", ms_text(p50.median), ms_text(p99.median)),
    };
    if measured.disturbed() { format!("{text} !") } else { text }
}

/// Times below ten milliseconds need their digits.
fn ms_text(ms: f64) -> String {
    number(ms, if ms < 10.0 { 2 } else { 1 })
}

/// Small rates need their digits.
pub(crate) fn rate_text(rate: f64) -> String {
    number(rate, if rate < 10.0 { 1 } else { 0 })
}

/// A number with separators of thousands.
pub(crate) fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::row as result;
    use crate::rows::find;

    #[test]
    fn thousands_are_separated() {
        assert_eq!(number(1_234_567.0, 0), "1,234,567");
        assert_eq!(number(999.0, 1), "999.0");
        assert_eq!(number(-1234.56, 2), "-1,234.56");
        assert_eq!(rate_text(2.345), "2.3");
        assert_eq!((ms_text(0.414), ms_text(33_652.71)), ("0.41".into(), "33,652.7".into()));
    }

    #[test]
    fn ratios_are_of_medians_and_missing_where_a_server_was_not_measured() {
        let mut results = Results::default();
        results
            .rows
            .insert("blob-4k".into(), result(&[(Kind::AtollOne, 50_000.0, 1.0), (Kind::Distribution, 2_000.0, 40.0)]));
        let row = find("blob-4k").unwrap();
        let text = ratios(&results, &[row], &[Kind::AtollOne, Kind::Distribution, Kind::Nginx]);
        assert!(text.contains("25.00") && text.contains("50,000") && text.contains(NONE), "{text}");
    }

    #[test]
    fn sizes_have_both_starts_and_every_spread() {
        let text = scale(&crate::results::tests::scales(900.0));
        for part in ["good end, ms", "kill -9, ms", "900 (1.00, 2.00)", "spread: manifest GET, any tag", "22"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_server_that_answered_wrongly_is_told_loudly() {
        let mut wrong = result(&[]);
        wrong.servers.insert(Kind::Nginx, Outcome::Invalid { reason: "404 instead of 200".into() });
        let text = row(find("blob-4k").unwrap(), &wrong);
        assert!(text.contains("INVALID: 404 instead of 200"), "{text}");
    }
}

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
    let other = measured.rounds.iter().map(|round| round.other_load).fold(0.0, f64::max) * 100.0;
    let mark = if measured.disturbed() { " !" } else { "" };
    vec![
        kind.to_string(),
        median(measured.per_second(), 0),
        spread,
        median(measured.p50_ms(), 2),
        median(measured.p99_ms(), 2),
        median(measured.cpu(), 3),
        median(measured.peak_mib(), 0),
        measured.fsyncs_per_push.map_or(NONE.to_owned(), |count| number(count, 1)),
        format!("{other:.0} %{mark}"),
    ]
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
    for (name, values) in scale_lines(&sizes) {
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
    let line = |name: &str, of: &dyn Fn(&Scale) -> String| (name.to_owned(), sizes.iter().map(|s| of(s)).collect());
    let mut lines = vec![
        line("records of blobs in repositories", &|s| number(s.size.records as f64, 0)),
        line("of them different blobs", &|s| number(s.size.blobs as f64, 0)),
        line("filled in, s", &|s| number(s.fill_seconds, 0)),
        line("start to ready, ms", &|s| number(s.ready_ms.median, 0)),
        line("resident when ready, MiB", &|s| number(s.resident_mib.median, 0)),
        line("peak over all pulls, MiB", &|s| number(s.peak_mib, 0)),
        line("newest snapshot, ms", &|s| s.snapshot.map_or(NONE.to_owned(), |made| number(made.ms, 0))),
        line("its files, MiB", &|s| s.snapshot.map_or(NONE.to_owned(), |made| number(made.mib, 1))),
    ];
    for pull in crate::scale::PULLS {
        let of = |s: &Scale| s.pulls.get(pull.name).map_or(NONE.to_owned(), rate_and_p99);
        lines.push(line(pull.title, &of));
    }
    lines
}

/// `12,790 (10.7)`; where there is no rate, `p50 1.2, p99 3.4 ms`.
pub(crate) fn rate_and_p99(measured: &Measured) -> String {
    let (Some(p50), Some(p99)) = (measured.p50_ms(), measured.p99_ms()) else { return NONE.to_owned() };
    let text = match measured.per_second() {
        Some(rate) => format!("{} ({})", rate_text(rate.median), number(p99.median, 1)),
        None => format!("p50 {}, p99 {} ms", number(p50.median, 1), number(p99.median, 1)),
    };
    if measured.disturbed() { format!("{text} !") } else { text }
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
    fn a_server_that_answered_wrongly_is_told_loudly() {
        let mut wrong = result(&[]);
        wrong.servers.insert(Kind::Nginx, Outcome::Invalid { reason: "404 instead of 200".into() });
        let text = row(find("blob-4k").unwrap(), &wrong);
        assert!(text.contains("INVALID: 404 instead of 200"), "{text}");
    }
}

//! The results, as they are written down: one file, in which a row that is measured again replaces what it was.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::machine::Setting;
use crate::scale::Scale;
use crate::servers::Kind;
use crate::stats::Figure;

/// All that was measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// By name of the row.
    #[serde(default)]
    pub(crate) rows: BTreeMap<String, RowResult>,
    /// By what was filled in, such as `1000-tags-2000-records`.
    #[serde(default)]
    pub(crate) scale: BTreeMap<String, Scale>,
}

/// A row: all servers in one run, in turns.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RowResult {
    pub(crate) setting: Setting,
    /// How long each round of each server took; pushes and samples end what they began.
    pub(crate) seconds: u64,
    pub(crate) servers: BTreeMap<Kind, Outcome>,
}

/// What came of a server in a row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It answered rightly.
    Measured(Measured),
    /// It did not: no figure of this row counts.
    Invalid {
        /// What was wrong.
        reason: String,
    },
}

/// The rounds of a server.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) rounds: Vec<Round>,
    /// Syncs of all nodes for one push, from a run of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fsyncs_per_push: Option<f64>,
}

/// One round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    /// Operations in a second; none where single ones are waited for.
    pub(crate) per_second: Option<f64>,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Operations that the percentiles are of.
    pub(crate) count: u64,
    /// Of all processes of the server, for a thousand operations.
    pub(crate) cpu_seconds_per_thousand: f64,
    /// Of the process that had most.
    pub(crate) peak_mib: f64,
    pub(crate) load_average_before: f64,
    /// The share of all cores that neither the server nor the generator took.
    pub(crate) other_load: f64,
}

/// Above this share the machine was not the bench's alone.
pub(crate) const OTHER_LOAD_MAX: f64 = 0.15;

impl Round {
    /// Whether something else ran meanwhile.
    pub(crate) fn disturbed(&self) -> bool {
        self.other_load > OTHER_LOAD_MAX
    }
}

impl Measured {
    fn figure(&self, of: impl Fn(&Round) -> f64) -> Option<Figure> {
        Figure::of(self.rounds.iter().map(of))
    }

    pub(crate) fn per_second(&self) -> Option<Figure> {
        self.figure(|round| round.per_second.unwrap_or(f64::NAN))
    }

    pub(crate) fn p50_ms(&self) -> Option<Figure> {
        self.figure(|round| round.p50_ms)
    }

    pub(crate) fn p99_ms(&self) -> Option<Figure> {
        self.figure(|round| round.p99_ms)
    }

    pub(crate) fn cpu(&self) -> Option<Figure> {
        self.figure(|round| round.cpu_seconds_per_thousand)
    }

    pub(crate) fn peak_mib(&self) -> Option<Figure> {
        self.figure(|round| round.peak_mib)
    }

    /// The most that others took of all cores in any round.
    pub(crate) fn other_load(&self) -> f64 {
        self.rounds.iter().map(|round| round.other_load).fold(0.0, f64::max)
    }

    pub(crate) fn disturbed(&self) -> bool {
        self.rounds.iter().any(Round::disturbed)
    }
}

impl RowResult {
    /// The rounds of a server, if it answered rightly.
    pub(crate) fn measured(&self, kind: Kind) -> Option<&Measured> {
        match self.servers.get(&kind)? {
            Outcome::Measured(measured) => Some(measured),
            Outcome::Invalid { .. } => None,
        }
    }
}

impl Results {
    /// What a file holds; nothing if there is none.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is not the bench's; remove it", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Writes the file anew, or leaves it as it was.
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        temporary.write_all(self.json()?.as_bytes())?;
        temporary.persist(file).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(())
    }

    /// As JSON whose lines change only where results do: fields in the order in which they are declared, names sorted.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    pub(crate) fn measured(&self, row: &str, kind: Kind) -> Option<&Measured> {
        self.rows.get(row)?.measured(kind)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn round(per_second: f64, p99_ms: f64) -> Round {
        Round {
            per_second: Some(per_second),
            p50_ms: p99_ms / 2.0,
            p99_ms,
            count: 100,
            cpu_seconds_per_thousand: 0.1,
            peak_mib: 50.0,
            load_average_before: 0.2,
            other_load: 0.01,
        }
    }

    /// A row in which each server has three equal rounds.
    pub(crate) fn row(servers: &[(Kind, f64, f64)]) -> RowResult {
        let outcome = |rate, p99| Outcome::Measured(measured(rate, p99));
        let servers = servers.iter().map(|(kind, rate, p99)| (*kind, outcome(*rate, *p99))).collect();
        RowResult { setting: setting(), seconds: 1, servers }
    }

    fn measured(per_second: f64, p99_ms: f64) -> Measured {
        Measured { rounds: vec![round(per_second, p99_ms); 3], fsyncs_per_push: None }
    }

    fn setting() -> Setting {
        Setting {
            taken: "2026-01-01 00:00 UTC".into(),
            commit: "abc".into(),
            processor: "a processor".into(),
            cores: 2,
            memory_mib: 100,
            kernel: "Linux".into(),
            file_system: "ext4".into(),
            generator: "wrk".into(),
            servers: BTreeMap::new(),
        }
    }

    /// Two sizes with three equal rounds of one pull each, of which the large one has the given rate.
    pub(crate) fn scales(large_rate: f64) -> Results {
        let scale = |tags: u64, rate| Scale {
            setting: setting(),
            size: crate::scale::Size { tags, blobs: tags / 50, records: tags * 2 },
            seconds: 5,
            all_asked_before: true,
            fill_seconds: 1.0,
            ready_ms: Figure { median: 200.0, min: 190.0, max: 210.0 },
            ready_after_kill_ms: Some(Figure { median: 900.0, min: 800.0, max: 1000.0 }),
            starts_other_load: 0.01,
            resident_mib: Figure { median: 60.0, min: 60.0, max: 60.0 },
            peak_mib: 100.0,
            snapshot: None,
            pulls: [("manifest-tag".to_owned(), measured(rate, 2.0))].into(),
        };
        let sizes = [scale(1_000, 1_000.0), scale(1_000_000, large_rate)];
        let scale = sizes.into_iter().map(|scale| (scale.size.name(), scale)).collect();
        Results { scale, ..Results::default() }
    }

    #[test]
    fn scale_of_an_earlier_bench_is_read() {
        let mut json = serde_json::to_value(scales(900.0)).unwrap();
        for scale in json["scale"].as_object_mut().unwrap().values_mut() {
            for field in ["seconds", "all_asked_before", "ready_after_kill_ms", "starts_other_load"] {
                scale.as_object_mut().unwrap().remove(field).unwrap();
            }
        }
        let read: Results = serde_json::from_value(json).unwrap();
        assert!(read.scale.values().all(|scale| scale.ready_after_kill_ms.is_none() && scale.seconds == 0));
    }

    #[test]
    fn what_is_written_is_read_again_and_no_file_is_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("sub/results.json");
        assert!(Results::read(&file).unwrap().rows.is_empty());
        let mut results = Results::default();
        let mut invalid = row(&[(Kind::AtollOne, 10.0, 1.0)]);
        invalid.servers.insert(Kind::Nginx, Outcome::Invalid { reason: "404".into() });
        results.rows.insert("blob-4k".into(), invalid);
        results.write(&file).unwrap();
        let read = Results::read(&file).unwrap();
        assert_eq!(read.measured("blob-4k", Kind::AtollOne).unwrap().per_second().unwrap().median, 10.0);
        assert!(read.measured("blob-4k", Kind::Nginx).is_none());
        assert_eq!(read.json().unwrap(), results.json().unwrap());
        std::fs::write(&file, "{").unwrap();
        assert!(Results::read(&file).is_err());
    }
}

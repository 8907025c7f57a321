//! What a run saw, as `run.json`. Its schema is docs/lab-run.schema.json.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::machine::Machine;
use crate::plan::Settings;
use crate::protocol::{Hello, Sample};
use crate::scenario::ScenarioRecord;
use crate::stats::{self, Summary};

/// The version of the format.
pub const FORMAT: u32 = 1;

/// The file's name in a run's directory.
pub const FILE: &str = "run.json";

/// A run: what was asked for, where, and what came out so far.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// [`FORMAT`].
    pub format: u32,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// What measured.
    pub tool: Tool,
    /// Where.
    pub machine: Machine,
    /// What was asked for.
    pub settings: Settings,
    /// Who did it.
    pub workers: Vec<Hello>,
    /// What came out, in the order in which it was measured.
    pub cells: Vec<CellRecord>,
    /// Scenarios that were played.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scenarios: Vec<ScenarioRecord>,
}

/// The program that measured.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tool {
    /// Nabe's version.
    pub version: String,
    /// The commit that it was built from, if it knows.
    pub commit: Option<String>,
}

/// How a cell ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// There are samples, and the group agreed with itself afterwards.
    Measured,
    /// Its budget ended first, or that of its group's preparation. Samples taken before are kept.
    Exceeded,
    /// The implementation has no such thing, or not at this size.
    Unsupported,
    /// It went wrong, or the group did not agree with itself. There are no samples.
    Failed,
}

/// One cell.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CellRecord {
    /// Which.
    #[serde(flatten)]
    pub cell: Cell,
    /// How it ended.
    pub status: Status,
    /// Why, unless it was measured.
    pub reason: Option<String>,
    /// Every sample, in order.
    pub samples: Vec<Sample>,
    /// Sizes in bytes, by name.
    pub bytes: BTreeMap<String, u64>,
    /// Cryptographic operations of one sample, by name.
    pub work: BTreeMap<String, u64>,
    /// The group's tree in numbers, by name.
    pub tree: BTreeMap<String, u64>,
    /// The machine's load of the last minute, before.
    pub load_before: Option<f64>,
    /// And after.
    pub load_after: Option<f64>,
}

impl CellRecord {
    /// Its times in a few numbers, in nanoseconds; `None` without samples.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let times: Vec<f64> = self.samples.iter().map(|sample| sample.ns as f64).collect();
        stats::summarize(&times)
    }

    /// Its times without what it waited for a processor, at least a nanosecond; `None` without samples or if nobody counted.
    #[must_use]
    pub fn net_summary(&self) -> Option<Summary> {
        let net = |sample: &Sample| Some(sample.ns.saturating_sub(sample.waited_ns?).max(1) as f64);
        stats::summarize(&self.samples.iter().map(net).collect::<Option<Vec<_>>>()?)
    }

    /// The share of its time that it waited for a processor, in all samples together; `None` if nobody counted.
    #[must_use]
    pub fn waited_share(&self) -> Option<f64> {
        let waited = self
            .samples
            .iter()
            .map(|sample| sample.waited_ns)
            .sum::<Option<u64>>()?;
        let total: u64 = self.samples.iter().map(|sample| sample.ns).sum();
        (total > 0).then(|| waited as f64 / total as f64)
    }
}

impl Run {
    /// Whether a cell has been dealt with.
    #[must_use]
    pub fn has(&self, cell: &Cell) -> bool {
        self.cells.iter().any(|record| record.cell == *cell)
    }

    /// Whether other work kept the machine busy: the share of cells that began with more than one process for each core.
    #[must_use]
    pub fn busy_share(&self) -> f64 {
        let loads: Vec<f64> = self.cells.iter().filter_map(|cell| cell.load_before).collect();
        let limit = f64::from(self.machine.cores.max(1));
        let busy = loads.iter().filter(|load| **load > limit).count();
        busy as f64 / loads.len().max(1) as f64
    }

    /// Writes `run.json`, whole or not at all.
    ///
    /// # Errors
    /// If the directory cannot be written to.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let unfinished = directory.join("run.json.new");
        fs::write(&unfinished, serde_json::to_vec_pretty(self)?)?;
        fs::rename(unfinished, directory.join(FILE))
    }

    /// Reads a run, from its directory or its file.
    ///
    /// # Errors
    /// Which file cannot be read, and why.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let file = if path.is_dir() {
            path.join(FILE)
        } else {
            path.to_owned()
        };
        let shown = file.display().to_string();
        let bytes = fs::read(&file).map_err(|source| LoadError::Read {
            file: shown.clone(),
            source,
        })?;
        let run: Self = serde_json::from_slice(&bytes).map_err(|source| LoadError::Format {
            file: shown.clone(),
            source,
        })?;
        match run.format {
            FORMAT => Ok(run),
            format => Err(LoadError::Version { file: shown, format }),
        }
    }
}

/// A run cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such file, or not ours to read.
    #[error("{file}: {source}")]
    Read {
        /// Which.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{file} is no run of the lab: {source}")]
    Format {
        /// Which.
        file: String,
        /// Why.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("{file} has format {format}, and this version reads {FORMAT}")]
    Version {
        /// Which.
        file: String,
        /// Its format.
        format: u32,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run in which nothing was measured.
    pub(crate) fn nothing() -> Run {
        Run {
            format: FORMAT,
            started: 0,
            tool: Tool::default(),
            machine: Machine::default(),
            settings: Settings::quick(1),
            workers: Vec::new(),
            cells: Vec::new(),
            scenarios: Vec::new(),
        }
    }
}

//! A run as tables: `cells.csv`, a row for each cell, `samples.csv`, a row for each sample, and `steps.csv`, a row for each step of a scenario.
//! Times in nanoseconds.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use crate::cell::Cell;
use crate::record::Run;

/// Writes them into a directory; `steps.csv` only if there are scenarios.
///
/// # Errors
/// If it cannot be written to.
pub fn save(run: &Run, directory: &Path) -> io::Result<()> {
    fs::write(directory.join("cells.csv"), cells(run))?;
    fs::write(directory.join("samples.csv"), samples(run))?;
    match run.scenarios.is_empty() {
        true => Ok(()),
        false => fs::write(directory.join("steps.csv"), steps(run)),
    }
}

/// A row for each step of a scenario.
#[must_use]
pub fn steps(run: &Run) -> String {
    let mut csv = String::from("scenario,way,phase,step,kind,accepted_ns,followed_ns\n");
    for record in &run.scenarios {
        for phase in &record.phases {
            for (number, step) in phase.steps.iter().enumerate() {
                let _ = writeln!(
                    csv,
                    "{},{},{},{number},{},{},{}",
                    quoted(&record.scenario.name),
                    record.way.name(),
                    quoted(&phase.name),
                    step.kind.name(),
                    step.accepted_ns,
                    step.followed_ns
                );
            }
        }
    }
    csv
}

/// A row for each cell. What was not measured is empty.
#[must_use]
pub fn cells(run: &Run) -> String {
    let names = |kind: fn(&crate::record::CellRecord) -> Vec<&String>| {
        let mut names: Vec<&String> = run.cells.iter().flat_map(kind).collect();
        names.sort();
        names.dedup();
        names
    };
    let bytes = names(|cell| cell.bytes.keys().collect());
    let work = names(|cell| cell.work.keys().collect());
    let tree = names(|cell| cell.tree.keys().collect());
    let mut csv = format!(
        "{CELL},status,reason,samples,median_ns,low_ns,high_ns,confidence,p90_ns,least_ns,waited_share,allocations,peak_bytes,load_before,load_after"
    );
    for (prefix, names) in [("bytes", &bytes), ("work", &work), ("tree", &tree)] {
        for name in names {
            let _ = write!(csv, ",{prefix}_{}", name.replace('-', "_"));
        }
    }
    csv.push('\n');
    for record in &run.cells {
        let summary = record.summary();
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let of = |value: fn(&crate::stats::Summary) -> f64| number(summary.as_ref().map(value));
        let middle = |value: fn(&crate::protocol::Sample) -> Option<u64>| {
            let mut values: Vec<u64> = record.samples.iter().filter_map(value).collect();
            values.sort_unstable();
            values.get(values.len() / 2).map(u64::to_string).unwrap_or_default()
        };
        let status = serde_json::to_value(record.status).unwrap_or_default();
        let mut row = vec![
            cell(&record.cell),
            status.as_str().unwrap_or_default().to_owned(),
            quoted(record.reason.as_deref().unwrap_or_default()),
            record.samples.len().to_string(),
            of(|summary| summary.median),
            of(|summary| summary.low),
            of(|summary| summary.high),
            of(|summary| summary.confidence),
            of(|summary| summary.p90),
            of(|summary| summary.least),
            number(record.waited_share()),
            middle(|sample| sample.allocations),
            middle(|sample| sample.peak_bytes),
            number(record.load_before),
            number(record.load_after),
        ];
        for (values, names) in [(&record.bytes, &bytes), (&record.work, &work), (&record.tree, &tree)] {
            row.extend(
                names
                    .iter()
                    .map(|name| values.get(*name).map(u64::to_string).unwrap_or_default()),
            );
        }
        csv.push_str(&row.join(","));
        csv.push('\n');
    }
    csv
}

/// A row for each sample.
#[must_use]
pub fn samples(run: &Run) -> String {
    let mut csv = format!("{CELL},sample,ns,waited_ns,allocations,peak_bytes\n");
    let or_empty = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    for record in &run.cells {
        for (number, sample) in record.samples.iter().enumerate() {
            let _ = writeln!(
                csv,
                "{},{number},{},{},{},{}",
                cell(&record.cell),
                sample.ns,
                or_empty(sample.waited_ns),
                or_empty(sample.allocations),
                or_empty(sample.peak_bytes)
            );
        }
    }
    csv
}

const CELL: &str = "implementation,suite,shape,size,operation";

fn cell(cell: &Cell) -> String {
    let group = &cell.group;
    format!(
        "{},{},{},{},{}",
        quoted(&group.implementation),
        group.suite,
        group.shape,
        group.size,
        cell.operation
    )
}

/// RFC 4180: what contains a comma, quote or line break goes into quotes, and quotes are doubled.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_row_is_quoted() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
    }
}

//! From a run to what is drawn: for an operation or a size, a curve for each implementation, suite and shape, and the table below it.

use std::fmt::Write as _;

use super::plot::{Curve, Point, STYLES, svg};
use super::text::{escape, number, size, time};
use crate::cell::{Operation, Shape};
use crate::record::{CellRecord, Run, Status};
use crate::stats::{Summary, growth};

/// What has a curve of its own.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Kind {
    implementation: String,
    suite: u16,
    shape: Shape,
}

impl Kind {
    fn of(record: &CellRecord) -> Self {
        let group = &record.cell.group;
        Self {
            implementation: group.implementation.clone(),
            suite: group.suite,
            shape: group.shape,
        }
    }
}

/// All of a run, in the order of their styles.
pub(super) struct Kinds {
    all: Vec<Kind>,
    /// What their names have to tell apart.
    tells_implementation: bool,
    tells_suite: bool,
    /// Whether times are shown without waiting for a processor.
    is_net: bool,
}

/// A plot with its legend and table.
pub(super) struct Figure {
    id: String,
    heading: String,
    explanation: String,
    plot: String,
    legend: Vec<(usize, String)>,
    table: String,
    details: String,
}

impl Figure {
    pub(super) fn write(&self, page: &mut String, kinds: &Kinds) {
        let _ = write!(
            page,
            "<h3 id=\"{}\">{}</h3><p>{}</p>",
            self.id, self.heading, self.explanation
        );
        if !self.plot.is_empty() {
            let _ = write!(page, "<figure>{}<figcaption class=\"legend\">", self.plot);
            for (style, growth) in &self.legend {
                let name = kinds.all.get(*style).map(|kind| kinds.name(kind)).unwrap_or_default();
                let _ = write!(
                    page,
                    "<span class=\"s{}\"><b>{}</b>{growth}</span>",
                    style % STYLES,
                    escape(&name)
                );
            }
            page.push_str("</figcaption></figure>");
        }
        page.push_str(&self.table);
        page.push_str(&self.details);
    }
}

impl Kinds {
    pub(super) fn of(run: &Run) -> Self {
        let mut all: Vec<Kind> = run.cells.iter().map(Kind::of).collect();
        all.sort();
        all.dedup();
        let differs = |of: fn(&Kind) -> String| all.iter().any(|kind| of(kind) != of(&all[0]));
        Self {
            tells_implementation: differs(|kind| kind.implementation.clone()),
            tells_suite: differs(|kind| kind.suite.to_string()),
            is_net: is_net(run),
            all,
        }
    }

    fn times(&self, record: &CellRecord) -> Option<Summary> {
        match self.is_net {
            true => record.net_summary(),
            false => record.summary(),
        }
    }

    fn name(&self, kind: &Kind) -> String {
        let mut words = Vec::new();
        if self.tells_implementation {
            words.push(kind.implementation.clone());
        }
        if self.tells_suite {
            words.push(format!("suite {}", kind.suite));
        }
        words.push(kind.shape.to_string());
        words.join(", ")
    }

    /// An operation's times.
    pub(super) fn operation(&self, run: &Run, operation: Operation) -> Figure {
        let records = self.records(run, operation);
        let point = |record: &CellRecord| {
            let summary = self.times(record)?;
            Some(Point {
                size: record.cell.group.size,
                value: summary.median,
                low: summary.low,
                high: summary.high,
                is_whole: record.status == Status::Measured,
                note: format!(
                    "{}: {} (p90 {}, {} samples)",
                    record.cell,
                    time(summary.median),
                    time(summary.p90),
                    summary.count
                ),
            })
        };
        let cell = |record: &CellRecord| {
            self.times(record).map(|summary| {
                format!(
                    "{} <small>{}…{}, p90 {}, fastest {}, n {}</small>",
                    time(summary.median),
                    time(summary.low),
                    time(summary.high),
                    time(summary.p90),
                    time(summary.least),
                    summary.count
                )
            })
        };
        let curves = self.curves(&records, point);
        Figure {
            id: operation.to_string(),
            heading: format!("<code>{operation}</code>"),
            explanation: format!("To {}.", escape(operation.description())),
            plot: svg(operation.description(), &curves, time),
            legend: legend(&curves),
            table: self.table(&records, cell),
            details: self.details(&records),
        }
    }

    /// How large something is that an operation brings forth.
    pub(super) fn bytes(&self, run: &Run, title: &str, operation: Operation, name: &str) -> Figure {
        let records = self.records(run, operation);
        let of = |record: &CellRecord| record.bytes.get(name).map(|&bytes| bytes as f64);
        let point = |record: &CellRecord| {
            let value = of(record)?;
            Some(Point {
                size: record.cell.group.size,
                value,
                low: value,
                high: value,
                is_whole: true,
                note: format!("{}: {} bytes", record.cell, number(value)),
            })
        };
        let curves = self.curves(&records, point);
        Figure {
            id: format!("bytes-{operation}-{name}"),
            heading: escape(title),
            explanation: format!("<code>{operation}</code>, <code>{name}</code>."),
            plot: svg(title, &curves, size),
            legend: legend(&curves),
            table: self.table(&records, |record| of(record).map(number)),
            details: String::new(),
        }
    }

    /// What Nabe's hub takes of a commit's time beyond OpenMLS's public group: a table, if both were measured.
    pub(super) fn share(&self, run: &Run) -> Option<String> {
        let bare = self.records(run, Operation::HubBare);
        let hub = self.records(run, Operation::Hub);
        let ratio = |record: &CellRecord| {
            let beside = bare.iter().find(|bare| bare.cell.group == record.cell.group)?;
            let (hub, bare) = (self.times(record)?, self.times(beside)?);
            Some(format!(
                "{:.2} <small>fastest {:.2}</small>",
                hub.median / bare.median,
                hub.least / bare.least
            ))
        };
        hub.iter().any(|record| ratio(record).is_some()).then(|| {
            format!(
                "<h3 id=\"share\">Hub beside bare</h3><p>Time of <code>hub</code> divided by time of <code>hub-bare</code>, by medians and by the \
                 fastest samples. What it has to do beyond the commit is mostly to verify the signature over the GroupInfo, which holds the whole tree.</p>{}",
                self.table(&hub, ratio)
            )
        })
    }

    fn records<'r>(&self, run: &'r Run, operation: Operation) -> Vec<&'r CellRecord> {
        let mut records: Vec<_> = run
            .cells
            .iter()
            .filter(|record| record.cell.operation == operation)
            .collect();
        records.sort_by(|one, other| one.cell.cmp(&other.cell));
        records
    }

    fn curves(&self, records: &[&CellRecord], point: impl Fn(&CellRecord) -> Option<Point>) -> Vec<Curve> {
        let curve = |(style, kind): (usize, &Kind)| Curve {
            style,
            points: records
                .iter()
                .filter(|record| Kind::of(record) == *kind)
                .filter_map(|record| point(record))
                .collect(),
        };
        let curves = self.all.iter().enumerate().map(curve);
        curves.filter(|curve| !curve.points.is_empty()).collect()
    }

    /// A row for each size and a column for each kind.
    fn table(&self, records: &[&CellRecord], cell: impl Fn(&CellRecord) -> Option<String>) -> String {
        let kinds: Vec<&Kind> = self
            .all
            .iter()
            .filter(|kind| records.iter().any(|record| Kind::of(record) == **kind))
            .collect();
        let mut sizes: Vec<u32> = records.iter().map(|record| record.cell.group.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let mut table = String::from("<div class=\"scroll\"><table><tr><th>members</th>");
        for kind in &kinds {
            let _ = write!(table, "<th>{}</th>", escape(&self.name(kind)));
        }
        table.push_str("</tr>");
        for size in sizes {
            let _ = write!(table, "<tr><th>{}</th>", number(f64::from(size)));
            for kind in &kinds {
                let record = records
                    .iter()
                    .find(|record| record.cell.group.size == size && Kind::of(record) == **kind);
                match record.map(|record| (record, cell(record))) {
                    Some((_, Some(text))) => {
                        let _ = write!(table, "<td>{text}</td>");
                    }
                    Some((record, None)) => table.push_str(&reason(record)),
                    None => table.push_str("<td></td>"),
                }
            }
            table.push_str("</tr>");
        }
        table.push_str("</table></div>");
        table
    }

    /// What else was counted, folded up.
    fn details(&self, records: &[&CellRecord]) -> String {
        let mut details = String::from(
            "<details><summary>bytes, cryptographic operations, memory, tree</summary><div class=\"scroll\"><table><tr><th>members</th><th></th>\
             <th>bytes</th><th>operations</th><th>allocations</th><th>peak heap</th><th>waited</th><th>load</th><th>tree</th></tr>",
        );
        for record in records.iter().filter(|record| !record.samples.is_empty()) {
            let named = |values: &std::collections::BTreeMap<String, u64>| {
                let values = values.iter().filter(|(_, value)| **value > 0);
                let values = values.map(|(name, value)| format!("{name} {}", number(*value as f64)));
                escape(&values.collect::<Vec<_>>().join(", "))
            };
            let middle = |of: fn(&crate::protocol::Sample) -> Option<u64>| {
                let mut values: Vec<u64> = record.samples.iter().filter_map(of).collect();
                values.sort_unstable();
                values.get(values.len() / 2).map(|&value| value as f64)
            };
            let _ = write!(
                details,
                "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                number(f64::from(record.cell.group.size)),
                escape(&self.name(&Kind::of(record))),
                named(&record.bytes),
                named(&record.work),
                middle(|sample| sample.allocations).map(number).unwrap_or_default(),
                middle(|sample| sample.peak_bytes).map(size).unwrap_or_default(),
                record
                    .waited_share()
                    .map(|share| format!("{:.0} %", share * 100.0))
                    .unwrap_or_default(),
                record.load_before.map(|load| format!("{load:.1}")).unwrap_or_default(),
                named(&record.tree)
            );
        }
        details.push_str("</table></div></details>");
        details
    }
}

/// Where other work kept the machine busy, wall time says more about that work. If all samples know how long they waited, what is shown is
/// the time without that.
pub(super) fn is_net(run: &Run) -> bool {
    let mut samples = run.cells.iter().flat_map(|record| &record.samples);
    run.busy_share() > BUSY && samples.all(|sample| sample.waited_ns.is_some())
}

/// The share of cells that began on a busy machine from which on the report speaks of it.
pub(super) const BUSY: f64 = 0.1;

/// Why there is no figure, short, and whole when a pointer rests on it.
fn reason(record: &CellRecord) -> String {
    let short = match record.status {
        Status::Measured => "",
        Status::Exceeded => "over budget",
        Status::Unsupported => "not supported",
        Status::Failed => "failed",
    };
    let why = record.reason.as_deref().unwrap_or_default();
    format!("<td class=\"why\" title=\"{}\">{short}</td>", escape(why))
}

fn legend(curves: &[Curve]) -> Vec<(usize, String)> {
    let growth_of = |curve: &Curve| {
        let points: Vec<(u32, f64)> = curve.points.iter().map(|point| (point.size, point.value)).collect();
        match growth(&points) {
            Some(growth) => format!(
                " ∝ n<sup>{:.2}</sup> from {} members on (R² {:.2})",
                growth.exponent,
                number(f64::from(growth.from)),
                growth.r_squared
            ),
            None => String::new(),
        }
    };
    curves.iter().map(|curve| (curve.style, growth_of(curve))).collect()
}

//! A run as one page that needs nothing else: plots, tables, and the data to take along.

mod curves;
mod plot;
mod scenarios;
mod text;

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use self::curves::{Figure, Kinds};
use self::text::{date, escape, number};
use crate::cell::Operation;
use crate::csv;
use crate::record::{Run, Status};

pub use self::text::{size, time};

/// Writes `report.html` into a directory.
///
/// # Errors
/// If it cannot be written to.
pub fn save(run: &Run, directory: &Path) -> io::Result<()> {
    fs::write(directory.join("report.html"), html(run)?)
}

/// The page.
///
/// # Errors
/// If the run cannot be encoded as JSON, which does not happen.
pub fn html(run: &Run) -> io::Result<String> {
    let kinds = Kinds::of(run);
    let mut page = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>MLS group operations</title><style>");
    page.push_str(include_str!("report/style.css"));
    page.push_str("</style></head><body>\n");
    head(&mut page, run);
    contents(&mut page, run);
    for (title, operations) in SECTIONS {
        let measured: Vec<_> = operations.iter().filter(|&&operation| has(run, operation)).collect();
        if !measured.is_empty() {
            let _ = write!(page, "<h2>{title}</h2>");
        }
        for &&operation in &measured {
            kinds.operation(run, operation).write(&mut page, &kinds);
        }
        if *title == HUB {
            kinds.share(run).iter().for_each(|table| page.push_str(table));
        }
    }
    scenarios::write(&mut page, run);
    if !run.cells.is_empty() {
        sizes(&mut page, run, &kinds);
        method(&mut page, run);
    }
    data(&mut page, run)?;
    page.push_str("</body></html>\n");
    Ok(page)
}

fn has(run: &Run, operation: Operation) -> bool {
    run.cells.iter().any(|record| record.cell.operation == operation)
}

fn head(page: &mut String, run: &Run) {
    let count = |status| run.cells.iter().filter(|record| record.status == status).count();
    let _ = write!(
        page,
        "<h1>MLS group operations</h1><p class=\"soft\">{} · {} scenarios played; {} cells measured, {} over budget, {} not supported, {} failed</p>",
        date(run.started),
        run.scenarios.len(),
        count(Status::Measured),
        count(Status::Exceeded),
        count(Status::Unsupported),
        count(Status::Failed)
    );
    let warnings = warnings(run);
    if !warnings.is_empty() {
        page.push_str("<div class=\"warn\">");
        for warning in warnings {
            let _ = write!(page, "<p>{}</p>", escape(&warning));
        }
        page.push_str("</div>");
    }
    page.push_str("<dl>");
    for (name, value) in facts(run) {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
    }
    page.push_str("</dl>");
}

/// What a reader should know before believing a number.
fn warnings(run: &Run) -> Vec<String> {
    let mut warnings = Vec::new();
    for worker in run.workers.iter().filter(|worker| worker.build != "release") {
        warnings.push(format!(
            "The worker for {} is a {} build. Its times say nothing about a release build's.",
            worker.implementation, worker.build
        ));
    }
    for worker in &run.workers {
        if let Some(note) = &worker.note {
            warnings.push(format!("{}: {note}.", worker.implementation));
        }
    }
    let busy = run.busy_share();
    if busy > curves::BUSY {
        let shown = match curves::is_net(run) {
            true => {
                "Times here are without what each sample waited for a processor, as the system counted it; run.json has both. They are still too \
                 high, since caches were shared"
            }
            false => "Times are too high, and medians may be far too high; look at the fastest samples",
        };
        warnings.push(format!(
            "Other work kept the machine busy: {:.0} % of the cells began with a load above {}. {shown}. Bytes and counts do not change with load.",
            busy * 100.0,
            run.machine.cores
        ));
    }
    let failed = run
        .cells
        .iter()
        .filter(|record| record.status == Status::Failed)
        .count();
    if failed > 0 {
        warnings.push(format!(
            "{failed} cells failed and have no figures; the tables say why."
        ));
    }
    warnings
}

fn facts(run: &Run) -> Vec<(&'static str, String)> {
    let machine = &run.machine;
    let cells = run.cells.iter().filter_map(|record| record.load_before);
    let loads = cells.chain(run.scenarios.iter().filter_map(|record| record.load_before));
    let (least, greatest) = loads.fold((f64::INFINITY, 0.0_f64), |(least, greatest), load| {
        (least.min(load), greatest.max(load))
    });
    let workers = run.workers.iter().map(|worker| {
        let versions = worker
            .versions
            .iter()
            .map(|(name, version)| format!("{name} {version}"));
        let versions = versions.collect::<Vec<_>>().join(", ");
        format!(
            "{} ({versions}; {} build, threads: {})",
            worker.implementation, worker.build, worker.threads
        )
    });
    let mut facts = vec![
        (
            "Machine",
            format!(
                "{}, {} cores, {} of memory, {}, kernel {}",
                machine.processor,
                machine.cores,
                size(machine.memory_bytes as f64),
                machine.system,
                machine.kernel
            ),
        ),
        ("Implementations", workers.collect::<Vec<_>>().join("; ")),
        (
            "Built from",
            format!(
                "Nabe {}, commit {}",
                run.tool.version,
                run.tool.commit.as_deref().unwrap_or("unknown")
            ),
        ),
        (
            "Method",
            format!(
                "seed {}, up to {} samples after {} to warm up, begun within {}; budget {} a cell",
                run.settings.seed,
                run.settings.samples,
                run.settings.warm_up,
                time(run.settings.sampling_ms as f64 * 1e6),
                time(run.settings.budget_ms as f64 * 1e6)
            ),
        ),
    ];
    if least.is_finite() {
        facts.push(("Load before each", format!("{least:.1} to {greatest:.1}")));
    }
    facts
}

fn contents(page: &mut String, run: &Run) {
    page.push_str("<nav>");
    for operation in Operation::ALL.iter().filter(|&&operation| has(run, operation)) {
        let _ = write!(page, "<a href=\"#{operation}\">{operation}</a>");
    }
    if !run.scenarios.is_empty() {
        page.push_str("<a href=\"#scenarios\">scenarios</a>");
    }
    if !run.cells.is_empty() {
        page.push_str("<a href=\"#bytes\">bytes</a><a href=\"#method\">method</a>");
    }
    page.push_str("<a href=\"#data\">data</a></nav>");
}

/// What goes over the wire, as curves of its own.
fn sizes(page: &mut String, run: &Run, kinds: &Kinds) {
    page.push_str("<h2 id=\"bytes\">Bytes</h2>");
    for (title, operation, name) in SIZES {
        let figure: Figure = kinds.bytes(run, title, *operation, name);
        figure.write(page, kinds);
    }
}

fn method(page: &mut String, run: &Run) {
    let _ = write!(
        page,
        "<h2 id=\"method\">Method</h2>\
         <p>Each group is a process of its own, with one thread, in an order decided by the seed. Samples are timed inside that process. Points are \
         medians; the bars are 95 % confidence intervals from order statistics (with fewer than six samples, the range). A hollow point is a cell whose \
         budget ended before all samples were taken. The exponent is the slope of a straight line through the medians on logarithmic axes, from 100 members \
         on if there are three sizes. After each cell a member commits, all live members and the hub follow, and must agree on epoch, tree hash and epoch \
         authenticator; else the cell has failed. Small print, and what these figures do not say: docs/guides/researcher.md.</p><dl>"
    );
    for shape in &run.settings.shapes {
        let _ = write!(page, "<dt>{shape}</dt><dd>{}</dd>", shape.description());
    }
    page.push_str("</dl>");
}

fn data(page: &mut String, run: &Run) -> io::Result<()> {
    page.push_str("<h2 id=\"data\">Data</h2><p>");
    let files = [
        ("run.json", "application/json", serde_json::to_vec(run)?),
        ("cells.csv", "text/csv", csv::cells(run).into_bytes()),
        ("samples.csv", "text/csv", csv::samples(run).into_bytes()),
        ("steps.csv", "text/csv", csv::steps(run).into_bytes()),
    ];
    for (name, kind, bytes) in files {
        let _ = write!(
            page,
            "<a download=\"{name}\" href=\"data:{kind};base64,{}\">{name}</a> ({}) ",
            STANDARD.encode(&bytes),
            size(bytes.len() as f64)
        );
    }
    let _ = write!(
        page,
        "</p><p class=\"soft\">{} cells, inside this page.</p>",
        number(run.cells.len() as f64)
    );
    Ok(())
}

const HUB: &str = "The hub";

const SECTIONS: &[(&str, &[Operation])] = &[
    (
        "Changing the group",
        &[
            Operation::Update,
            Operation::AddOne,
            Operation::AddMany,
            Operation::AddBatches,
            Operation::Remove,
            Operation::UpdateEveryone,
            Operation::Create,
        ],
    ),
    (
        "Joining and following",
        &[Operation::JoinWelcome, Operation::ExternalJoin, Operation::Process],
    ),
    (
        HUB,
        &[
            Operation::Hub,
            Operation::HubBare,
            Operation::Checkpoint,
            Operation::Restore,
        ],
    ),
    (
        "Messages",
        &[
            Operation::Encrypt,
            Operation::Decrypt,
            Operation::DecryptUnordered,
            Operation::DecryptGap,
            Operation::Export,
        ],
    ),
];

const SIZES: &[(&str, Operation, &str)] = &[
    ("An update's commit", Operation::Update, "commit"),
    ("A commit that adds one member", Operation::AddOne, "commit"),
    ("The Welcome of one member, tree included", Operation::AddOne, "welcome"),
    ("The GroupInfo with the tree", Operation::Update, "group-info"),
    ("What a member has stored", Operation::Process, "stored"),
    ("A hub's checkpoint", Operation::Checkpoint, "stored"),
];

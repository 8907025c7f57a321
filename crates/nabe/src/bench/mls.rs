//! `nabe bench mls`: runs the lab, with OpenMLS measured by a process of this program, and others by their own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nabe_lab::machine::Machine;
use nabe_lab::plan::{Plan, Settings};
use nabe_lab::record::{FILE, FORMAT, Run, Status, Tool};
use nabe_lab::run::{Event, WorkerCommand};
use nabe_lab::{csv, openmls, report, worker};
use nabe_types::UnixMillis;

use crate::InputAtFault;
use crate::cli::{BenchMls, BenchWorker};
use crate::output::{note, progress, say};

/// Plans, measures and writes everything. Returns whether no cell failed.
pub(crate) fn run(arguments: &BenchMls, now: UnixMillis) -> anyhow::Result<bool> {
    let commands = commands(&arguments.workers).context(InputAtFault)?;
    let (directory, mut run) = match &arguments.resume {
        Some(directory) => (directory.clone(), resume(directory, &commands).context(InputAtFault)?),
        None => (
            arguments.out.clone(),
            begin(arguments, &commands, now).context(InputAtFault)?,
        ),
    };
    let plan = Plan::new(&run.settings, &run.workers).context(InputAtFault)?;
    announce(&plan, &run, &directory);
    if arguments.plan {
        return Ok(true);
    }
    run.save(&directory).context("writing run.json").context(InputAtFault)?;
    let is_whole = measure(&plan, &commands, &mut run, &directory)?;
    save(&run, &directory)?;
    if !is_whole {
        bail!(
            "interrupted; what is finished is kept, and `nabe bench mls --resume {}` goes on",
            directory.display()
        );
    }
    sum_up(&run, &directory);
    Ok(run.cells.iter().all(|cell| cell.status != Status::Failed))
}

/// `nabe bench compare`.
pub(crate) fn compare(before: &Path, after: &Path) -> anyhow::Result<()> {
    let load = |path| Run::load(path).context(InputAtFault);
    let comparison = nabe_lab::compare::compare(&load(before)?, &load(after)?);
    say!("{}", comparison.to_string().trim_end());
    Ok(())
}

/// `nabe bench mls-worker`.
pub(crate) fn worker(implementation: BenchWorker) -> anyhow::Result<()> {
    let (input, output) = (io::stdin().lock(), io::stdout().lock());
    match implementation {
        BenchWorker::Openmls => worker::serve(&mut openmls::OpenMls::default(), input, output),
    }
    .context("serving the lab")
}

/// Our own worker, unless another is named like it, and those given.
fn commands(given: &[String]) -> anyhow::Result<Vec<WorkerCommand>> {
    let own = WorkerCommand {
        implementation: openmls::NAME.to_owned(),
        program: std::env::current_exe().context("finding this program")?,
        arguments: ["bench", "mls-worker", openmls::NAME].map(str::to_owned).into(),
    };
    let mut commands = given
        .iter()
        .map(|given| parse_worker(given))
        .collect::<Result<Vec<_>, _>>()?;
    if !commands
        .iter()
        .any(|command| command.implementation == own.implementation)
    {
        commands.insert(0, own);
    }
    Ok(commands)
}

fn parse_worker(given: &str) -> anyhow::Result<WorkerCommand> {
    let parts = given.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, command) = parts.with_context(|| format!("`--worker {given}`: wanted is NAME=COMMAND"))?;
    let mut words = command.split_whitespace().map(str::to_owned);
    let program = words
        .next()
        .with_context(|| format!("`--worker {given}`: there is no command"))?;
    Ok(WorkerCommand {
        implementation: name.to_owned(),
        program: PathBuf::from(program),
        arguments: words.collect(),
    })
}

fn begin(arguments: &BenchMls, commands: &[WorkerCommand], now: UnixMillis) -> anyhow::Result<Run> {
    let file = arguments.out.join(FILE);
    if file.exists() && !arguments.plan {
        bail!(
            "{} holds a run already; `--resume {}` goes on with it, another `--out` begins anew",
            arguments.out.display(),
            arguments.out.display()
        );
    }
    let workers = commands
        .iter()
        .map(nabe_lab::run::hello)
        .collect::<Result<Vec<_>, _>>()?;
    let all = workers.iter().map(|worker| worker.implementation.clone()).collect();
    Ok(Run {
        format: FORMAT,
        started: now.0 / 1000,
        tool: Tool {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
        },
        machine: Machine::here(),
        settings: settings(arguments, all),
        workers,
        cells: Vec::new(),
        scenarios: Vec::new(),
    })
}

fn settings(arguments: &BenchMls, all: Vec<String>) -> Settings {
    let mut settings = match arguments.quick {
        true => Settings::quick(arguments.seed),
        false => Settings::full(arguments.seed),
    };
    let mut is_narrowed = false;
    let mut replace = |is_given: bool| {
        is_narrowed |= is_given;
        is_given
    };
    if replace(!arguments.sizes.is_empty()) {
        settings.sizes.clone_from(&arguments.sizes);
    }
    if replace(!arguments.shapes.is_empty()) {
        settings.shapes.clone_from(&arguments.shapes);
    }
    if !arguments.operations.is_empty() {
        settings.operations.clone_from(&arguments.operations);
    }
    if !arguments.suites.is_empty() {
        settings.suites.clone_from(&arguments.suites);
    }
    settings.implementations = match arguments.implementations.is_empty() {
        true => all,
        false => arguments.implementations.clone(),
    };
    // Who names sizes or shapes wants those.
    settings.thinned &= !is_narrowed;
    if let Some(samples) = arguments.samples {
        settings.samples = samples;
    }
    if let Some(seconds) = arguments.budget {
        settings.budget_ms = seconds * 1000;
        settings.sampling_ms = settings.sampling_ms.min(settings.budget_ms / 2);
    }
    settings
}

/// Figures of two versions must not stand in one run.
fn resume(directory: &Path, commands: &[WorkerCommand]) -> anyhow::Result<Run> {
    let run = Run::load(directory)?;
    for wanted in &run.workers {
        let command = commands
            .iter()
            .find(|command| command.implementation == wanted.implementation);
        let command = command.with_context(|| {
            format!(
                "the run was begun with a worker for `{}`; name it again by --worker",
                wanted.implementation
            )
        })?;
        if nabe_lab::run::hello(command)? != *wanted {
            bail!(
                "the worker for `{}` is not the one that the run was begun with",
                wanted.implementation
            );
        }
    }
    if run.machine != Machine::here() {
        bail!("the run was begun on another machine, or another kernel");
    }
    Ok(run)
}

/// The commit of the repository that this program lies in.
pub(super) fn commit() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let output = Command::new("git")
        .arg("-C")
        .arg(program.parent()?)
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| commit.trim().to_owned())
}

fn announce(plan: &Plan, run: &Run, directory: &Path) {
    let estimate = plan.estimate(&run.settings);
    note!(
        "{} cells in {} groups, about {}; into {}",
        plan.cells(),
        plan.groups.len(),
        duration(estimate),
        directory.display()
    );
    if !run.cells.is_empty() {
        note!("{} cells are there already", run.cells.len());
    }
    let slow = run.workers.iter().filter(|worker| worker.build != "release");
    for worker in slow {
        note!(
            "nabe: warning: the worker for {} is a {} build: its times mean nothing",
            worker.implementation,
            worker.build
        );
    }
    let load = nabe_lab::machine::load().unwrap_or(0.0);
    if load > f64::from(run.machine.cores) / 2.0 {
        note!("nabe: warning: the machine is busy (load {load:.1}): times will be too high");
    }
}

/// Measures what is left. Ctrl-C ends it after what is finished.
fn measure(plan: &Plan, commands: &[WorkerCommand], run: &mut Run, directory: &Path) -> anyhow::Result<bool> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = crate::runtime()?;
    let stopper = Arc::clone(&stop);
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopper.store(true, Relaxed);
        }
    });
    let mut unsaved = Ok(());
    let mut last = String::new();
    let watch = &mut |event: Event<'_>| match event {
        Event::Preparing { group } => progress(format_args!("{last}preparing {group}")),
        Event::Measuring { cell } => progress(format_args!("{last}{cell}")),
        Event::Done {
            done, of, remaining, ..
        } => last = format!("{done}/{of}, {} left: ", duration(remaining)),
        Event::GroupDone { run } => {
            unsaved = run.save(directory);
            if unsaved.is_err() {
                stop.store(true, Relaxed);
            }
        }
    };
    let is_whole = nabe_lab::run::run(plan, commands, run, &stop, watch);
    progress(format_args!(""));
    unsaved.context("writing run.json")?;
    Ok(is_whole?)
}

fn save(run: &Run, directory: &Path) -> anyhow::Result<()> {
    run.save(directory).context("writing run.json")?;
    csv::save(run, directory).context("writing the CSV files")?;
    report::save(run, directory).context("writing report.html")
}

fn sum_up(run: &Run, directory: &Path) {
    let count = |status| run.cells.iter().filter(|cell| cell.status == status).count();
    say!(
        "{} cells measured, {} over budget, {} not supported, {} failed",
        count(Status::Measured),
        count(Status::Exceeded),
        count(Status::Unsupported),
        count(Status::Failed)
    );
    for cell in run
        .cells
        .iter()
        .filter(|cell| matches!(cell.status, Status::Exceeded | Status::Failed))
    {
        note!("{}: {}", cell.cell, cell.reason.as_deref().unwrap_or_default());
    }
    let busy = run.busy_share();
    if busy > 0.1 {
        note!(
            "nabe: warning: the machine was busy for {:.0} % of the cells; the report says so",
            busy * 100.0
        );
    }
    say!("{}", directory.join("report.html").display());
}

fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 60 => format!("{} s", seconds.max(1)),
        seconds if seconds < 3600 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_a_name_and_a_command() {
        let worker = parse_worker("mls-rs=./worker --fast").unwrap();
        assert_eq!(worker.implementation, "mls-rs");
        assert_eq!(
            (worker.program, worker.arguments),
            ("./worker".into(), vec!["--fast".to_owned()])
        );
        for wrong in ["./worker", "=./worker", "mls-rs="] {
            assert!(
                parse_worker(wrong).unwrap_err().to_string().starts_with("`--worker "),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_worker_of_our_own_s_name_takes_its_place() {
        let names = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|given| (*given).to_owned()).collect();
            commands(&given)
                .unwrap()
                .into_iter()
                .map(|command| command.implementation)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["openmls"]);
        assert_eq!(names(&["x=y"]), ["openmls", "x"]);
        assert_eq!(names(&["openmls=y"]), ["openmls"]);
    }

    #[test]
    fn durations_are_as_long_as_they_need_to_be() {
        let said = [0, 59, 61, 3_700].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(said, ["1 s", "59 s", "2 min", "1 h 1 min"]);
    }
}

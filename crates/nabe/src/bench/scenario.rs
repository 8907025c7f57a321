//! `nabe bench scenario`: what happens to a room, played by the library alone, and through two servers by either protocol: each a process of its own, the
//! clients in this one, and between all of them lines that count bytes. Into a run's directory, as `bench mls`.

mod lm;
mod mimi;
mod room;
mod servers;
mod wire;

use std::path::Path;

use anyhow::{Context as _, bail};
use nabe_client::Client;
use nabe_lab::{
    csv,
    machine::{self, Machine},
    plan::Settings,
    record::{FILE, FORMAT, Run, Status, Tool},
    report,
    scenario::{
        BUILT_IN, Kind, PhaseRecord, Scenario, ScenarioRecord, library,
        record::{Way, percentile},
    },
    worker::{self, Failure},
};
use nabe_types::UnixMillis;

use self::{
    mimi::Participant,
    room::{Room, Unplayable},
};
use super::mls;
use crate::{
    InputAtFault,
    cli::{BenchScenario, ScenarioWay},
    output::{note, say},
};

/// Plays what was asked for and writes everything. Returns whether nothing failed.
pub(crate) fn run(arguments: &BenchScenario, now: UnixMillis) -> anyhow::Result<bool> {
    if arguments.list {
        BUILT_IN.iter().for_each(|(_, file)| list(file));
        return Ok(true);
    }
    let scenarios = arguments.scenarios.iter().map(|name| read(name));
    let scenarios = scenarios.collect::<anyhow::Result<Vec<_>>>().context(InputAtFault)?;
    let mut run = begin(arguments, now).context(InputAtFault)?;
    warn(&run.machine);
    for mut scenario in scenarios {
        if let Some(seed) = arguments.seed {
            scenario.seed = seed;
        }
        for way in &arguments.by {
            let record = play(&scenario, way.of_lab());
            print(&record);
            run.scenarios.push(record);
            save(&run, &arguments.out)?;
        }
    }
    say!("{}", arguments.out.join("report.html").display());
    Ok(run.scenarios.iter().all(|record| record.status != Status::Failed))
}

fn list(file: &str) {
    if let Ok(scenario) = parse(file) {
        say!("{:<16} {}", scenario.name, scenario.about);
    }
}

/// A file, or one that comes along.
fn read(name: &str) -> anyhow::Result<Scenario> {
    if let Some((_, file)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
        return parse(file);
    }
    let known = BUILT_IN.map(|(name, _)| name).join(", ");
    let text = std::fs::read_to_string(name)
        .with_context(|| format!("`{name}` is no file that can be read, and none of {known}"))?;
    parse(&text).with_context(|| name.to_owned())
}

fn parse(text: &str) -> anyhow::Result<Scenario> {
    let scenario: Scenario = toml::from_str(text)?;
    scenario.check()?;
    Ok(scenario)
}

fn begin(arguments: &BenchScenario, now: UnixMillis) -> anyhow::Result<Run> {
    if arguments.scenarios.is_empty() {
        bail!("which scenario? A file, or one of those that `nabe bench scenario --list` tells");
    }
    if arguments.out.join(FILE).exists() {
        bail!(
            "{} holds a run already; begin another by `--out`",
            arguments.out.display()
        );
    }
    // No groups: scenarios have their own.
    let settings = Settings {
        sizes: Vec::new(),
        shapes: Vec::new(),
        operations: Vec::new(),
        implementations: Vec::new(),
        ..Settings::quick(arguments.seed.unwrap_or(0))
    };
    let run = Run {
        format: FORMAT,
        started: now.0 / 1000,
        tool: Tool {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: mls::commit(),
        },
        machine: Machine::here(),
        settings,
        workers: Vec::new(),
        cells: Vec::new(),
        scenarios: Vec::new(),
    };
    run.save(&arguments.out).context("writing run.json")?;
    Ok(run)
}

fn warn(machine: &Machine) {
    if worker::BUILD != "release" {
        note!(
            "nabe: warning: this is a {} build: its times mean nothing",
            worker::BUILD
        );
    }
    let load = machine::load().unwrap_or(0.0);
    if load > f64::from(machine.cores) / 2.0 {
        note!("nabe: warning: the machine is busy (load {load:.1}): times will be too high");
    }
}

fn save(run: &Run, directory: &Path) -> anyhow::Result<()> {
    run.save(directory).context("writing run.json")?;
    csv::save(run, directory).context("writing the CSV files")?;
    report::save(run, directory).context("writing report.html")
}

fn play(scenario: &Scenario, way: Way) -> ScenarioRecord {
    note!("{} by {} …", scenario.name, way.title());
    let load_before = machine::load();
    let mut phases = Vec::new();
    let played = match way {
        Way::Library => by_library(scenario, &mut phases),
        Way::Lm => by_servers::<Client>(scenario, &mut phases),
        Way::Mimi => by_servers::<Participant>(scenario, &mut phases),
    };
    let (status, reason) = match &played {
        Ok(()) => (Status::Measured, None),
        Err(error) if is_unsupported(error) => (Status::Unsupported, Some(format!("{error:#}"))),
        Err(error) => (Status::Failed, Some(format!("{error:#}"))),
    };
    ScenarioRecord {
        scenario: scenario.clone(),
        way,
        build: worker::BUILD.to_owned(),
        status,
        reason,
        phases,
        load_before,
        load_after: machine::load(),
    }
}

fn by_library(scenario: &Scenario, phases: &mut Vec<PhaseRecord>) -> anyhow::Result<()> {
    match library::play(scenario) {
        Ok(played) => *phases = played,
        Err((failure, played)) => {
            *phases = played;
            return Err(failure.into());
        }
    }
    Ok(())
}

fn by_servers<M: room::Member>(scenario: &Scenario, phases: &mut Vec<PhaseRecord>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    crate::runtime()?.block_on(Room::<M>::play(folder.path(), scenario, phases))
}

fn is_unsupported(error: &anyhow::Error) -> bool {
    let by_library = matches!(error.downcast_ref(), Some(Failure::Unsupported(_)));
    by_library || error.downcast_ref::<Unplayable>().is_some()
}

fn print(record: &ScenarioRecord) {
    say!("{} by {}", record.scenario.name, record.way.title());
    for phase in &record.phases {
        say!(
            "  {}: {} members at its end, {:.1} s",
            phase.name,
            phase.members,
            phase.ns as f64 / 1e9
        );
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Idle) {
            let (accepted, followed) = phase.times(kind);
            if let Some(times) = times(&accepted, &followed) {
                say!("    {:<8} {times}", format!("{} {}", accepted.len(), kind.name()));
            }
        }
        let per = match phase.steps.as_slice() {
            [only] if only.kind == Kind::Idle => "hour",
            _ => "step",
        };
        for (what, amount) in &phase.used {
            let each = phase.each(what).unwrap_or_default();
            say!("    {what:<18} {amount:>12}, a {per} {each:.0}");
        }
    }
    if let Some(reason) = &record.reason {
        say!(
            "  {}: {reason}",
            if record.status == Status::Failed {
                "FAILED"
            } else {
                "ended"
            }
        );
    }
}

fn times(accepted: &[u64], followed: &[u64]) -> Option<String> {
    let of = |sorted: &[u64]| {
        let at = |percent| Some(percentile(sorted, percent)? as f64 / 1e6);
        Some(format!("{:.1}, {:.1}, {:.1}", at(50)?, at(90)?, at(99)?))
    };
    Some(format!(
        "accepted {} ms, followed by all {} ms (p50, p90, p99)",
        of(accepted)?,
        of(followed)?
    ))
}

impl ScenarioWay {
    const fn of_lab(self) -> Way {
        match self {
            Self::Library => Way::Library,
            Self::Lm => Way::Lm,
            Self::Mimi => Way::Mimi,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenarios_that_come_along_can_be_played() {
        for (name, file) in BUILT_IN {
            assert_eq!(parse(file).unwrap().name, name);
        }
    }

    #[test]
    fn a_file_that_is_none_says_what_there_is() {
        let error = format!("{:#}", read("no-such").unwrap_err());
        assert!(
            error.starts_with("`no-such` is no file that can be read, and none of join-burst, churn, "),
            "{error}"
        );
        let error = format!("{:#}", parse("name = \"x\"\nmember = 3").unwrap_err());
        assert!(error.contains("unknown field `member`"), "{error}");
    }
}

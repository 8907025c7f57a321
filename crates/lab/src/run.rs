//! Runs a plan: one worker process for each group, ended when it takes too long.

mod process;
mod progress;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use self::process::{Ended, Process};
use self::progress::Progress;
use crate::cell::{Cell, Group, Operation};
use crate::machine;
use crate::plan::{PREPARATION_BUDGETS, Plan, PlannedGroup, Settings};
use crate::protocol::{self, Hello, PROTOCOL, Reply, Request, Sample, Witness};
use crate::record::{CellRecord, Run, Status};

/// How a worker is started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorkerCommand {
    /// The implementation that it measures.
    pub implementation: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A worker is of no use.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It does not start or says nothing sensible.
    #[error("the worker for `{implementation}` ({program}): {reason}")]
    Unusable {
        /// Which.
        implementation: String,
        /// What was started.
        program: String,
        /// Why.
        reason: String,
    },
}

/// What happens, for whoever watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// A group is being prepared.
    Preparing {
        /// Which.
        group: &'a Group,
    },
    /// A cell is about to be measured.
    Measuring {
        /// Which.
        cell: &'a Cell,
    },
    /// A cell has been dealt with.
    Done {
        /// What came out.
        record: &'a CellRecord,
        /// Cells dealt with, those of an earlier run included.
        done: usize,
        /// Cells of the plan.
        of: usize,
        /// About how long the rest takes.
        remaining: Duration,
    },
    /// A group is finished: a good time to save.
    GroupDone {
        /// All so far.
        run: &'a Run,
    },
}

/// Asks a worker who it is.
///
/// # Errors
/// If it does not start or answers otherwise than by the protocol.
pub fn hello(command: &WorkerCommand) -> Result<Hello, WorkerError> {
    start(command, &AtomicBool::new(false)).map(|(_, hello)| hello)
}

fn start(command: &WorkerCommand, stop: &AtomicBool) -> Result<(Process, Hello), WorkerError> {
    let unusable = |reason: String| WorkerError::Unusable {
        implementation: command.implementation.clone(),
        program: command.program.display().to_string(),
        reason,
    };
    let mut process = Process::start(command).map_err(|error| unusable(error.to_string()))?;
    let reply = process.listen(HELLO_WITHIN, stop, &mut |_| {});
    match reply.map_err(|ended| unusable(ended.to_string()))? {
        Reply::Hello(hello) if hello.protocol != PROTOCOL => Err(unusable(format!(
            "it speaks version {} of the protocol, and the lab {PROTOCOL}",
            hello.protocol
        ))),
        Reply::Hello(hello) if hello.implementation != command.implementation => {
            Err(unusable(format!("it says that it is `{}`", hello.implementation)))
        }
        Reply::Hello(hello) => Ok((process, hello)),
        _ => Err(unusable("its first line is no hello".to_owned())),
    }
}

/// Measures what of the plan is not in `run` yet, and adds it there. Ends early once `stop` is set; the cell that was being measured is
/// then left out. Returns whether all was dealt with.
///
/// # Errors
/// If a worker cannot be started.
pub fn run(
    plan: &Plan,
    commands: &[WorkerCommand],
    run: &mut Run,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<bool, WorkerError> {
    let settings = run.settings.clone();
    let mut runner = Runner {
        run,
        stop,
        watch,
        progress: Progress::new(plan, &settings),
        settings,
    };
    for group in &plan.groups {
        let command = commands
            .iter()
            .find(|command| command.implementation == group.group.implementation);
        if let Some(command) = command {
            runner.group(command, group)?;
        }
        if stop.load(Relaxed) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Runner<'a> {
    settings: Settings,
    run: &'a mut Run,
    stop: &'a AtomicBool,
    watch: &'a mut dyn FnMut(Event<'_>),
    progress: Progress<'a>,
}

impl Runner<'_> {
    /// All of a group's cells. A worker that had to be ended is started and prepared anew for what is left.
    fn group(&mut self, command: &WorkerCommand, planned: &PlannedGroup) -> Result<(), WorkerError> {
        let group = &planned.group;
        let cell = |operation| Cell {
            group: group.clone(),
            operation,
        };
        let mut left: Vec<Operation> = planned.operations.clone();
        left.retain(|&operation| !self.run.has(&cell(operation)));
        left.reverse();
        if left.is_empty() {
            return Ok(());
        }
        while !left.is_empty() && !self.is_stopped() {
            let (mut process, _) = start(command, self.stop)?;
            (self.watch)(Event::Preparing { group });
            let tree = match self.prepare(&mut process, group) {
                Ok(tree) => tree,
                Err(Ending::Interrupted) => break,
                Err(Ending::Cell(status, reason)) => {
                    for operation in left.drain(..).rev() {
                        self.finish(CellRecord {
                            status,
                            reason: Some(reason.clone()),
                            ..empty(cell(operation))
                        });
                    }
                    break;
                }
            };
            while let Some(operation) = left.pop() {
                let cell = cell(operation);
                (self.watch)(Event::Measuring { cell: &cell });
                let Some((mut record, is_good)) = self.measure(&mut process, cell) else {
                    break;
                };
                record.tree.clone_from(&tree);
                self.finish(record);
                if !is_good || self.is_stopped() {
                    break;
                }
            }
        }
        (self.watch)(Event::GroupDone { run: self.run });
        Ok(())
    }

    fn prepare(&mut self, process: &mut Process, group: &Group) -> Result<BTreeMap<String, u64>, Ending> {
        let request = Request::Prepare {
            suite: group.suite,
            shape: group.shape,
            size: group.size,
            seed: self.settings.seed,
        };
        let budget = Duration::from_millis(self.settings.budget_ms.saturating_mul(PREPARATION_BUDGETS));
        let reply = process.ask(&request, budget, self.stop, &mut |_| {});
        match reply {
            Ok(Reply::Prepared { tree, check }) => match protocol::check(&check) {
                Ok(()) => Ok(tree),
                Err(disagreement) => Err(Ending::Cell(
                    Status::Failed,
                    format!("after its preparation, {disagreement}"),
                )),
            },
            Ok(other) => Err(Ending::of_reply(other)),
            Err(Ended::Exceeded) => Err(Ending::Cell(
                Status::Exceeded,
                format!("its group was not prepared within {} s", budget.as_secs()),
            )),
            Err(Ended::Interrupted) => Err(Ending::Interrupted),
            Err(ended) => Err(Ending::Cell(Status::Failed, ended.to_string())),
        }
    }

    /// Returns the record, and whether the worker and its group are still good for another; `None` if it was interrupted.
    fn measure(&mut self, process: &mut Process, cell: Cell) -> Option<(CellRecord, bool)> {
        let request = Request::Measure {
            operation: cell.operation,
            warm_up: self.settings.warm_up,
            samples: self.settings.samples,
            milliseconds: self.settings.sampling_ms,
        };
        let budget = Duration::from_millis(self.settings.budget_ms);
        let mut samples = Vec::new();
        let load_before = machine::load();
        let reply = process.ask(&request, budget, self.stop, &mut |sample| samples.push(sample));
        let mut record = CellRecord {
            load_before,
            load_after: machine::load(),
            ..empty(cell)
        };
        let ending = match reply {
            Ok(Reply::Measured { bytes, work, check }) => {
                (record.bytes, record.work) = (bytes, work);
                judge(&check, &samples)
            }
            Ok(other) => Some(Ending::of_reply(other)),
            Err(Ended::Exceeded) => Some(Ending::Cell(
                Status::Exceeded,
                format!("not done within {} s", budget.as_secs_f64()),
            )),
            Err(Ended::Interrupted) => Some(Ending::Interrupted),
            Err(ended) => Some(Ending::Cell(Status::Failed, ended.to_string())),
        };
        match ending {
            Some(Ending::Interrupted) => return None,
            Some(Ending::Cell(status, reason)) => (record.status, record.reason) = (status, Some(reason)),
            None => {}
        }
        if matches!(record.status, Status::Measured | Status::Exceeded) {
            record.samples = samples;
        }
        let is_good = matches!(record.status, Status::Measured | Status::Unsupported);
        Some((record, is_good))
    }

    fn finish(&mut self, record: CellRecord) {
        self.run.cells.push(record);
        let Some(record) = self.run.cells.last() else { return };
        let remaining = self.progress.remaining(self.run);
        (self.watch)(Event::Done {
            record,
            done: self.progress.done(self.run),
            of: self.progress.cells,
            remaining,
        });
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// How a cell or a preparation ended that brought no figures.
enum Ending {
    Cell(Status, String),
    Interrupted,
}

impl Ending {
    fn of_reply(reply: Reply) -> Self {
        match reply {
            Reply::Unsupported { reason } => Self::Cell(Status::Unsupported, reason),
            Reply::Failed { reason } => Self::Cell(Status::Failed, reason),
            _ => Self::Cell(Status::Failed, "the worker answered something else".to_owned()),
        }
    }
}

/// What is wrong with a cell that its worker calls measured.
fn judge(check: &[Witness], samples: &[Sample]) -> Option<Ending> {
    let reason = match protocol::check(check) {
        Err(disagreement) => format!("afterwards, {disagreement}"),
        Ok(()) if samples.is_empty() => "the worker took no sample".to_owned(),
        Ok(()) => return None,
    };
    Some(Ending::Cell(Status::Failed, reason))
}

fn empty(cell: Cell) -> CellRecord {
    CellRecord {
        cell,
        status: Status::Measured,
        reason: None,
        samples: Vec::new(),
        bytes: BTreeMap::new(),
        work: BTreeMap::new(),
        tree: BTreeMap::new(),
        load_before: None,
        load_after: None,
    }
}

const HELLO_WITHIN: Duration = Duration::from_secs(10);

//! Which cells are measured, in which order, and how long that will take.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cell::{Group, Operation, Shape};
use crate::protocol::Hello;
use crate::seed::Seed;

/// What is to be measured and how.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Settings {
    /// Decides the order, and in each group who sits where and who comes and goes.
    pub seed: u64,
    /// Members.
    pub sizes: Vec<u32>,
    /// Shapes of the tree.
    pub shapes: Vec<Shape>,
    /// Operations.
    pub operations: Vec<Operation>,
    /// Cipher suites.
    pub suites: Vec<u16>,
    /// Names of workers.
    pub implementations: Vec<String>,
    /// Whether `churned` and `sparse` are left out except at 10, 100, 1,000 and 10,000 members.
    pub thinned: bool,
    /// Samples at most.
    pub samples: u32,
    /// Times that it is done before.
    pub warm_up: u32,
    /// For how long samples are begun, in milliseconds.
    pub sampling_ms: u64,
    /// How long a cell may take altogether, in milliseconds.
    pub budget_ms: u64,
}

/// A budget for what comes before a group's cells, in budgets of one cell.
pub const PREPARATION_BUDGETS: u64 = 10;

impl Settings {
    /// A first report in less than three minutes.
    #[must_use]
    pub fn quick(seed: u64) -> Self {
        Self {
            sizes: vec![2, 10, 30, 100, 300],
            shapes: vec![Shape::Fresh, Shape::Full],
            samples: 15,
            sampling_ms: 250,
            budget_ms: 5_000,
            ..Self::full(seed)
        }
    }

    /// All there is, in less than three hours on two cores.
    #[must_use]
    pub fn full(seed: u64) -> Self {
        Self {
            seed,
            sizes: vec![2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000],
            shapes: Shape::ALL.to_vec(),
            operations: Operation::ALL.to_vec(),
            suites: vec![1],
            implementations: vec!["openmls".to_owned()],
            thinned: true,
            samples: 50,
            warm_up: 1,
            sampling_ms: 4_000,
            budget_ms: 30_000,
        }
    }
}

/// Groups in the order of their turn, each with its operations in the order of theirs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// The groups.
    pub groups: Vec<PlannedGroup>,
}

/// A group, and what is done in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedGroup {
    /// The group.
    pub group: Group,
    /// The operations.
    pub operations: Vec<Operation>,
}

/// Why there is nothing to plan.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A list is empty.
    #[error("no {0} to measure")]
    Nothing(&'static str),
    /// A group of one.
    #[error("size {0}: a group has two members at least, and {MAX_SIZE} at most")]
    Size(u32),
    /// No worker has this.
    #[error("no worker for `{0}`; there are: {1}")]
    Implementation(String, String),
    /// No worker has this.
    #[error("no worker that is asked has suite {0}; they have: {1}")]
    Suite(u16, String),
    /// None of the workers can do any of it.
    #[error("none of the workers can do what is asked for")]
    NothingPossible,
}

/// The largest group that may be asked for.
pub const MAX_SIZE: u32 = 100_000;

impl Plan {
    /// All combinations that the workers say they have, in an order that the seed decides.
    ///
    /// # Errors
    /// If the settings ask for nothing, or for what there is not.
    pub fn new(settings: &Settings, workers: &[Hello]) -> Result<Self, PlanError> {
        settings.check(workers)?;
        let mut groups = Vec::new();
        for worker in workers
            .iter()
            .filter(|worker| settings.implementations.contains(&worker.implementation))
        {
            for &suite in settings.suites.iter().filter(|suite| worker.suites.contains(suite)) {
                for &shape in settings.shapes.iter().filter(|shape| worker.shapes.contains(shape)) {
                    for &size in settings.sizes.iter().filter(|&&size| settings.has(shape, size)) {
                        groups.push(PlannedGroup {
                            group: Group {
                                implementation: worker.implementation.clone(),
                                suite,
                                shape,
                                size,
                            },
                            operations: worker.common(&settings.operations),
                        });
                    }
                }
            }
        }
        groups.retain(|group| !group.operations.is_empty());
        if groups.is_empty() {
            return Err(PlanError::NothingPossible);
        }
        groups.sort_by(|one, other| one.group.cmp(&other.group));
        groups.dedup();
        let mut seed = Seed::new(settings.seed);
        seed.shuffle(&mut groups);
        for group in &mut groups {
            seed.shuffle(&mut group.operations);
        }
        Ok(Self { groups })
    }

    /// Cells in it.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.groups.iter().map(|group| group.operations.len()).sum()
    }

    /// About how long it takes, by what such operations cost OpenMLS on a core of some 3 GHz.
    #[must_use]
    pub fn estimate(&self, settings: &Settings) -> Duration {
        self.groups.iter().map(|group| group.estimate(settings)).sum()
    }
}

impl PlannedGroup {
    /// About how long preparation and all operations take.
    #[must_use]
    pub fn estimate(&self, settings: &Settings) -> Duration {
        let cells = self
            .operations
            .iter()
            .map(|&operation| self.group.cell_estimate(operation, settings));
        self.group.preparation_estimate() + cells.sum()
    }
}

impl Group {
    /// A live member costs a join, and follows those who joined before.
    #[must_use]
    pub fn preparation_estimate(&self) -> Duration {
        let size = f64::from(self.size);
        let live = match self.size {
            0..=32 => size,
            33..=1_000 => 16.0,
            _ => 4.0,
        };
        Duration::from_secs_f64(0.05 + live * (join_seconds(size) + live / 2.0 * process_seconds(size)))
    }

    /// Setting up and sampling until the time or the number is reached, and the check after it.
    #[must_use]
    pub fn cell_estimate(&self, operation: Operation, settings: &Settings) -> Duration {
        let size = f64::from(self.size);
        let once = once_seconds(operation, self.shape, size) + aside_seconds(operation, size);
        let sampling = settings.sampling_ms as f64 / 1e3;
        let samples = f64::from(settings.samples + settings.warm_up);
        let sampled = (once * samples).min(sampling.max(once));
        let check = 4.0 * process_seconds(size) + once_seconds(Operation::Update, self.shape, size);
        Duration::from_secs_f64((sampled + check).min(settings.budget_ms as f64 / 1e3))
    }
}

/// Up to this size everybody can be live.
const EVERYBODY: f64 = 128.0;

/// Seconds that members spend on a commit; on reading a whole group.
fn process_seconds(size: f64) -> f64 {
    3e-4 + 1e-5 * size
}

fn join_seconds(size: f64) -> f64 {
    1e-3 + 1e-4 * size * (1.0 + size / 5e3)
}

/// Seconds of what is timed.
fn once_seconds(operation: Operation, shape: Shape, size: f64) -> f64 {
    let commit = match shape {
        Shape::Fresh => 5e-4 + 1.5e-4 * size,
        Shape::Full => 1e-3 + 1e-5 * size,
        Shape::Churned | Shape::Sparse => 1e-3 + 5e-5 * size,
    };
    match operation {
        Operation::Create => 5e-4 * size * (1.0 + size / 1e3),
        Operation::AddMany => commit + 2e-2,
        Operation::AddBatches => 5.0 * commit + 3e-2,
        Operation::AddOne | Operation::Remove | Operation::Update => commit,
        Operation::UpdateEveryone if size <= EVERYBODY => size * commit,
        Operation::UpdateEveryone => 0.0,
        Operation::ExternalJoin | Operation::JoinWelcome => join_seconds(size),
        Operation::Process => process_seconds(size),
        Operation::HubBare | Operation::Hub => 1e-4 + 4e-6 * size,
        Operation::Checkpoint | Operation::Restore => 1e-6 * size,
        Operation::Encrypt | Operation::Decrypt | Operation::DecryptUnordered | Operation::DecryptGap => {
            1e-4 + 1e-6 * size
        }
        Operation::Export => 1e-5,
    }
}

/// Seconds of what is not timed, beside it: copies of members and hubs, messages that are skipped.
fn aside_seconds(operation: Operation, size: f64) -> f64 {
    match operation {
        Operation::AddBatches | Operation::Process => 1e-5 * size,
        Operation::UpdateEveryone if size <= 32.0 => size * size / 2.0 * process_seconds(size),
        // The group is made again, and if it is full everybody commits once before.
        Operation::UpdateEveryone if size <= EVERYBODY => {
            size * join_seconds(size) + size * size * process_seconds(size)
        }
        Operation::HubBare | Operation::Hub | Operation::Restore => 2e-6 * size,
        Operation::DecryptGap => 1e-2 + 1e-4 * size,
        Operation::DecryptUnordered => 4e-4 + 4e-6 * size,
        _ => 0.0,
    }
}

impl Settings {
    fn has(&self, shape: Shape, size: u32) -> bool {
        let is_thin = self.thinned && matches!(shape, Shape::Churned | Shape::Sparse);
        !is_thin || [10, 100, 1_000, 10_000].contains(&size)
    }

    fn check(&self, workers: &[Hello]) -> Result<(), PlanError> {
        let lists = [
            ("sizes", self.sizes.is_empty()),
            ("shapes", self.shapes.is_empty()),
            ("operations", self.operations.is_empty()),
            ("suites", self.suites.is_empty()),
            ("implementations", self.implementations.is_empty()),
        ];
        if let Some((what, _)) = lists.iter().find(|(_, is_empty)| *is_empty) {
            return Err(PlanError::Nothing(what));
        }
        if let Some(&size) = self.sizes.iter().find(|&&size| !(2..=MAX_SIZE).contains(&size)) {
            return Err(PlanError::Size(size));
        }
        let names: Vec<&str> = workers.iter().map(|worker| worker.implementation.as_str()).collect();
        if let Some(unknown) = self.implementations.iter().find(|name| !names.contains(&name.as_str())) {
            return Err(PlanError::Implementation(unknown.clone(), names.join(", ")));
        }
        let asked = workers
            .iter()
            .filter(|worker| self.implementations.contains(&worker.implementation));
        let suites: BTreeSet<u16> = asked.flat_map(|worker| worker.suites.iter().copied()).collect();
        match self.suites.iter().find(|suite| !suites.contains(suite)) {
            Some(&unknown) => {
                let known: Vec<_> = suites.iter().map(u16::to_string).collect();
                Err(PlanError::Suite(unknown, known.join(", ")))
            }
            None => Ok(()),
        }
    }
}

impl Hello {
    /// Those of these operations that it can do.
    fn common(&self, operations: &[Operation]) -> Vec<Operation> {
        let mut common: Vec<_> = operations
            .iter()
            .copied()
            .filter(|operation| self.operations.contains(operation))
            .collect();
        common.sort();
        common.dedup();
        common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> Hello {
        Hello {
            protocol: 1,
            implementation: "openmls".to_owned(),
            versions: [].into(),
            suites: vec![1, 2],
            shapes: Shape::ALL.to_vec(),
            operations: Operation::ALL.to_vec(),
            threads: 1,
            build: "release".to_owned(),
            note: None,
        }
    }

    fn plan(settings: &Settings) -> Result<Plan, PlanError> {
        Plan::new(settings, &[worker()])
    }

    #[test]
    fn the_seed_decides_the_order_and_nothing_else() {
        let orders = [7, 7, 8].map(|seed| plan(&Settings::full(seed)).unwrap());
        assert_eq!(orders[0], orders[1]);
        assert_ne!(orders[0], orders[2]);
        let sorted = orders.map(|mut plan| {
            plan.groups.sort_by(|one, other| one.group.cmp(&other.group));
            plan.groups.iter_mut().for_each(|group| group.operations.sort());
            plan
        });
        assert_eq!(sorted[0], sorted[2]);
    }

    #[test]
    fn the_full_plan_is_thinned_and_fits_into_three_hours() {
        let settings = Settings::full(1);
        let plan = plan(&settings).unwrap();
        assert_eq!(plan.groups.len(), 2 * 12 + 2 * 4);
        let estimate = plan.estimate(&settings);
        assert!(estimate < Duration::from_secs(3 * 3600), "{estimate:?}");
    }

    #[test]
    fn the_quick_plan_fits_into_three_minutes() {
        let settings = Settings::quick(1);
        let estimate = plan(&settings).unwrap().estimate(&settings);
        assert!(estimate < Duration::from_secs(150), "{estimate:?}");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let error = |change: fn(&mut Settings)| {
            let mut settings = Settings::quick(1);
            change(&mut settings);
            plan(&settings).unwrap_err().to_string()
        };
        assert_eq!(error(|settings| settings.sizes.clear()), "no sizes to measure");
        assert_eq!(
            error(|settings| settings.sizes = vec![10, 1]),
            "size 1: a group has two members at least, and 100000 at most"
        );
        assert_eq!(
            error(|settings| settings.implementations = vec!["mlspp".to_owned()]),
            "no worker for `mlspp`; there are: openmls"
        );
        assert_eq!(
            error(|settings| settings.suites = vec![1, 9]),
            "no worker that is asked has suite 9; they have: 1, 2"
        );
        let talker = Hello {
            operations: Vec::new(),
            ..worker()
        };
        assert_eq!(
            Plan::new(&Settings::quick(1), &[talker]),
            Err(PlanError::NothingPossible)
        );
    }

    #[test]
    fn a_suite_is_planned_for_those_who_have_it() {
        let other = Hello {
            implementation: "other".to_owned(),
            suites: vec![1],
            ..worker()
        };
        let settings = Settings {
            suites: vec![1, 2],
            implementations: vec!["openmls".to_owned(), "other".to_owned()],
            ..Settings::quick(1)
        };
        let plan = Plan::new(&settings, &[worker(), other]).unwrap();
        let kinds = plan
            .groups
            .iter()
            .map(|group| (group.group.implementation.as_str(), group.group.suite));
        let kinds: BTreeSet<_> = kinds.collect();
        assert_eq!(kinds, [("openmls", 1), ("openmls", 2), ("other", 1)].into());
    }

    #[test]
    fn an_estimate_grows_with_the_group_up_to_the_budget() {
        let settings = Settings::full(1);
        let estimate = |size| {
            let group = Group {
                implementation: "openmls".to_owned(),
                suite: 1,
                shape: Shape::Fresh,
                size,
            };
            group.cell_estimate(Operation::Create, &settings)
        };
        assert!(estimate(10) < estimate(1_000));
        assert_eq!(estimate(10_000), Duration::from_millis(settings.budget_ms));
    }
}

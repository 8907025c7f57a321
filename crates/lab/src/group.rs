//! Groups of any size and shape, and what is measured in them: the [`Implementation`] that every MLS library shares.

mod everyone;
mod grown;
mod operations;
mod rehearsal;
mod tree;

use std::collections::BTreeMap;
use std::sync::Arc;

use nabe_types::RoomId;

use self::grown::Grown;
pub(crate) use self::rehearsal::Rehearsal;
use crate::cell::{Operation, Shape};
use crate::measure::Stopwatch;
use crate::protocol::{Hello, PROTOCOL, Witness};
use crate::stack::Stack;
use crate::worker::{self, Failure, Implementation, Outcome, Wanted};

/// A library, with at most one group. Nabe's hub follows each, whoever makes it.
pub struct Groups<S: Stack> {
    group: Option<Grown<S>>,
    cache: operations::Cache<S>,
    threads: u32,
}

impl<S: Stack> Groups<S> {
    /// No group yet, and so many threads to compute with.
    #[must_use]
    pub fn with_threads(threads: u32) -> Self {
        Self {
            group: None,
            cache: operations::Cache::default(),
            threads,
        }
    }
}

impl<S: Stack> Implementation for Groups<S> {
    fn hello(&self) -> Hello {
        let mut versions = S::versions();
        versions.insert("nabe".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Hello {
            protocol: PROTOCOL,
            implementation: S::NAME.to_owned(),
            versions,
            suites: S::suites(),
            shapes: Shape::ALL.to_vec(),
            operations: Operation::ALL.to_vec(),
            threads: self.threads,
            build: worker::BUILD.to_owned(),
            note: None,
        }
    }

    fn prepare(&mut self, wanted: &Wanted) -> Result<BTreeMap<String, u64>, Failure> {
        self.group = None;
        self.cache = operations::Cache::default();
        if !S::suites().contains(&wanted.suite) {
            return Err(Failure::Unsupported(format!("suite {}", wanted.suite)));
        }
        let group = self.group.insert(Grown::new(wanted)?);
        group.describe()
    }

    fn sample(&mut self, operation: Operation, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        if let Some(reason) = S::lacks(operation) {
            return Err(Failure::Unsupported(reason.to_owned()));
        }
        let group = self.group.as_mut().ok_or_else(nothing_prepared)?;
        self.cache.sample(group, operation, watch)
    }

    fn check(&mut self) -> Result<Vec<Witness>, Failure> {
        // What was made for the epoch that ends is of no use any more.
        self.cache = operations::Cache::default();
        self.group.as_mut().ok_or_else(nothing_prepared)?.check()
    }
}

fn nothing_prepared() -> Failure {
    Failure::Unsupported("no group has been prepared".to_owned())
}

/// The room whose group it is.
pub(crate) fn room() -> Arc<RoomId> {
    Arc::new(RoomId::parse("!lab:lab.example").expect("a sound room ID"))
}

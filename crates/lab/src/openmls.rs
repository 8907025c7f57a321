//! OpenMLS with RustCrypto as an [`Implementation`], and beside its public group Nabe's hub.
//!
//! Members keep their groups in OpenMLS's memory storage, as its users do by default: what that writes is part of each figure. Random
//! numbers and keys are real, so they differ from run to run; who sits where and who comes and goes is decided by the seed.

mod counting;
mod grown;
mod member;
mod operations;

use std::collections::BTreeMap;
use std::sync::Arc;

use nabe_mls::{MAX_GROUP_STATE_BYTES, Suite};
use nabe_types::RoomId;

use self::grown::Grown;
use crate::cell::{Operation, Shape};
use crate::measure::Stopwatch;
use crate::protocol::{Hello, PROTOCOL, Witness};
use crate::worker::{self, Failure, Implementation, Outcome, Wanted};

/// The name of this worker.
pub const NAME: &str = "openmls";

/// OpenMLS, with at most one group.
pub struct OpenMls {
    group: Option<Grown>,
    cache: operations::Cache,
    threads: u32,
}

impl Default for OpenMls {
    fn default() -> Self {
        Self {
            group: None,
            cache: operations::Cache::default(),
            threads: settle_threads(),
        }
    }
}

impl Implementation for OpenMls {
    fn hello(&self) -> Hello {
        let version = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        Hello {
            protocol: PROTOCOL,
            implementation: NAME.to_owned(),
            versions: [
                version("nabe", env!("CARGO_PKG_VERSION")),
                version("openmls", "0.9.2"),
                version("openmls_rust_crypto", "0.6"),
            ]
            .into(),
            suites: vec![Suite::X25519_AES128.id()],
            shapes: Shape::ALL.to_vec(),
            operations: Operation::ALL.to_vec(),
            threads: self.threads,
            build: worker::BUILD.to_owned(),
        }
    }

    fn prepare(&mut self, wanted: &Wanted) -> Result<BTreeMap<String, u64>, Failure> {
        self.group = None;
        self.cache = operations::Cache::default();
        if wanted.suite != Suite::X25519_AES128.id() {
            return Err(Failure::Unsupported(format!("suite {}", wanted.suite)));
        }
        let group = self.group.insert(Grown::new(wanted)?);
        Ok(group.describe())
    }

    fn sample(&mut self, operation: Operation, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
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

/// OpenMLS seals to the many nodes of a path in parallel, by rayon. If that is to have one thread, it is ours: handing work to another
/// and waiting for it would be timed, and on a busy machine take longer than the work.
fn settle_threads() -> u32 {
    if std::env::var("RAYON_NUM_THREADS").is_ok_and(|threads| threads == "1") {
        // Fails if it was done before, and then it holds already.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .use_current_thread()
            .build_global();
    }
    u32::try_from(rayon::current_num_threads()).unwrap_or(u32::MAX)
}

/// The room whose group it is.
fn room() -> Arc<RoomId> {
    Arc::new(RoomId::parse("!lab:lab.example").expect("a sound room ID"))
}

fn too_large_for_the_hub(bytes: usize) -> Failure {
    Failure::Unsupported(format!(
        "the group state has {bytes} bytes, and Nabe's hub takes {MAX_GROUP_STATE_BYTES}"
    ))
}

//! The worker's side of the protocol, for any implementation: reads requests, takes samples, answers.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

use crate::cell::{Operation, Shape};
use crate::measure::Stopwatch;
use crate::protocol::{Hello, Reply, Request, Witness};

/// What an implementation has to do. It keeps one group at a time.
pub trait Implementation {
    /// Who it is and what it can.
    fn hello(&self) -> Hello;

    /// Makes a group, in place of the one before, and says what its tree is like.
    ///
    /// # Errors
    /// Why it cannot.
    fn prepare(&mut self, group: &Wanted) -> Result<BTreeMap<String, u64>, Failure>;

    /// Does an operation once, with the timed part inside [`Stopwatch::time`]. Afterwards the group is as it was before.
    ///
    /// # Errors
    /// Why it cannot.
    fn sample(&mut self, operation: Operation, watch: &mut Stopwatch) -> Result<Outcome, Failure>;

    /// Lets a member commit, all others follow, and says what each of them then holds to be the group.
    ///
    /// # Errors
    /// Why they could not.
    fn check(&mut self) -> Result<Vec<Witness>, Failure>;
}

/// How this was built, for [`Hello::build`].
pub const BUILD: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

/// The group that is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// Cipher suite.
    pub suite: u16,
    /// Shape of the tree.
    pub shape: Shape,
    /// Members; at least two.
    pub size: u32,
    /// Decides everything but keys.
    pub seed: u64,
}

/// What a sample brought to light beside its time; names as in [`Reply::Measured`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Sizes in bytes.
    pub bytes: BTreeMap<String, u64>,
    /// Cryptographic operations.
    pub work: BTreeMap<String, u64>,
}

/// Why something was not measured.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The implementation has no such thing, or not at this size.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// It should have worked.
    #[error("{what}: {why}")]
    Broken {
        /// What was being done.
        what: &'static str,
        /// What went wrong.
        why: String,
    },
}

impl Failure {
    /// For `map_err`: names what was being done.
    pub fn at<E: std::fmt::Debug>(what: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Broken {
            what,
            why: format!("{error:?}"),
        }
    }

    fn reply(self) -> Reply {
        match self {
            Self::Unsupported(reason) => Reply::Unsupported { reason },
            broken @ Self::Broken { .. } => Reply::Failed {
                reason: broken.to_string(),
            },
        }
    }
}

/// Serves until the input ends.
///
/// # Errors
/// If input or output fail, or the input is not the protocol's.
pub fn serve(implementation: &mut impl Implementation, input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let counts_allocations = nabe_allocations::start();
    say(&mut output, &Reply::Hello(implementation.hello()))?;
    for line in input.lines() {
        let request =
            serde_json::from_str(&line?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let reply = match request {
            Request::Prepare { size: 0 | 1, .. } => {
                Err(Failure::Unsupported("a group has two members at least".to_owned()))
            }
            Request::Prepare {
                suite,
                shape,
                size,
                seed,
            } => prepare(
                implementation,
                &Wanted {
                    suite,
                    shape,
                    size,
                    seed,
                },
            ),
            Request::Measure {
                operation,
                warm_up,
                samples,
                milliseconds,
            } => {
                let series = Series {
                    operation,
                    warm_up,
                    samples,
                    time: Duration::from_millis(milliseconds),
                    counts_allocations,
                };
                series.take(implementation, &mut output)?
            }
        };
        say(&mut output, &reply.unwrap_or_else(Failure::reply))?;
    }
    Ok(())
}

fn prepare(implementation: &mut impl Implementation, wanted: &Wanted) -> Result<Reply, Failure> {
    let tree = implementation.prepare(wanted)?;
    let check = implementation.check()?;
    Ok(Reply::Prepared { tree, check })
}

struct Series {
    operation: Operation,
    warm_up: u32,
    samples: u32,
    time: Duration,
    counts_allocations: bool,
}

impl Series {
    /// The outer result is about the output, the inner one about the implementation.
    #[expect(clippy::disallowed_methods, reason = "the time for samples is real")]
    fn take(
        &self,
        implementation: &mut impl Implementation,
        output: &mut impl Write,
    ) -> io::Result<Result<Reply, Failure>> {
        let mut outcome = Outcome::default();
        let (mut taken, mut warmed_up) = (0, 0);
        let mut start = Instant::now();
        while taken < self.samples.max(1) && (taken == 0 || start.elapsed() <= self.time) {
            let mut watch = Stopwatch::new(self.counts_allocations);
            match implementation.sample(self.operation, &mut watch) {
                Ok(seen) => outcome = seen,
                Err(failure) => return Ok(Err(failure)),
            }
            // What takes as long as there is time for needs no warming up, and counts.
            if warmed_up < self.warm_up && start.elapsed() <= self.time {
                warmed_up += 1;
                continue;
            }
            if taken == 0 && warmed_up > 0 {
                start = Instant::now();
            }
            taken += 1;
            say(output, &Reply::Sample(watch.sample()))?;
        }
        Ok(implementation.check().map(|check| Reply::Measured {
            bytes: outcome.bytes,
            work: outcome.work,
            check,
        }))
    }
}

fn say(output: &mut impl Write, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

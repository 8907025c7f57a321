//! Random operations on three servers and six users, among them crashes, cuts and faults of the wire. When everything is mended
//! and at rest, the rules in [`invariants`] must hold.
//!
//! `NABE_TEST_CASES=2000 cargo test -p nabe-tests simulation` tries more of them. What it finds, shrunk, becomes a test in
//! [`reproduction`].

mod invariants;
mod ops;
mod reproduction;
mod run;
mod strategy;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use ops::Op;

/// Runs `cases` random simulations: the same ones each time, unless somebody asked for more.
fn simulate(cases: u32, length: usize, sqlite: bool) {
    let asked: Option<u32> = std::env::var("NABE_TEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    let config = Config {
        cases: asked.unwrap_or(cases),
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let mut runner = match asked {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let outcome = runner.run(&strategy::ops(length), |ops| {
        run::run(&ops, sqlite).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// A list of operations that once went wrong.
fn reproduce(ops: &[Op]) {
    if let Err(error) = run::run(ops, false) {
        panic!("{error:#}");
    }
}

#[test]
fn logs_agree_and_nothing_is_lost_or_doubled() {
    simulate(60, 40, false);
}

#[test]
fn logs_agree_after_long_histories() {
    simulate(10, 160, false);
}

#[test]
fn logs_agree_over_real_databases() {
    simulate(10, 25, true);
}

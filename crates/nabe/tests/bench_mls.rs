//! `nabe bench mls`: that a run is whole, can be resumed and compared, and that wrong options are told what is wrong.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::fs;
use std::path::Path;

use common::{nabe, text};
use serde_json::Value;

const TINY: [&str; 9] = [
    "bench",
    "mls",
    "--quick",
    "--sizes=2,4",
    "--shapes=full",
    "--operations=update,hub,hub-bare,encrypt",
    "--samples=3",
    "--budget=60",
    "--out",
];

fn tiny(directory: &Path) -> Vec<&str> {
    let mut arguments = TINY.to_vec();
    arguments.push(directory.to_str().unwrap());
    arguments
}

fn cells(directory: &Path) -> Vec<Value> {
    let run: Value = serde_json::from_slice(&fs::read(directory.join("run.json")).unwrap()).unwrap();
    run["cells"].as_array().unwrap().clone()
}

#[test]
fn a_tiny_run_is_whole_is_not_written_over_and_can_be_resumed_and_compared() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("run");
    let measured = nabe(tiny(&directory));
    assert!(measured.status.success(), "{}", text(&measured.stderr));
    assert!(text(&measured.stdout).starts_with("8 cells measured, 0 over budget, 0 not supported, 0 failed\n"));
    assert!(text(&measured.stderr).starts_with("8 cells in 2 groups, about "));
    assert!(cells(&directory).iter().all(|cell| {
        let samples = cell["samples"].as_array().unwrap();
        cell["status"] == "measured"
            && samples.len() == 3
            && samples.iter().all(|sample| sample["allocations"].is_u64())
    }));
    for file in ["report.html", "cells.csv", "samples.csv"] {
        assert!(fs::metadata(directory.join(file)).unwrap().len() > 500, "{file}");
    }

    let again = nabe(tiny(&directory));
    assert_eq!(again.status.code(), Some(3));
    assert!(
        text(&again.stderr).contains("holds a run already"),
        "{}",
        text(&again.stderr)
    );

    // As if it had been killed after three cells.
    let path = directory.join("run.json");
    let mut run: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    run["cells"].as_array_mut().unwrap().truncate(3);
    fs::write(&path, run.to_string()).unwrap();
    let resumed = nabe(["bench", "mls", "--resume", directory.to_str().unwrap()]);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    let resumed = cells(&directory);
    assert_eq!(resumed.len(), 8);
    assert_eq!(resumed[..3], run["cells"].as_array().unwrap()[..]);

    let same = nabe(["bench", "compare", directory.to_str().unwrap(), path.to_str().unwrap()]);
    assert!(same.status.success());
    assert!(
        text(&same.stdout).contains("8 cells in both: 0 slower, 0 faster"),
        "{}",
        text(&same.stdout)
    );
}

#[test]
fn wrong_options_are_told_what_is_wrong() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().to_str().unwrap();
    for (arguments, code, says) in [
        (
            ["--operations=bulk", "--out", out],
            2,
            "there is no operation `bulk`; there are create, ",
        ),
        (
            ["--shapes=round", "--out", out],
            2,
            "there is no shape `round`; there are fresh, full, churned, sparse",
        ),
        (
            ["--sizes=1", "--out", out],
            3,
            "size 1: a group has two members at least",
        ),
        (
            ["--suites=99", "--out", out],
            3,
            "no worker that is asked has suite 99; they have: 1, 2, 3",
        ),
        (
            ["--implementations=x", "--out", out],
            3,
            "no worker for `x`; there are: openmls",
        ),
        (["--worker=x", "--out", out], 3, "wanted is NAME=COMMAND"),
        (
            ["--worker=x=/nonexistent", "--out", out],
            3,
            "the worker for `x` (/nonexistent)",
        ),
        (["--budget=0", "--out", out], 2, "0 is not in 1..=86400"),
        (["--quick", "--resume", out], 2, "cannot be used with"),
        (["--plan", "--resume", out], 3, "run.json: No such file"),
    ] {
        let refused = nabe([&["bench", "mls"], &arguments[..]].concat());
        assert_eq!(
            refused.status.code(),
            Some(code),
            "{arguments:?}: {}",
            text(&refused.stderr)
        );
        assert!(
            text(&refused.stderr).contains(says),
            "{arguments:?}: {}",
            text(&refused.stderr)
        );
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing was written");
}

//! `cargo xtask ci`: the steps of CI on a developer's machine, each named and timed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{layers, spec};

/// Runs every step in order and stops at the first that fails.
pub(crate) fn run(root: &Path) -> Result<()> {
    let started = clock();
    for (name, step) in STEPS {
        eprintln!("── {name}");
        let step_started = clock();
        step(root).with_context(|| format!("step `{name}` failed after {}", seconds(step_started.elapsed())))?;
        eprintln!("── {name}: ok, {}\n", seconds(step_started.elapsed()));
    }
    eprintln!("ci: all {} steps passed, {}", STEPS.len(), seconds(started.elapsed()));
    Ok(())
}

type Step = fn(&Path) -> Result<()>;

/// The quick checks first, so that a slip costs seconds.
const STEPS: &[(&str, Step)] = &[
    ("fmt", |root| command(root, "cargo", &["fmt", "--all", "--check"], &[])),
    ("layers", layers::run),
    ("spec", |root| spec::run(root, false)),
    ("crosscheck", crosscheck),
    ("clippy", |root| {
        command(
            root,
            "cargo",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ],
            &[],
        )
    }),
    ("doc", |root| {
        let arguments = [
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--locked",
        ];
        command(root, "cargo", &arguments, &[("RUSTDOCFLAGS", "-D warnings")])
    }),
    ("test", |root| {
        command(root, "cargo", &["test", "--workspace", "--locked"], &[])
    }),
];

/// Our vectors against the independent Python implementations, which need nothing but Python 3.
fn crosscheck(root: &Path) -> Result<()> {
    for (script, folder) in CROSSCHECKS {
        check_vectors(root, script, folder)?;
    }
    Ok(())
}

const CROSSCHECKS: &[(&str, &str)] = &[
    ("lm_vectors.py", "linearized-matrix"),
    ("mimi_wire.py", "mimi-protocol"),
    ("mimi_content.py", "mimi-content"),
];

fn check_vectors(root: &Path, script: &str, draft: &str) -> Result<()> {
    let folder = root.join("drafts").join(draft).join("vectors");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    files.sort();
    let script = format!("interop/crosscheck/{script}");
    let mut arguments = vec![script.as_str(), "check"];
    arguments.extend(files.iter().map(String::as_str));
    command(root, "python3", &arguments, &[])
}

fn command(root: &Path, program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root)
        .status()
        .with_context(|| format!("starting {program}"))?;
    if !status.success() {
        bail!("`{program} {}`: {status}", arguments.join(" "));
    }
    Ok(())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[expect(clippy::disallowed_methods, reason = "a chore's stopwatch; nothing is decided by it")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

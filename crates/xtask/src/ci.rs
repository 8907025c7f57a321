//! `cargo xtask ci`: the steps of CI on a developer's machine, each named and timed.

use std::path::{Path, PathBuf};
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
    ("vectors", verify_vectors),
    ("libraries alone", libraries_alone),
];

/// Every draft's vectors by the product's own code: by the `nabe` that the tests built and ran. Built by itself it would have other
/// features, and half of the workspace with it.
fn verify_vectors(root: &Path) -> Result<()> {
    let mut files = Vec::new();
    for draft in entries(&root.join("drafts"))? {
        if draft.join("vectors").is_dir() {
            files.extend(vector_files(&draft.join("vectors"))?);
        }
    }
    let nabe = built_with_this("nabe")?;
    let mut arguments = vec!["vectors", "verify"];
    arguments.extend(files.iter().map(String::as_str));
    command(root, &nabe.to_string_lossy(), &arguments, &[])
}

/// A program of the workspace in this program's profile, wherever the target directory is.
fn built_with_this(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("finding this program")?;
    let path = this.with_file_name(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !path.is_file() {
        bail!("{} is not there: the step `test` builds it", path.display());
    }
    Ok(path)
}

/// What others use as libraries builds by itself: with the features it asks for, not with those that the workspace switches on.
fn libraries_alone(root: &Path) -> Result<()> {
    for package in ["nabe-wire", "nabe-content"] {
        command(
            root,
            "cargo",
            &["check", "--quiet", "--locked", "--package", package],
            &[],
        )?;
    }
    Ok(())
}

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
    ("mimi_content.py", "mimi-message-status"),
    ("mimi_policy.py", "mimi-room-policy"),
];

fn check_vectors(root: &Path, script: &str, draft: &str) -> Result<()> {
    let files = vector_files(&root.join("drafts").join(draft).join("vectors"))?;
    let script = format!("interop/crosscheck/{script}");
    let mut arguments = vec![script.as_str(), "check"];
    arguments.extend(files.iter().map(String::as_str));
    command(root, "python3", &arguments, &[])
}

/// The JSON files of a folder, in order.
fn vector_files(folder: &Path) -> Result<Vec<String>> {
    let mut files = entries(folder)?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    Ok(files.iter().map(|path| path.to_string_lossy().into_owned()).collect())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
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

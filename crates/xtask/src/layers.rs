//! `cargo xtask layers`: the direction of the dependencies (docs/architecture.md).
//!
//! Normal and build dependencies are checked. A dev-dependency may point anywhere: tests of an inner crate may well use an
//! outer one, and they ship nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What each package may depend on inside the workspace. A package missing here is an error: place it first.
const ALLOWED: &[(&str, &[&str])] = &[
    ("nabe-types", &[]),
    ("nabe-signing", &["nabe-types"]),
    ("nabe-wire", &[]),
    ("nabe-content", &["nabe-types", "nabe-signing"]),
    ("nabe-event", &["nabe-types", "nabe-signing"]),
    ("nabe-mls", &["nabe-types", "nabe-signing", "nabe-wire"]),
    ("nabe-auth", &["nabe-types", "nabe-signing", "nabe-event", "nabe-wire"]),
    // A device talks to a server by its wire alone, as a vendor's would. From `auth` it takes the policies that a MIMI room can
    // begin with, and reads in one which role is open to it.
    (
        "nabe-client",
        &[
            "nabe-types",
            "nabe-signing",
            "nabe-wire",
            "nabe-content",
            "nabe-mls",
            "nabe-auth",
        ],
    ),
    (
        "nabe-core",
        &[
            "nabe-types",
            "nabe-signing",
            "nabe-wire",
            "nabe-event",
            "nabe-mls",
            "nabe-auth",
        ],
    ),
    // From `auth` the stores take the vocabulary that `core` speaks, such as `Membership`.
    (
        "nabe-store",
        &["nabe-types", "nabe-signing", "nabe-event", "nabe-auth", "nabe-core"],
    ),
    (
        "nabe-store-sqlite",
        &[
            "nabe-types",
            "nabe-signing",
            "nabe-event",
            "nabe-auth",
            "nabe-core",
            "nabe-store",
        ],
    ),
    (
        "nabe-service",
        &[
            "nabe-types",
            "nabe-signing",
            "nabe-wire",
            "nabe-event",
            "nabe-mls",
            "nabe-auth",
            "nabe-core",
            "nabe-store",
        ],
    ),
    (
        "nabe-federation",
        &["nabe-types", "nabe-signing", "nabe-wire", "nabe-event", "nabe-service"],
    ),
    (
        "nabe-http",
        &["nabe-types", "nabe-signing", "nabe-wire", "nabe-event", "nabe-service"],
    ),
    // The conformance checks judge any server by its wire alone, so they know none of ours.
    (
        "nabe-check",
        &[
            "nabe-types",
            "nabe-signing",
            "nabe-wire",
            "nabe-content",
            "nabe-event",
            "nabe-mls",
        ],
    ),
    // The lab measures the group as a hub has it, and drives other implementations as processes of their own.
    ("nabe-allocations", &[]),
    ("nabe-lab", &["nabe-types", "nabe-wire", "nabe-mls", "nabe-allocations"]),
    ("nabe", PRODUCT),
    ("nabe-benches", PRODUCT_AND_BINARY),
    ("nabe-tests", PRODUCT_AND_BINARY),
    ("xtask", &[]),
];

const PRODUCT: &[&str] = &[
    "nabe-types",
    "nabe-signing",
    "nabe-event",
    "nabe-auth",
    "nabe-core",
    "nabe-store",
    "nabe-store-sqlite",
    "nabe-service",
    "nabe-federation",
    "nabe-http",
    "nabe-check",
    "nabe-content",
    "nabe-mls",
    "nabe-client",
    "nabe-wire",
    "nabe-allocations",
    "nabe-lab",
];

const PRODUCT_AND_BINARY: &[&str] = &[
    "nabe",
    "nabe-types",
    "nabe-signing",
    "nabe-event",
    "nabe-auth",
    "nabe-core",
    "nabe-store",
    "nabe-store-sqlite",
    "nabe-service",
    "nabe-federation",
    "nabe-http",
    "nabe-check",
    "nabe-content",
    "nabe-mls",
    "nabe-client",
    "nabe-wire",
    "nabe-allocations",
    "nabe-lab",
];

/// The crates that decide and never act, and what must not appear anywhere below them.
const PURE: &[&str] = &[
    "nabe-types",
    "nabe-signing",
    "nabe-wire",
    "nabe-content",
    "nabe-event",
    "nabe-auth",
    "nabe-core",
];
const FORBIDDEN_BELOW_PURE: &[&str] = &["tokio", "hyper", "sqlx", "axum", "reqwest"];

/// Checks the edges inside the workspace, then what the pure crates pull in.
pub(crate) fn run(root: &Path) -> Result<()> {
    let metadata = cargo(root, &["metadata", "--no-deps", "--format-version", "1", "--offline"])?;
    let edges = workspace_edges(&metadata)?;
    let mut problems = forbidden_edges(&edges);
    for package in PURE {
        let tree = cargo(
            root,
            &["tree", "--edges", "normal", "--prefix", "none", "--package", package],
        )?;
        problems.extend(forbidden_below(package, &tree));
    }
    for problem in &problems {
        eprintln!("layers: {problem}");
    }
    if !problems.is_empty() {
        bail!("{} forbidden dependencies", problems.len());
    }
    println!(
        "layers: {} packages, {} edges, all allowed",
        edges.len(),
        edges.values().map(Vec::len).sum::<usize>()
    );
    Ok(())
}

/// The part of `cargo metadata` read here; the format is Cargo's, so unknown fields are expected.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Package → the workspace packages it depends on, dev-dependencies left out.
fn workspace_edges(metadata: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let metadata: Metadata = serde_json::from_str(metadata).context("reading `cargo metadata`")?;
    let members: Vec<String> = metadata.packages.iter().map(|package| package.name.clone()).collect();
    let mut edges = BTreeMap::new();
    for package in metadata.packages {
        let mut targets: Vec<String> = package
            .dependencies
            .into_iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev") && members.contains(&dependency.name))
            .map(|dependency| dependency.name)
            .collect();
        targets.sort();
        targets.dedup();
        edges.insert(package.name, targets);
    }
    Ok(edges)
}

fn forbidden_edges(edges: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut problems = Vec::new();
    for (package, targets) in edges {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| name == package) else {
            problems.push(format!("{package} has no layer; add it to crates/xtask/src/layers.rs"));
            continue;
        };
        let wrong = targets.iter().filter(|target| !allowed.contains(&target.as_str()));
        problems.extend(wrong.map(|target| format!("{package} must not depend on {target}")));
    }
    problems
}

/// `tree` is `cargo tree --prefix none`: a package's name is the first word of its line.
fn forbidden_below(package: &str, tree: &str) -> Vec<String> {
    let mut problems: Vec<String> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| is_forbidden_below_pure(name))
        .map(|name| format!("{package} pulls in {name}"))
        .collect();
    problems.sort();
    problems.dedup();
    problems
}

/// Also the families, such as `tokio-util` and `sqlx-core`.
fn is_forbidden_below_pure(name: &str) -> bool {
    FORBIDDEN_BELOW_PURE.iter().any(|forbidden| {
        name.strip_prefix(forbidden)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("cargo")
        .args(arguments)
        .current_dir(root)
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!(
            "`cargo {}`: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).context("cargo's output is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(pairs: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        pairs
            .iter()
            .map(|(from, to)| ((*from).to_owned(), to.iter().map(|name| (*name).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn an_edge_outward_is_refused() {
        let problems = forbidden_edges(&edges(&[("nabe-core", &["nabe-types", "nabe-store"])]));
        assert_eq!(problems, ["nabe-core must not depend on nabe-store"]);
    }

    #[test]
    fn an_unplaced_package_is_refused() {
        let problems = forbidden_edges(&edges(&[("nabe-new", &[])]));
        assert_eq!(
            problems,
            ["nabe-new has no layer; add it to crates/xtask/src/layers.rs"]
        );
    }

    /// The packages on a cycle or above one: what is left when those that depend on nothing left are taken away, again and again.
    fn entangled<'a>(table: &[(&'a str, &[&str])]) -> Vec<&'a str> {
        let mut left: Vec<_> = table.to_vec();
        loop {
            let names: Vec<_> = left.iter().map(|(name, _)| *name).collect();
            left.retain(|(_, targets)| targets.iter().any(|target| names.contains(target)));
            if left.len() == names.len() {
                return names;
            }
        }
    }

    #[test]
    fn the_allowed_table_has_no_cycle_and_no_unknown_target() {
        assert_eq!(entangled(ALLOWED), [""; 0]);
        for (package, targets) in ALLOWED {
            for target in *targets {
                let is_known = ALLOWED.iter().any(|(name, _)| name == target);
                assert!(is_known, "{package} may depend on {target}, which is no package");
            }
        }
    }

    #[test]
    fn a_cycle_of_any_length_is_found() {
        assert_eq!(entangled(&[("a", &["b"]), ("b", &["c"]), ("c", &[])]), [""; 0]);
        assert_eq!(entangled(&[("a", &["a"])]), ["a"]);
        let of_three: &[(&str, &[&str])] = &[("a", &["b"]), ("b", &["c"]), ("c", &["a", "d"]), ("d", &[])];
        assert_eq!(entangled(of_three), ["a", "b", "c"]);
    }

    #[test]
    fn dev_dependencies_and_foreign_crates_are_no_edges() {
        let metadata = r#"{"packages": [
            {"name": "nabe-types", "dependencies": [{"name": "serde", "kind": null}]},
            {"name": "nabe-core", "dependencies": [
                {"name": "nabe-types", "kind": null}, {"name": "nabe-types", "kind": "build"},
                {"name": "nabe-store", "kind": "dev"}]},
            {"name": "nabe-store", "dependencies": []}]}"#;
        let expected = edges(&[("nabe-core", &["nabe-types"]), ("nabe-store", &[]), ("nabe-types", &[])]);
        assert_eq!(workspace_edges(metadata).unwrap(), expected);
    }

    #[test]
    fn runtime_crates_and_their_families_are_seen_below_a_pure_crate() {
        let tree = "nabe-core v0.1.0 (/x)\nserde v1.0.0\ntokio-util v0.7.0\nsqlx v0.9.0 (*)\nhyperion v1.0.0\nsqlx v0.9.0 (*)\n";
        assert_eq!(
            forbidden_below("nabe-core", tree),
            ["nabe-core pulls in sqlx", "nabe-core pulls in tokio-util"]
        );
    }
}

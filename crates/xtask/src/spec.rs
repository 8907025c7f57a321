//! `cargo xtask spec`: are the requirements of the drafts well-formed and proven, and does the code cite what exists?

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::drafts::{self, Draft, Level, Requirement, Status};
use crate::sources::Sources;

/// Checks everything, prints a closing line per draft, and with `gaps` each requirement that is not done.
pub(crate) fn run(root: &Path, gaps: bool) -> Result<()> {
    let drafts = drafts::read_all(&root.join("drafts"))?;
    // This crate's own tests cite things that must not exist.
    let code = Sources::read(
        root,
        &["crates", "tests", "benches", "fuzz", "interop"],
        &["rs", "py", "mjs"],
    )?
    .except("crates/xtask");
    let notes = Sources::read(
        root,
        &["README.md", "drafts", "docs", "fuzz", "benches", "interop"],
        &["md"],
    )?;

    let mut problems = requirement_problems(&drafts, &code);
    problems.extend(citation_problems(&drafts, &code));
    problems.extend(citation_problems(&drafts, &notes));

    for draft in &drafts {
        if gaps {
            print!("{}", gap_list(draft));
        }
        println!("{}", closing_line(draft));
    }
    for problem in &problems {
        eprintln!("spec: {problem}");
    }
    if !problems.is_empty() {
        bail!("{} problems in drafts/ or in what the code cites", problems.len());
    }
    Ok(())
}

fn requirement_problems(drafts: &[Draft], code: &Sources) -> Vec<String> {
    let known = all_ids(drafts);
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for draft in drafts {
        for requirement in &draft.requirements {
            if !seen.insert(requirement.id.as_str()) {
                problems.push(format!("{}: the id is used twice", requirement.id));
            }
            let found = form_problems(draft, requirement, &known)
                .into_iter()
                .chain(proof_problems(requirement, code));
            problems.extend(found.map(|problem| format!("{}: {problem}", requirement.id)));
        }
    }
    problems
}

fn form_problems(draft: &Draft, requirement: &Requirement, known: &BTreeSet<&str>) -> Vec<String> {
    let mut problems = Vec::new();
    let form = requirement
        .id
        .strip_prefix(&draft.pin.prefix)
        .filter(|rest| rest.starts_with('-'));
    if form.is_none_or(|rest| rest.matches('-').count() < 2) {
        problems.push(format!("the id is not {}-area-words", draft.pin.prefix));
    }
    let anchor = requirement.section.strip_prefix('#');
    if !anchor.is_some_and(|anchor| draft.anchors.contains(anchor)) {
        problems.push(format!("{} is no anchor of {}", requirement.section, draft.pin.name));
    }
    if requirement.text.trim().is_empty() {
        problems.push("no text".to_owned());
    }
    if requirement.status != Status::Done
        && requirement
            .reason
            .as_deref()
            .is_none_or(|reason| reason.trim().is_empty())
    {
        problems.push("not done, and no reason".to_owned());
    }
    if requirement.status == Status::Mapped && requirement.by.is_empty() {
        problems.push("mapped, but not to anything".to_owned());
    }
    let unknown = requirement.by.iter().filter(|id| !known.contains(id.as_str()));
    problems.extend(unknown.map(|id| format!("`by` names the unknown requirement {id}")));
    problems
}

/// A named proof must exist whatever the status; a MUST that is done must name one.
fn proof_problems(requirement: &Requirement, code: &Sources) -> Vec<String> {
    if requirement.status == Status::Done && requirement.level == Level::Must && requirement.proof.is_empty() {
        return vec!["a MUST that is done needs a proof".to_owned()];
    }
    requirement
        .proof
        .iter()
        .filter_map(|proof| proof_problem(proof, code))
        .collect()
}

fn proof_problem(proof: &str, code: &Sources) -> Option<String> {
    let exists = if let Some(id) = proof.strip_prefix("check:") {
        code.has_literal(Path::new("crates/check/src"), id)
    } else if let Some((package, path)) = proof.strip_prefix("test:").and_then(|rest| rest.split_once("::")) {
        let function = path.rsplit("::").next().unwrap_or(path);
        code.has_function(&folder_of(package), function)
    } else {
        return Some(format!("`{proof}` is neither test:<crate>::<path> nor check:<id>"));
    };
    (!exists).then(|| format!("the proof {proof} does not exist"))
}

/// Where a package lives: `nabe-auth` or `auth` in `crates/auth`, `nabe-tests` in `tests`.
fn folder_of(package: &str) -> PathBuf {
    match package.strip_prefix("nabe-").unwrap_or(package) {
        outer @ ("tests" | "benches") => PathBuf::from(outer),
        name => Path::new("crates").join(name),
    }
}

fn citation_problems(drafts: &[Draft], sources: &Sources) -> Vec<String> {
    let known = all_ids(drafts);
    let mut problems = Vec::new();
    for draft in drafts {
        let prefix = &draft.pin.prefix;
        let anchors = sources.anchor_citations(prefix).into_iter();
        let anchors = anchors
            .filter(|citation| !draft.anchors.contains(citation.what))
            .map(|citation| (citation, "anchor"));
        let ids = sources.requirement_citations(prefix).into_iter();
        let ids = ids
            .filter(|citation| !known.contains(citation.what))
            .map(|citation| (citation, "requirement"));
        for (citation, kind) in anchors.chain(ids) {
            let (path, line, what) = (citation.path.display(), citation.line, citation.what);
            problems.push(format!(
                "{path}:{line}: cites the unknown {kind} {what} of {}",
                draft.pin.name
            ));
        }
    }
    problems
}

fn all_ids(drafts: &[Draft]) -> BTreeSet<&str> {
    drafts
        .iter()
        .flat_map(|draft| &draft.requirements)
        .map(|requirement| requirement.id.as_str())
        .collect()
}

fn closing_line(draft: &Draft) -> String {
    let count = |wanted: Status| {
        draft
            .requirements
            .iter()
            .filter(|requirement| requirement.status == wanted)
            .count()
    };
    let mut line = format!("{}: {} requirements", draft.pin.name, draft.requirements.len());
    for (status, name) in [
        (Status::Done, "done"),
        (Status::Partial, "partial"),
        (Status::Gap, "gap"),
    ] {
        line.push_str(&format!(", {} {name}", count(status)));
    }
    for (status, name) in [(Status::Mapped, "mapped"), (Status::Superseded, "superseded")] {
        if count(status) > 0 {
            line.push_str(&format!(", {} {name}", count(status)));
        }
    }
    let musts = draft
        .requirements
        .iter()
        .filter(|requirement| requirement.level == Level::Must);
    let owed: Vec<_> = musts
        .filter(|must| !matches!(must.status, Status::Mapped | Status::Superseded))
        .collect();
    let done = owed.iter().filter(|must| must.status == Status::Done).count();
    line.push_str(&format!("; MUST: {done}/{} done", owed.len()));
    line
}

/// One line per requirement that is partial or a gap, grouped by reason so that the list reads as a plan.
fn gap_list(draft: &Draft) -> String {
    let mut by_reason: BTreeMap<&str, Vec<&Requirement>> = BTreeMap::new();
    for requirement in &draft.requirements {
        if matches!(requirement.status, Status::Partial | Status::Gap) {
            by_reason
                .entry(requirement.reason.as_deref().unwrap_or_default())
                .or_default()
                .push(requirement);
        }
    }
    let mut list = String::new();
    for (reason, requirements) in by_reason {
        list.push_str(&format!("{}: {reason}\n", draft.pin.name));
        for requirement in requirements {
            let (id, level, status) = (&requirement.id, requirement.level, requirement.status);
            let (level, status) = (
                format!("{level:?}").to_uppercase(),
                format!("{status:?}").to_lowercase(),
            );
            list.push_str(&format!("  {level:<6} {status:<7} {id}  {}\n", requirement.section));
        }
    }
    list
}

#[cfg(test)]
mod tests;

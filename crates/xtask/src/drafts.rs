//! The files under `drafts/`, read strictly: an unknown key is an error. Their meaning is described in drafts/README.md.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// One draft: its pin, its anchors and its requirements.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) pin: Pin,
    /// Without the `#`.
    pub(crate) anchors: BTreeSet<String>,
    pub(crate) requirements: Vec<Requirement>,
}

/// Which revision of a draft this project implements.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the pin is for people; only its presence and the two names are used here"
)]
pub(crate) struct Pin {
    /// The folder under `drafts/`.
    pub(crate) name: String,
    /// How ids (`LM-txn-process-once`) and citations (`LM #int-txn-ids`) of this draft begin.
    pub(crate) prefix: String,
    document: String,
    revision: String,
    date: String,
    repository: String,
    commit: String,
    file: String,
}

/// One statement of a draft, in our own words.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Requirement {
    pub(crate) id: String,
    /// An anchor of the draft, with the `#`.
    pub(crate) section: String,
    pub(crate) level: Level,
    pub(crate) text: String,
    pub(crate) status: Status,
    pub(crate) reason: Option<String>,
    /// The requirements, of any draft, that stand in for a mapped or superseded one.
    #[serde(default)]
    pub(crate) by: Vec<String>,
    #[serde(default)]
    pub(crate) proof: Vec<String>,
}

/// How strongly the draft says it. SHALL and REQUIRED count as MUST, RECOMMENDED as SHOULD, OPTIONAL as MAY.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub(crate) enum Level {
    /// Also MUST NOT.
    #[serde(rename = "MUST")]
    Must,
    /// Also SHOULD NOT.
    #[serde(rename = "SHOULD")]
    Should,
    #[serde(rename = "MAY")]
    May,
    /// Load-bearing, but without a BCP 14 word.
    #[serde(rename = "STATED")]
    Stated,
}

/// How far we are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Done,
    Partial,
    Gap,
    /// Only in the older drafts: the same thing is a requirement of another draft, see `by`.
    Mapped,
    /// Only in the older drafts: a later draft replaced it.
    Superseded,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pins {
    draft: Vec<Pin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Anchors {
    explicit: Vec<String>,
    slugs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirements {
    requirement: Vec<Requirement>,
}

/// Reads every pinned draft, in the order of `PINS.toml`. A folder with requirements but no pin is an error.
pub(crate) fn read_all(folder: &Path) -> Result<Vec<Draft>> {
    let pins: Pins = read(&folder.join("PINS.toml"))?;
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.join("requirements.toml").exists() && !pins.draft.iter().any(|pin| pin.name == name) {
            bail!("{} is not pinned in PINS.toml", path.display());
        }
    }
    pins.draft.into_iter().map(|pin| read_one(folder, pin)).collect()
}

fn read_one(folder: &Path, pin: Pin) -> Result<Draft> {
    let folder = folder.join(&pin.name);
    let anchors: Anchors = read(&folder.join("anchors.toml"))?;
    let requirements: Requirements = read(&folder.join("requirements.toml"))?;
    let anchors = anchors.explicit.into_iter().chain(anchors.slugs).collect();
    Ok(Draft {
        pin,
        anchors,
        requirements: requirements.requirement,
    })
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A draft with the anchors `int-a` and `int-b`, and the requirements in `text`.
    pub(crate) fn draft(text: &str) -> Draft {
        let pin = Pin {
            name: "some-draft".to_owned(),
            prefix: "LM".to_owned(),
            document: String::new(),
            revision: String::new(),
            date: String::new(),
            repository: String::new(),
            commit: String::new(),
            file: String::new(),
        };
        let requirements: Requirements = toml::from_str(text).unwrap();
        let anchors = ["int-a", "int-b"].map(str::to_owned).into();
        Draft {
            pin,
            anchors,
            requirements: requirements.requirement,
        }
    }

    const GOOD: &str = r##"
        [[requirement]]
        id = "LM-a-one"
        section = "#int-a"
        level = "MUST"
        text = "Something holds."
        status = "gap"
        reason = "not built yet"
    "##;

    #[test]
    fn a_requirement_is_read() {
        let draft = draft(GOOD);
        let requirement = &draft.requirements[0];
        assert_eq!((requirement.level, requirement.status), (Level::Must, Status::Gap));
        assert_eq!(requirement.reason.as_deref(), Some("not built yet"));
        assert!(requirement.proof.is_empty());
    }

    #[test]
    fn an_unknown_key_level_or_status_is_an_error() {
        for (from, to) in [
            ("reason", "reasom"),
            ("\"MUST\"", "\"must\""),
            ("\"gap\"", "\"missing\""),
        ] {
            assert!(toml::from_str::<Requirements>(&GOOD.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn a_missing_key_is_an_error() {
        assert!(toml::from_str::<Requirements>(&GOOD.replace("section = \"#int-a\"", "")).is_err());
    }
}

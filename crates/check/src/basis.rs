//! What the requirements that cases cite are about: their draft, section and level, from the tables in `drafts/`.

use std::fmt;

use serde::Serialize;

/// Where a requirement stands, and how binding it is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Basis {
    /// The requirement's ID.
    pub requirement: &'static str,
    /// The draft, as it is cited here: `LM`, `MIMI`, `MRP`, `MC`, `MLSX`.
    pub draft: &'static str,
    /// The anchor of the section, `#int-txn-ids`.
    pub section: &'static str,
    /// How binding it is.
    pub level: Level,
}

/// How binding a statement of a draft is, the least binding first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Stated without a word of BCP 14.
    Stated,
    /// MAY.
    May,
    /// SHOULD.
    Should,
    /// MUST.
    Must,
}

impl Basis {
    /// Of a requirement; `None` if there is none of that ID.
    pub(crate) fn of(requirement: &'static str) -> Option<Self> {
        let (draft, _) = requirement.split_once('-')?;
        let (_, table) = TABLES.iter().find(|(name, _)| *name == draft)?;
        let line = format!("id = \"{requirement}\"");
        let mut lines = table.lines().skip_while(|read| *read != line).skip(1);
        let mut value = |key: &str| {
            let line = lines.next()?;
            line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')
        };
        let (section, level) = (value("section")?, value("level")?);
        let level = match level {
            "MUST" => Level::Must,
            "SHOULD" => Level::Should,
            "MAY" => Level::May,
            _ => Level::Stated,
        };
        Some(Self {
            requirement,
            draft,
            section,
            level,
        })
    }
}

/// `MIMI #transport-layer MUST`
impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.draft, self.section, self.level)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stated => "STATED",
            Self::May => "MAY",
            Self::Should => "SHOULD",
            Self::Must => "MUST",
        })
    }
}

const TABLES: &[(&str, &str)] = &[
    (
        "LM",
        include_str!("../../../drafts/linearized-matrix/requirements.toml"),
    ),
    ("MIMI", include_str!("../../../drafts/mimi-protocol/requirements.toml")),
    (
        "MRP",
        include_str!("../../../drafts/mimi-room-policy/requirements.toml"),
    ),
    ("MC", include_str!("../../../drafts/mimi-content/requirements.toml")),
    ("MLSX", include_str!("../../../drafts/mls-extensions/requirements.toml")),
];

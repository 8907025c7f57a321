//! What an input can be, and the names for it.

use std::fmt::Write as _;

use nabe_wire::{KINDS, Kind};

/// What an input is read as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    /// An event or a signed request of Linearized Matrix.
    Json,
    /// A MIMI message: a content object.
    Content,
    /// A message status report.
    Status,
    /// A struct in TLS's presentation language.
    Struct(&'static Kind),
}

impl PartialEq for Subject {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Subject {
    /// The draft's name for it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Json => "event",
            Self::Content => "MimiContent",
            Self::Status => "MessageStatusReport",
            Self::Struct(kind) => kind.name,
        }
    }

    /// The one with this name, whatever the case, spaces and hyphens; short names and endpoints are names, too.
    pub(super) fn named(name: &str) -> Option<Self> {
        let plain = |name: &str| -> String {
            let kept = name.chars().filter(char::is_ascii_alphanumeric);
            kept.map(|c| c.to_ascii_lowercase()).collect()
        };
        let name = plain(name);
        let name = name
            .strip_prefix("mls")
            .filter(|rest| !["", "message"].contains(rest))
            .unwrap_or(&name);
        let others = [Self::Json, Self::Content, Self::Status];
        let mut all = others.into_iter().chain(KINDS.iter().map(Self::Struct));
        let by_name = all.find(|subject| plain(subject.name()) == name);
        by_name.or_else(|| {
            let (_, subject) = ALIASES.iter().find(|(alias, _)| plain(alias) == name)?;
            Self::named(subject)
        })
    }
}

/// Other names: short ones, of endpoints.
const ALIASES: &[(&str, &str)] = &[
    ("request", "event"),
    ("json", "event"),
    ("content", "MimiContent"),
    ("status", "MessageStatusReport"),
    ("mls", "MLSMessage"),
    ("semiprivate-message", "SemiPrivateMessage"),
    ("tree", "RatchetTree"),
    ("keyMaterial", "KeyMaterialRequest"),
    ("notify", "FanoutMessages"),
    ("submitMessage", "SubmitMessageRequest"),
    ("update", "UpdateRequest"),
    ("requestConsent", "ConsentEntry"),
    ("updateConsent", "ConsentEntry"),
    ("identifierQuery", "IdentifierRequest"),
    ("reportAbuse", "AbuseReport"),
    ("UpdateRoomRequest", "UpdateRequest"),
    ("HandshakeBundle", "UpdateRequest"),
    ("FrankingAgentUpdate", "FrankingAgentData"),
    ("RoomMetaDataUpdate", "RoomMetaData"),
];

/// What stands after `--as`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// A type.
    Subject(Subject),
    /// The list of types.
    Help,
}

impl Asked {
    /// Takes the name of a type, or `help`.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        if name.eq_ignore_ascii_case("help") {
            return Ok(Self::Help);
        }
        Subject::named(name)
            .map(Self::Subject)
            .ok_or_else(|| "no type of this name; `--as help` lists them".to_owned())
    }
}

/// The bodies of MIMI's endpoints.
const ENDPOINTS: &[(&str, &[&str])] = &[
    ("keyMaterial", &["KeyMaterialRequest", "KeyMaterialResponse"]),
    ("update", &["UpdateRequest", "UpdateRoomResponse"]),
    ("submitMessage", &["SubmitMessageRequest", "SubmitMessageResponse"]),
    ("notify", &["FanoutMessages"]),
    ("groupInfo", &["GroupInfoRequest", "GroupInfoResponse"]),
    ("requestConsent, updateConsent", &["ConsentEntry"]),
    ("identifierQuery", &["IdentifierRequest", "IdentifierResponse"]),
    ("reportAbuse", &["AbuseReport"]),
];

/// Every name that `--as` takes.
pub(super) fn list() -> String {
    let mut out = String::from("Linearized Matrix (JSON)\n  event, request\n\n");
    out.push_str("Inside MLS messages (CBOR)\n  MimiContent (content), MessageStatusReport (status)\n\n");
    out.push_str("Bodies of MIMI's requests and answers\n");
    for (endpoint, names) in ENDPOINTS {
        let _ = writeln!(out, "  {endpoint:30} {}", names.join(", "));
    }
    out.push_str("\nWhat is in them, components of a room's state, MLS\n");
    let is_body = |name: &str| ENDPOINTS.iter().any(|(_, names)| names.contains(&name));
    let mut line = String::from(" ");
    for kind in KINDS.iter().filter(|kind| !is_body(kind.name)) {
        if line.len() + kind.name.len() > 100 {
            let _ = writeln!(out, "{line}");
            line = String::from(" ");
        }
        let _ = write!(line, " {}", kind.name);
    }
    let _ = writeln!(out, "{line}");
    out.push_str(
        "\nNames are taken in any case, with or without hyphens; the names of endpoints stand for their requests,\nbut for groupInfo, which is MLS's struct.\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_name_and_every_other_name_leads_to_one() {
        for kind in KINDS {
            assert_eq!(Subject::named(kind.name).unwrap().name(), kind.name);
            assert!(list().contains(kind.name), "{}", kind.name);
        }
        for (alias, name) in ALIASES {
            assert_eq!(Subject::named(alias).unwrap().name(), *name, "{alias}");
        }
        assert_eq!(Subject::named("mls-message").unwrap().name(), "MLSMessage");
        assert_eq!(Subject::named("MLS KEY PACKAGE").unwrap().name(), "KeyPackage");
        assert_eq!(Subject::named("mls").unwrap().name(), "MLSMessage");
        for name in ["PublicMessage", "public-message", "PrivateMessage", "Commit"] {
            assert_ne!(Subject::named(name).unwrap().name(), "MLSMessage");
        }
        for (endpoints, names) in ENDPOINTS {
            for endpoint in endpoints.split(", ").filter(|name| *name != "groupInfo") {
                assert_eq!(Subject::named(endpoint).unwrap().name(), names[0], "{endpoint}");
            }
        }
        for name in ["nothing", "", "--", "§"] {
            assert_eq!(Subject::named(name), None);
        }
    }
}

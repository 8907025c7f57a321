//! What can be measured: an operation in a group of some size and shape, with a suite, by an implementation.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Declares an enum whose values have a name, used everywhere outside, and a description.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident ($what:literal) { $($variant:ident = $text:literal, $description:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        pub enum $name {
            $(#[doc = $description] #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name, as in options, records and the protocol.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What it is, in a few words.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|value| value.name() == name).ok_or_else(|| UnknownName {
                    what: $what,
                    name: name.to_owned(),
                    known: Self::ALL.iter().map(|value| value.name()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

/// There is no such operation or shape.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no {what} `{name}`; there are {known}")]
pub struct UnknownName {
    what: &'static str,
    name: String,
    known: String,
}

named! {
    /// What is done and timed. Every commit has a path, and is made together with the GroupInfo and ratchet tree that servers ask for.
    Operation ("operation") {
        Create = "create", "make a group and add all others by one commit";
        AddOne = "add-one", "commit the addition of one member";
        AddMany = "add-many", "commit the addition of 50 members at once";
        AddBatches = "add-batches", "commit the addition of 50 members, in five commits of ten";
        Remove = "remove", "commit the removal of one member";
        Update = "update", "commit new keys for oneself";
        UpdateEveryone = "update-everyone", "every member in turn commits new keys: the sum over all who commit";
        ExternalJoin = "external-join", "join by an external commit, from the GroupInfo's bytes on";
        JoinWelcome = "join-welcome", "join by a Welcome, from its bytes on";
        Process = "process", "take in another member's update, as a member";
        HubBare = "hub-bare", "take in an update without secrets: the library's public group alone";
        Hub = "hub", "take in an update as Nabe's hub does: checks, GroupInfo's signature, change to be stored, merge";
        Checkpoint = "checkpoint", "write down the hub's whole state of a group";
        Restore = "restore", "read that back";
        Encrypt = "encrypt", "encrypt a message of 100 bytes";
        Decrypt = "decrypt", "decrypt one, in order";
        DecryptUnordered = "decrypt-unordered", "decrypt four that come in reverse order: the mean of them";
        DecryptGap = "decrypt-gap", "decrypt one after 100 that never come";
        Export = "export", "export a secret of 32 bytes";
    }
}

named! {
    /// What a group's tree has gone through.
    Shape ("shape") {
        Fresh = "fresh", "all were added at once, and only one has committed since";
        Full = "full", "everybody has committed since the last change of members";
        Churned = "churned", "full, then a tenth of the members left and as many came, in sixteen commits of different members";
        Sparse = "sparse", "full, then a quarter of the members was removed by one commit";
    }
}

/// A group to be prepared.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Group {
    /// The implementation that has it, by the name of its worker.
    pub implementation: String,
    /// MLS cipher suite; 0 for what is not MLS.
    pub suite: u16,
    /// Shape of its tree.
    pub shape: Shape,
    /// Members.
    pub size: u32,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            implementation,
            suite,
            shape,
            size,
        } = self;
        write!(f, "{implementation}/{suite}/{shape}/{size}")
    }
}

/// An operation in a group.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Cell {
    /// Where.
    #[serde(flatten)]
    pub group: Group,
    /// What.
    pub operation: Operation,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_an_unknown_one_is_told_what_there_is() {
        for operation in Operation::ALL {
            assert_eq!(operation.name().parse(), Ok(*operation));
            assert_eq!(serde_json::to_string(operation).unwrap(), format!("\"{operation}\""));
        }
        let error = "bushy".parse::<Shape>().unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no shape `bushy`; there are fresh, full, churned, sparse"
        );
    }
}

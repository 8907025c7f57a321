//! What lab and worker say to each other (docs/guides/worker-protocol.md): one JSON object a line, requests on the worker's standard input, replies on
//! its standard output. The worker speaks first, with a [`Reply::Hello`]; then it answers each request, and ends when its input does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cell::{Operation, Shape};

/// The version of what is described here.
pub const PROTOCOL: u32 = 1;

/// Longest line that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// What the lab asks for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Make a group, in place of the one before. Answered by [`Reply::Prepared`].
    Prepare {
        /// Cipher suite.
        suite: u16,
        /// Shape of the tree.
        shape: Shape,
        /// Members.
        size: u32,
        /// Decides everything but keys: who sits where, who comes and goes.
        seed: u64,
    },
    /// Do something in that group again and again. Answered by a [`Reply::Sample`] each time and a [`Reply::Measured`] at the end.
    Measure {
        /// What.
        operation: Operation,
        /// How often before anything counts.
        warm_up: u32,
        /// How often at most after that; at least once.
        samples: u32,
        /// No sample is begun later than so many milliseconds after the first.
        milliseconds: u64,
    },
}

/// What the worker answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Reply {
    /// Who it is.
    Hello(Hello),
    /// The group is there.
    Prepared {
        /// What its tree is like, by name: leaves, blank nodes, unmerged leaves.
        tree: BTreeMap<String, u64>,
        /// Who agrees on what.
        check: Vec<Witness>,
    },
    /// It was done once.
    Sample(Sample),
    /// It was done as often as it will be.
    Measured {
        /// Sizes of what came out, by name, in bytes: `commit`, `welcome`, `group-info`, `tree`, `key-package`, `message`, `stored`.
        bytes: BTreeMap<String, u64>,
        /// Cryptographic operations of one sample, by name: `seals`, `opens`, `signatures`, `verifications`.
        work: BTreeMap<String, u64>,
        /// Who agrees on what, after another commit.
        check: Vec<Witness>,
    },
    /// It has no such thing, or not at this size.
    Unsupported {
        /// Why.
        reason: String,
    },
    /// It went wrong. The worker may be asked to prepare another group.
    Failed {
        /// What.
        reason: String,
    },
}

/// A worker and what it can.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Name of the implementation.
    pub implementation: String,
    /// Versions of what it is made of, by name.
    pub versions: BTreeMap<String, String>,
    /// Cipher suites.
    pub suites: Vec<u16>,
    /// Shapes that it can prepare.
    pub shapes: Vec<Shape>,
    /// Operations that it can do.
    pub operations: Vec<Operation>,
    /// Threads that it computes with.
    pub threads: u32,
    /// How it was built: `release`, or something slower.
    pub build: String,
    /// What a reader of its figures has to know, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sample {
    /// Wall time in nanoseconds, by the worker's own monotonic clock.
    pub ns: u64,
    /// How much of that the measuring thread could have run and others ran instead, as the system counts it, in nanoseconds; `None` where it
    /// does not.
    pub waited_ns: Option<u64>,
    /// Allocations; `None` if nobody counts.
    pub allocations: Option<u64>,
    /// Most bytes held beyond those held before.
    pub peak_bytes: Option<u64>,
}

/// What somebody in the group holds to be its state. Those of one epoch have to be alike.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Witness {
    /// The leaf; `None` for a hub, which has no secrets.
    pub leaf: Option<u32>,
    /// The epoch.
    pub epoch: u64,
    /// Hash of the ratchet tree in hexadecimal; empty for what has none.
    pub tree_hash: String,
    /// The value on which members agree, in hexadecimal; `None` for a hub.
    pub authenticator: Option<String>,
}

/// Why a group's own check does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Disagreement {
    /// Nobody was asked.
    #[error("no member bears witness to the group")]
    Nobody,
    /// Not all are where the first is.
    #[error("{who} disagrees with the first member about the {what}")]
    About {
        /// Who.
        who: String,
        /// About what.
        what: &'static str,
    },
}

/// Whether all witnesses agree: the members on epoch, tree hash and authenticator, a hub on the first two.
///
/// # Errors
/// Who disagrees about what.
pub fn check(witnesses: &[Witness]) -> Result<(), Disagreement> {
    let first = witnesses
        .iter()
        .find(|witness| witness.leaf.is_some() && witness.authenticator.is_some())
        .ok_or(Disagreement::Nobody)?;
    for witness in witnesses {
        let who = || {
            witness
                .leaf
                .map_or_else(|| "the hub".to_owned(), |leaf| format!("the member at leaf {leaf}"))
        };
        let about = |what| Err(Disagreement::About { who: who(), what });
        if witness.epoch != first.epoch {
            return about("epoch");
        }
        if witness.tree_hash != first.tree_hash {
            return about("tree hash");
        }
        if witness.leaf.is_some() && witness.authenticator != first.authenticator {
            return about("epoch authenticator");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(leaf: Option<u32>) -> Witness {
        Witness {
            leaf,
            epoch: 3,
            tree_hash: "aa".to_owned(),
            authenticator: leaf.map(|_| "bb".to_owned()),
        }
    }

    #[test]
    fn requests_are_the_documented_lines() {
        let prepare = Request::Prepare {
            suite: 1,
            shape: Shape::Fresh,
            size: 100,
            seed: 7,
        };
        let line = r#"{"type":"prepare","suite":1,"shape":"fresh","size":100,"seed":7}"#;
        assert_eq!(serde_json::to_string(&prepare).unwrap(), line);
        assert_eq!(serde_json::from_str::<Request>(line).unwrap(), prepare);
        let line = r#"{"type":"measure","operation":"add-one","warm_up":1,"samples":30,"milliseconds":500}"#;
        assert_eq!(
            serde_json::to_string(&serde_json::from_str::<Request>(line).unwrap()).unwrap(),
            line
        );
    }

    #[test]
    fn replies_are_the_documented_lines() {
        for line in [
            r#"{"type":"hello","protocol":1,"implementation":"x","versions":{"x":"1"},"suites":[1],"shapes":["full"],"operations":["hub"],"threads":1,"build":"release"}"#,
            r#"{"type":"hello","protocol":1,"implementation":"x","versions":{},"suites":[1],"shapes":["full"],"operations":["hub"],"threads":1,"build":"release","note":"by gRPC"}"#,
            r#"{"type":"prepared","tree":{"leaves":2},"check":[{"leaf":0,"epoch":1,"tree_hash":"aa","authenticator":"bb"}]}"#,
            r#"{"type":"sample","ns":5,"waited_ns":null,"allocations":2,"peak_bytes":64}"#,
            r#"{"type":"measured","bytes":{"commit":9},"work":{"seals":1},"check":[]}"#,
            r#"{"type":"unsupported","reason":"no"}"#,
            r#"{"type":"failed","reason":"no"}"#,
        ] {
            assert_eq!(
                serde_json::to_string(&serde_json::from_str::<Reply>(line).unwrap()).unwrap(),
                line
            );
        }
    }

    #[test]
    fn witnesses_agree_or_it_is_said_who_does_not() {
        let all = [witness(None), witness(Some(0)), witness(Some(4))];
        assert_eq!(check(&all), Ok(()));
        assert_eq!(check(&all[..1]), Err(Disagreement::Nobody));
        let spoil = |index: usize, spoil: fn(&mut Witness)| {
            let mut all = all.clone();
            spoil(&mut all[index]);
            check(&all).unwrap_err().to_string()
        };
        assert_eq!(
            spoil(2, |witness| witness.authenticator = Some("cc".to_owned())),
            "the member at leaf 4 disagrees with the first member about the epoch authenticator"
        );
        assert_eq!(
            spoil(0, |witness| witness.tree_hash.clear()),
            "the hub disagrees with the first member about the tree hash"
        );
        assert_eq!(
            spoil(2, |witness| witness.epoch = 4),
            "the member at leaf 4 disagrees with the first member about the epoch"
        );
    }
}

//! Decisions under the policy of a MIMI room: `drafts/mimi-room-policy/vectors`.

use anyhow::Context as _;
use nabe_auth::mimi::vectors::verify_decision;
use nabe_signing::{Json, Object};

use super::{Untrue, Verdict};

/// A verdict on every entry of `decisions`.
pub(super) fn verify(file: &Object) -> anyhow::Result<Vec<Verdict>> {
    for member in file.keys() {
        anyhow::ensure!(
            ["note", "rooms", "decisions"].contains(&member),
            "unknown member `{member}`: cannot be verified"
        );
    }
    let none = Object::default();
    let rooms = file.get("rooms").map_or(Some(&none), Json::as_object);
    let rooms = rooms.context("`rooms` is not an object")?;
    let decisions = file.get("decisions").and_then(Json::as_array);
    let decisions = decisions.context("`decisions` is not a list")?;
    anyhow::ensure!(!decisions.is_empty(), "no vector in it");
    let verdict = |(index, entry): (usize, &Json)| {
        let name = entry
            .as_object()
            .and_then(|entry| entry.get("name"))
            .and_then(Json::as_str);
        Verdict {
            entry: name.map_or_else(|| format!("decisions/{index}"), |name| format!("decisions/{name}")),
            outcome: verify_decision(rooms, entry).map_err(|error| Untrue(error.to_string())),
            skipped: None,
        }
    };
    Ok(decisions.iter().enumerate().map(verdict).collect())
}

#[cfg(test)]
mod tests {
    use super::super::verify;

    const FILE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../drafts/mimi-room-policy/vectors/decisions.json"
    );

    #[test]
    fn our_own_decisions_hold() {
        let verdicts = verify(&std::fs::read(FILE).unwrap()).unwrap();
        assert!(verdicts.len() >= 120);
        for verdict in verdicts {
            assert!(
                verdict.outcome.is_ok(),
                "{}: {}",
                verdict.entry,
                verdict.outcome.unwrap_err()
            );
        }
    }

    #[test]
    fn another_verdict_fails_by_name() {
        let text = std::fs::read_to_string(FILE).unwrap();
        let changed = text.replacen("\"verdict\": \"can-kick\"", "\"verdict\": \"can-ban\"", 1);
        assert_ne!(changed, text);
        let failed = verify(changed.as_bytes())
            .unwrap()
            .into_iter()
            .filter(|it| it.outcome.is_err());
        let failed: Vec<String> = failed
            .map(|it| format!("{}: {}", it.entry, it.outcome.unwrap_err()))
            .collect();
        assert_eq!(failed.len(), 1);
        assert!(failed[0].starts_with("decisions/") && failed[0].ends_with("the verdict is `can-kick`"));
    }

    #[test]
    fn what_is_unknown_is_not_passed_over() {
        assert!(verify(br#"{"decisions": [], "rooms": {}}"#).is_err());
        assert!(verify(br#"{"decisions": [{}], "more": 1}"#).is_err());
        assert!(verify(br#"{"decisions": [{}]}"#).unwrap()[0].outcome.is_err());
    }
}

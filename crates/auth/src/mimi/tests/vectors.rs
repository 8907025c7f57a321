//! The cases of `drafts/mimi-room-policy/vectors`.

use std::collections::BTreeSet;

use nabe_signing::json::{Json, Limits, Object};

use super::super::vectors::{VectorError, verify_decision};
use super::*;

fn file() -> Object {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../drafts/mimi-room-policy/vectors/decisions.json"
    );
    let limits = Limits {
        max_bytes: 64 << 20,
        ..Limits::default()
    };
    Object::parse_with(&std::fs::read(path).unwrap(), limits).unwrap()
}

fn parts(file: &Object) -> (&Object, &[Json]) {
    let rooms = file.get("rooms").and_then(Json::as_object).unwrap();
    (rooms, file.get("decisions").and_then(Json::as_array).unwrap())
}

fn text<'a>(entry: &'a Json, name: &str) -> &'a str {
    entry.as_object().unwrap().get(name).and_then(Json::as_str).unwrap()
}

#[test]
fn every_case_is_decided_as_it_states() {
    let file = file();
    let (rooms, decisions) = parts(&file);
    let problems: Vec<String> = decisions
        .iter()
        .filter_map(|entry| {
            let error = verify_decision(rooms, entry).err()?;
            Some(format!("{} ({}): {error}", text(entry, "name"), text(entry, "verdict")))
        })
        .collect();
    assert_eq!(problems, [""; 0]);
    assert!(decisions.len() >= 120);
}

#[test]
fn every_rule_has_a_case() {
    let file = file();
    let verdicts: BTreeSet<&str> = parts(&file).1.iter().map(|entry| text(entry, "verdict")).collect();
    let without: Vec<&str> = Rejection::ALL
        .iter()
        .map(|rejection| rejection.rule())
        .filter(|rule| !verdicts.contains(rule))
        .collect();
    // What a credential says is read before there is anything to decide: `user_of`. The list that is too large is in `large_room`.
    let elsewhere = [Rejection::CredentialWithoutUser, Rejection::ListTooLarge];
    assert_eq!(without, elsewhere.map(Rejection::rule));
}

#[test]
fn every_requirement_that_cases_prove_has_its_cases() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../drafts/mimi-room-policy/requirements.toml"
    );
    let requirements = std::fs::read_to_string(path).unwrap();
    let blocks = requirements.split("[[requirement]]").skip(1);
    let ids = |blocks: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
        let id = |block: &str| block.split('"').nth(1).unwrap().to_owned();
        blocks.map(id).collect()
    };
    let all = ids(&mut blocks.clone());
    let proved = ids(&mut blocks.filter(|block| block.contains("every_case_is_decided_as_it_states")));
    let file = file();
    let named: BTreeSet<String> = parts(&file)
        .1
        .iter()
        .filter_map(|entry| entry.as_object().unwrap().get("requirements"))
        .flat_map(|named| named.as_array().unwrap())
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(named.difference(&all).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(proved.difference(&named).collect::<Vec<_>>(), [""; 0]);
    assert!(proved.len() > 70);
}

#[test]
fn another_verdict_another_capability_and_another_state_are_noticed() {
    let file = file();
    let (rooms, decisions) = parts(&file);
    let (mut capabilities, mut states) = (0, 0);
    for entry in decisions {
        let changed = |member: &str, value: Json| {
            let mut changed = entry.as_object().unwrap().clone();
            changed.insert(member, value);
            verify_decision(rooms, &Json::Object(changed))
        };
        let other = if text(entry, "verdict") == "allowed" {
            "can-kick"
        } else {
            "allowed"
        };
        assert!(matches!(changed("verdict", other.into()), Err(VectorError::Verdict(_))));
        assert_eq!(
            changed("unknown", Json::Null),
            Err(VectorError::Field("unknown".to_owned()))
        );
        if entry.as_object().unwrap().contains_key("capability") {
            let refused = changed("capability", "canKnock".into());
            assert!(matches!(refused, Err(VectorError::Capability(Some(_)))));
            capabilities += 1;
        }
        if let Some(after) = entry.as_object().unwrap().get("after") {
            for member in after.as_object().unwrap().keys() {
                let nobody: Json = Vec::from([vec![Json::from("mimi://nobody.example/u/x"), Json::from(1)]]).into();
                let after: Object = [(member, nobody)].into_iter().collect();
                assert!(matches!(changed("after", after.into()), Err(VectorError::After(_))));
                states += 1;
            }
        }
    }
    assert!(capabilities > 40 && states > 10);
}

//! The table of rejections itself.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_rejection_has_a_rule_of_its_own_a_place_and_a_sentence() {
    let mut rules = BTreeSet::new();
    for rejection in Rejection::ALL {
        let rule = rejection.rule();
        assert!(rules.insert(rule), "{rule} twice");
        let is_kebab = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
        assert!(rule.split('-').all(is_kebab), "{rule}");
        let (draft, anchor) = rejection.section().split_once(" #").unwrap();
        assert!(["MRP", "MIMI", "MLSX"].contains(&draft) && !anchor.is_empty(), "{rule}");
        let sentence = rejection.to_string();
        assert!(sentence.len() > 20 && !sentence.ends_with('.'), "{rule}: {sentence}");
    }
    assert!(rules.len() > 100);
}

#[test]
fn a_rule_that_is_named_after_a_capability_is_about_it() {
    for rejection in Rejection::ALL {
        let Some(capability) = rejection.capability() else {
            continue;
        };
        let name = capability.name().unwrap().to_ascii_lowercase();
        assert_eq!(rejection.rule().replace('-', ""), name);
        assert!(
            rejection.to_string().contains(capability.name().unwrap()),
            "{rejection}"
        );
    }
}

/// The anchors are in `drafts/*/anchors.toml`, against which `cargo xtask spec` checks what stands in comments; these are in strings.
#[test]
fn every_place_is_an_anchor_of_its_draft() {
    let anchors = |draft: &str| {
        let path = format!("{}/../../drafts/{draft}/anchors.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let quoted = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","));
        quoted.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let (mrp, mimi, mlsx) = (
        anchors("mimi-room-policy"),
        anchors("mimi-protocol"),
        anchors("mls-extensions"),
    );
    for rejection in Rejection::ALL {
        let (draft, anchor) = rejection.section().split_once(" #").unwrap();
        let known = match draft {
            "MRP" => &mrp,
            "MIMI" => &mimi,
            _ => &mlsx,
        };
        assert!(known.contains(anchor), "{}: {}", rejection.rule(), rejection.section());
    }
}

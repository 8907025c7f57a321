use super::*;
use crate::drafts::tests::draft;
use crate::sources::tests::sources;

/// A requirement with the given id and further lines.
fn requirement(id: &str, lines: &str) -> String {
    format!("[[requirement]]\nid = \"{id}\"\ntext = \"Something holds.\"\n{lines}\n")
}

const DONE_MUST: &str = "section = \"#int-a\"\nlevel = \"MUST\"\nstatus = \"done\"";
const GAP: &str = "section = \"#int-a\"\nlevel = \"SHOULD\"\nstatus = \"gap\"\nreason = \"not built yet\"";

fn code() -> Sources {
    sources(&[
        (
            "crates/auth/src/lm/tests.rs",
            "#[test]\nfn banned_user_cannot_join() {}",
        ),
        ("crates/check/src/send.rs", "const ID: &str = \"lm-14\";"),
        ("tests/src/storm.rs", "fn survives_kills() {}"),
    ])
}

fn problems(text: &str) -> Vec<String> {
    requirement_problems(&[draft(text)], &code())
}

#[test]
fn a_done_must_with_existing_proofs_passes() {
    let proof = "proof = [\"test:nabe-auth::lm::tests::banned_user_cannot_join\", \"check:lm-14\", \"test:nabe-tests::survives_kills\"]";
    assert_eq!(
        problems(&requirement("LM-a-one", &format!("{DONE_MUST}\n{proof}"))),
        Vec::<String>::new()
    );
}

#[test]
fn a_done_must_without_proof_fails() {
    assert_eq!(
        problems(&requirement("LM-a-one", DONE_MUST)),
        ["LM-a-one: a MUST that is done needs a proof"]
    );
}

#[test]
fn a_proof_that_does_not_exist_fails_at_every_status() {
    for (proof, lines) in [
        ("check:lm-1", DONE_MUST),
        ("test:auth::banned_user", GAP),
        ("test:core::banned_user_cannot_join", GAP),
    ] {
        let found = problems(&requirement("LM-a-one", &format!("{lines}\nproof = [\"{proof}\"]")));
        assert_eq!(found, [format!("LM-a-one: the proof {proof} does not exist")]);
    }
}

#[test]
fn a_proof_of_an_unknown_kind_fails() {
    let found = problems(&requirement("LM-a-one", &format!("{GAP}\nproof = [\"trust me\"]")));
    assert_eq!(
        found,
        ["LM-a-one: `trust me` is neither test:<crate>::<path> nor check:<id>"]
    );
}

#[test]
fn an_id_is_used_once() {
    let twice = format!("{}{}", requirement("LM-a-one", GAP), requirement("LM-a-one", GAP));
    assert_eq!(problems(&twice), ["LM-a-one: the id is used twice"]);
}

#[test]
fn a_gap_needs_a_reason_and_a_known_section() {
    let text = requirement("LM-a-one", "section = \"#int-x\"\nlevel = \"MAY\"\nstatus = \"gap\"");
    assert_eq!(
        problems(&text),
        [
            "LM-a-one: #int-x is no anchor of some-draft",
            "LM-a-one: not done, and no reason"
        ]
    );
}

#[test]
fn an_id_carries_its_drafts_prefix() {
    for id in ["MF-a-one", "LM-one", "LMa-one-two"] {
        assert_eq!(
            problems(&requirement(id, GAP)),
            [format!("{id}: the id is not LM-area-words")]
        );
    }
}

#[test]
fn a_mapped_requirement_names_a_known_one() {
    let mapped = "section = \"#int-a\"\nlevel = \"STATED\"\nstatus = \"mapped\"\nreason = \"same operation\"";
    assert_eq!(
        problems(&requirement("LM-a-one", mapped)),
        ["LM-a-one: mapped, but not to anything"]
    );
    let found = problems(&requirement("LM-a-one", &format!("{mapped}\nby = [\"LM-b-two\"]")));
    assert_eq!(found, ["LM-a-one: `by` names the unknown requirement LM-b-two"]);
}

#[test]
fn code_that_cites_what_is_not_there_fails() {
    let drafts = [draft(&requirement("LM-a-one", GAP))];
    let cited = sources(&[("crates/a.rs", "// LM #int-a, LM-a-one\n// LM #int-gone\n// LM-a-gone")]);
    let expected = [
        "crates/a.rs:2: cites the unknown anchor int-gone of some-draft",
        "crates/a.rs:3: cites the unknown requirement LM-a-gone of some-draft",
    ];
    assert_eq!(citation_problems(&drafts, &cited), expected);
}

#[test]
fn the_closing_line_counts() {
    let superseded = "section = \"#int-a\"\nlevel = \"MUST\"\nstatus = \"superseded\"\nreason = \"later draft\"";
    let partial = "section = \"#int-b\"\nlevel = \"MUST\"\nstatus = \"partial\"\nreason = \"half of it\"";
    let text = [
        requirement("LM-a-one", DONE_MUST),
        requirement("LM-a-two", GAP),
        requirement("LM-a-three", superseded),
        requirement("LM-a-four", partial),
    ];
    let expected = "some-draft: 4 requirements, 1 done, 1 partial, 1 gap, 1 superseded; MUST: 1/2 done";
    assert_eq!(closing_line(&draft(&text.concat())), expected);
}

#[test]
fn gaps_are_listed_by_reason() {
    let text = [requirement("LM-a-one", DONE_MUST), requirement("LM-a-two", GAP)].concat();
    assert_eq!(
        gap_list(&draft(&text)),
        "some-draft: not built yet\n  SHOULD gap     LM-a-two  #int-a\n"
    );
}

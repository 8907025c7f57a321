//! `nabe bench hub` over MIMI: that it runs and counts right, not how fast anything is (MIMI #submit-a-message).

mod common;

use common::{nabe, text};
use serde_json::Value;

#[test]
fn a_hub_of_mimi_is_measured_alone_and_with_followers_and_keeps_what_it_accepted() {
    let arguments = [
        "bench",
        "hub",
        "--protocol",
        "mimi",
        "--events",
        "60",
        "--followers",
        "3",
        "--in-flight",
        "8",
    ];
    let measured = nabe([&arguments[..], &["--rooms", "2", "--json"]].concat());
    assert!(measured.status.success(), "{}", text(&measured.stderr));
    let figures: Value = serde_json::from_slice(&measured.stdout).unwrap();
    assert_eq!(figures["durable"], true, "{figures}");
    for (kind, followers) in [("alone", 0), ("followed", 3)] {
        let phase = &figures[kind];
        assert_eq!(phase["messages"], 60, "{figures}");
        assert_eq!(
            (&phase["followers"], &phase["delivered"]),
            (&followers.into(), &(60 * followers).into())
        );
        assert!(phase["accepted_per_s"].as_f64().unwrap() > 0.0, "{figures}");
    }
}

//! `nabe bench scenario`: that a scenario is played by the library and through two servers by either protocol, that all kinds of steps work, and that what is
//! written says what was done. Not how fast anything is.

mod common;

use std::fs;

use common::{nabe, text};
use serde_json::Value;

const SCENARIO: &str = r#"
name = "tiny"
about = "A bit of everything."
seed = 9
members = 5
live = 3

[[phase]]
name = "all"
joins = 2
adds = 3
add_batch = 2
removals = 2
updates = 3
messages = 4

[[phase]]
name = "idle"
idle_seconds = 1
"#;

#[test]
fn a_scenario_is_played_by_the_library_and_through_servers_by_either_protocol() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("tiny.toml");
    fs::write(&file, SCENARIO).unwrap();
    let out = home.path().join("run");
    let arguments = [
        "bench",
        "scenario",
        file.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    let played = nabe(arguments);
    assert!(
        played.status.success(),
        "{}{}",
        text(&played.stdout),
        text(&played.stderr)
    );

    let run: Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    let scenarios = run["scenarios"].as_array().unwrap();
    let ways: Vec<_> = scenarios.iter().map(|record| record["way"].as_str().unwrap()).collect();
    assert_eq!(ways, ["library", "lm", "mimi"]);
    let mut done = Vec::new();
    for record in scenarios {
        assert_eq!(
            (&record["status"], &record["reason"]),
            (&"measured".into(), &Value::Null)
        );
        let phases = record["phases"].as_array().unwrap();
        assert_eq!(phases.len(), 2, "{record}");
        assert_eq!(phases[0]["members"], 5 + 2 + 3 - 2, "{record}");
        let steps = phases[0]["steps"].as_array().unwrap();
        for step in steps {
            let time = |name: &str| step[name].as_u64().unwrap();
            assert!(
                0 < time("accepted_ns") && time("accepted_ns") <= time("followed_ns"),
                "{step}"
            );
        }
        let kinds: Vec<_> = steps.iter().map(|step| step["kind"].clone()).collect();
        done.push(kinds);
        let used = |phase: usize, what: &str| phases[phase]["used"][what].as_u64();
        // A join brings a GroupInfo of more than 2,000 bytes by any way.
        assert!(used(0, "client-down-bytes").unwrap() > 2 * 2_000, "{record}");
        match record["way"].as_str().unwrap() {
            "library" => assert_eq!(used(0, "to-hub-bytes"), None),
            way => {
                for what in ["to-hub-bytes", "from-hub-bytes", "client-up-bytes"] {
                    assert!(used(0, what).unwrap() > 2_000, "{way} {what}: {record}");
                    assert!(
                        used(1, what).unwrap() < used(0, what).unwrap(),
                        "{way} {what}: {record}"
                    );
                }
            }
        }
    }
    assert!(done[0] == done[1] && done[1] == done[2], "{done:?}");

    let again = nabe(arguments);
    assert_eq!(again.status.code(), Some(3), "{}", text(&again.stderr));
    assert!(
        text(&again.stderr).contains("holds a run already"),
        "{}",
        text(&again.stderr)
    );
}

#[test]
fn the_scenarios_that_come_along_are_listed() {
    let listed = nabe(["bench", "scenario", "--list"]);
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    let listed = text(&listed.stdout).to_owned();
    for name in [
        "join-burst",
        "churn",
        "meeting",
        "mass-revocation",
        "a-day",
        "low-bandwidth",
    ] {
        assert!(listed.lines().any(|line| line.starts_with(name)), "{listed}");
    }
    let nothing = nabe(["bench", "scenario"]);
    assert_eq!(nothing.status.code(), Some(3));
    assert!(text(&nothing.stderr).contains("--list"), "{}", text(&nothing.stderr));
}

//! `nabe bench hub` and `nabe bench start`: that they run and count right, not how fast anything is (MIMI #submit-a-message).

mod common;

use common::{nabe, text};
use serde_json::Value;

#[test]
fn a_hub_of_mimi_is_measured_alone_and_with_followers_and_keeps_what_it_accepted() {
    let figures = figures(&[
        "hub",
        "--protocol",
        "mimi",
        "--events",
        "60",
        "--followers",
        "3",
        "--in-flight",
        "8",
        "--rooms",
        "2",
    ]);
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

#[test]
fn at_a_rate_as_much_is_sent_again_and_its_time_counts_from_when_it_was_due() {
    let figures = figures(&[
        "hub",
        "--protocol",
        "mimi",
        "--events",
        "50",
        "--followers",
        "1",
        "--rate",
        "250",
    ]);
    let at_rate = &figures["at_rate"];
    assert_eq!(
        (&at_rate["events"], &at_rate["wanted_per_s"]),
        (&50.into(), &250.0.into())
    );
    assert_eq!(
        figures["durable"], true,
        "those that were sent when they were due count, too: {figures}"
    );
    let accepted = at_rate["accepted_per_s"].as_f64().unwrap();
    // The last of fifty is due after 49 of 250 parts of a second, and not accepted before.
    assert!(accepted <= 50.0 * 250.0 / 49.0, "{figures}");
    for latency in [&figures["alone"], &figures["followed"], at_rate] {
        let percentiles =
            ["p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms"].map(|name| latency[name].as_f64().unwrap());
        assert!(percentiles[0] > 0.0 && percentiles.is_sorted(), "{figures}");
    }
}

#[test]
fn every_follower_of_a_hub_is_sent_every_event_whoever_sends_it() {
    let figures = figures(&[
        "hub",
        "--events",
        "120",
        "--origins",
        "2",
        "--followers",
        "3",
        "--batch",
        "10",
        "--rate",
        "half",
    ]);
    let numbers = ["events", "origins", "followers", "delivered"].map(|name| figures[name].as_u64().unwrap());
    // Twice 120 events to five servers: the second time at half the rate of the first.
    assert_eq!(numbers, [120, 2, 3, 1200], "{figures}");
    assert_eq!(figures["durable"], true, "{figures}");
    let at_rate = &figures["at_rate"];
    assert_eq!(at_rate["events"], 120, "{figures}");
    let half = figures["accepted_per_s"].as_f64().unwrap() / 2.0;
    assert!(
        (at_rate["wanted_per_s"].as_f64().unwrap() - half).abs() < 1e-6,
        "{figures}"
    );
    // Pages are written whole, so an event takes more than it has.
    let written = figures["hub_bytes_written_per_event"].as_f64();
    assert!(written.is_none_or(|bytes| bytes > 500.0), "{figures}");
}

#[test]
fn without_a_rate_nothing_is_sent_twice() {
    let figures = figures(&["hub", "--events", "20", "--batch", "5"]);
    assert_eq!(
        (&figures["delivered"], &figures["at_rate"]),
        (&20.into(), &Value::Null),
        "{figures}"
    );
}

#[test]
fn a_server_is_started_on_the_rooms_that_its_users_made_and_some_are_used() {
    for protocol in ["lm", "mimi"] {
        let figures = figures(&[
            "start",
            "--protocol",
            protocol,
            "--rooms",
            "12",
            "--active",
            "4",
            "--starts",
            "2",
        ]);
        assert_eq!(
            (&figures["rooms"], &figures["active"]),
            (&12.into(), &4.into()),
            "{figures}"
        );
        let ready = figures["ready_ms"].as_array().unwrap();
        assert!(
            ready.len() == 2 && ready.iter().all(|ms| ms.as_f64().unwrap() > 0.0),
            "{figures}"
        );
        let bytes = ["database", "empty_resident", "idle_resident", "active_resident"];
        let bytes = bytes.map(|what| figures[format!("{what}_bytes")].as_u64().unwrap());
        assert!(bytes.iter().all(|bytes| *bytes > 100_000), "{figures}");
    }
}

#[test]
fn options_that_do_not_go_together_are_refused_with_their_names() {
    let refused: [(&[&str], &str); 6] = [
        (
            &["hub", "--protocol", "mimi", "--batch", "5"],
            "--batch is for --protocol lm",
        ),
        (&["hub", "--in-flight", "5"], "--in-flight is for --protocol mimi"),
        (
            &["hub", "--events", "1", "--origins", "2"],
            "--events 1 is less than one for each of --origins 2",
        ),
        (
            &["hub", "--rate", "0"],
            "neither `half` nor a number of events a second",
        ),
        (&["hub", "--followers", "101"], "101 is not in 0..=100"),
        (
            &["start", "--rooms", "5", "--active", "6"],
            "--active 6 is more than there are: --rooms 5",
        ),
    ];
    for (arguments, reason) in refused {
        let ended = nabe([&["bench"], arguments].concat());
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}");
        let said = text(&ended.stderr);
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

/// What a bench has measured.
fn figures(arguments: &[&str]) -> Value {
    let measured = nabe([&["bench"], arguments, &["--json"]].concat());
    assert!(measured.status.success(), "{arguments:?}: {}", text(&measured.stderr));
    serde_json::from_slice(&measured.stdout).expect("one JSON document")
}

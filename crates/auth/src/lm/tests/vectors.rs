//! Rooms from elsewhere pass the rules, and name the auth events we would. The files live outside the repository, in the folder
//! `NABE_SHARED` names; without it these tests say so and pass, unless `NABE_REQUIRE_ALL=1`.

use std::path::Path;

use super::*;

/// Reads a file of the shared folder; `None`, after saying why, when it is not there.
fn shared(path: &str) -> Option<Json> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // A relative path is relative to the workspace, wherever the test runs.
    let folder = std::env::var_os("NABE_SHARED").map_or_else(|| workspace.join("../shared"), |at| workspace.join(at));
    let file = folder.join(path);
    match std::fs::read(&file) {
        Ok(bytes) => Some(Json::parse(&bytes).unwrap()),
        Err(error) => {
            assert!(
                std::env::var_os("NABE_REQUIRE_ALL").is_none_or(|all| all != "1"),
                "{}: {error}",
                file.display()
            );
            eprintln!("SKIPPED: {}: {error}", file.display());
            None
        }
    }
}

/// Replays a room's events in order, each judged by the state the earlier ones left.
fn replay<'a>(events: impl IntoIterator<Item = &'a Object>, rules: &'static RoomVersionRules, hub: &str) -> usize {
    let mut known: Vec<Pdu> = Vec::new();
    for event in events {
        let mut event = event.clone();
        event.remove("event_id");
        let event = Pdu::from_stored(&event.to_canonical(), rules).unwrap();
        let state: StateMap = known.iter().collect();
        assert_eq!(
            select_auth_events(&event, &state),
            event.auth_events(),
            "{}",
            event.event_id()
        );
        let input = Rule4Input::resolve(&event, |id| known.iter().find(|known| known.event_id() == id));
        assert_eq!(
            authorize(&event, &state, rules, &input, &server(hub)),
            Ok(()),
            "{}",
            event.event_id()
        );
        known.push(event);
    }
    known.len()
}

#[test]
fn room_of_the_vectors_passes() {
    let Some(file) = shared("specs/lm-vectors.json") else {
        return;
    };
    let events = file
        .as_object()
        .unwrap()
        .get("events")
        .and_then(Json::as_array)
        .unwrap();
    let events = events.iter().map(|vector| {
        vector
            .as_object()
            .unwrap()
            .get("pdu")
            .and_then(Json::as_object)
            .unwrap()
    });
    assert_eq!(replay(events, &RoomVersionRules::I1, "hub.example.org"), 5);
}

#[test]
fn room_captured_from_eigen_server_passes() {
    let Some(file) = shared("vectors/eigen/hub-dump.json") else {
        return;
    };
    let events = file.as_array().unwrap().iter().filter_map(Json::as_object);
    assert_eq!(replay(events, &RoomVersionRules::UNSTABLE_02, "localhost:3000"), 11);
}

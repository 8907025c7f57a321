//! How large a group can be over Linearized Matrix: whoever goes beyond that is told why, by either side (LM #int-ev-mls-commit).

mod common;

use common::{Folder, device::Device};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_too_large_for_an_event_is_refused_with_the_reason() {
    let parent = tempfile::tempdir().unwrap();
    let servers = parent.path().join("servers");
    std::fs::create_dir(&servers).unwrap();
    let hub = Folder::init(&servers, "hub.localhost");
    let follower = Folder::init(&servers, "follower.localhost");
    let _running = (hub.serve(&[&follower]), follower.serve(&[&hub]));
    hub.client().wait_until_ready().await;
    follower.client().wait_until_ready().await;
    let alice = Device::log_in(parent.path(), &hub, "alice", "ALICE");
    let bob = Device::log_in(parent.path(), &follower, "bob", "BOB");
    let room = alice.create_room("Crowded");
    alice.bring_in(&room, &bob, "hub.localhost").await;

    let large = |event_type: &str| {
        let content = json!({ "message": "AAAA", "public_group_state": "A".repeat(70_000) });
        json!({ "type": event_type, "content": content })
    };
    let path = format!("/_nabe/v1/rooms/{room}/events");
    for (server, device) in [(&hub, &alice), (&follower, &bob)] {
        let client = server.client();
        let send = async |event_type: &str| {
            let answer = client.post(Some(&device.user), &path, &large(event_type), None).await;
            answer.unwrap()
        };
        let refused = send("m.mls.commit").await;
        assert_eq!(
            (refused.status, &refused.body["error"]["code"]),
            (413, &json!("too_large"))
        );
        let sentence = refused.body["error"]["message"].as_str().unwrap();
        assert!(
            sentence.contains("public state of the room's MLS group") && sentence.contains("140 to 180 devices"),
            "{sentence}"
        );
        // Other events have nothing to do with groups.
        let refused = send("m.room.message").await;
        let sentence = refused.body["error"]["message"].as_str().unwrap();
        assert!(sentence.contains("limit") && !sentence.contains("group"), "{sentence}");
    }
    // The group goes on; who was just added may have committed, too.
    let before = alice.group(&room)["epoch"].as_u64().unwrap();
    alice.run(&["update", &room]);
    assert!(alice.group(&room)["epoch"].as_u64().unwrap() > before);
}

//! Signing keys that change, and signing keys that cannot be had (LM #int-transport-get-server-keys).

use std::time::Duration;

use anyhow::ensure;
use nabe_service::client::ToDeviceMessage;
use nabe_signing::json::Object;
use nabe_store::Store as _;
use nabe_tests::cluster::run;
use nabe_tests::{Fault, server, user};

use super::{SECOND, Story};

#[test]
fn participant_rotates_its_key_in_the_middle_of_a_room() {
    run(|activity| async {
        let mut story = Story::begin(activity).await?;
        story.join("p").await?;
        story.say("p", "by the old key").await?;
        story.cluster.advance(Duration::from_secs(3600)).await;
        story.cluster.stop("p").await;
        story.cluster.rotate_key("p", "2");
        story.cluster.boot("p").await?;
        story.cluster.advance(10 * SECOND).await;
        story.say("p", "by the new key").await?;
        // Who comes later verifies p's join by the old key and what follows by the new one.
        story.join("q").await?;
        story.say("p", "welcome").await?;
        story.say("q", "thanks").await?;
        story.cluster.quiesce().await?;
        for name in ["p", "q"] {
            story.ensure_follows(name).await?;
        }
        story.ensure_messages("q", &["welcome", "thanks"]).await
    });
}

#[test]
fn hub_rotates_its_key_in_the_middle_of_a_room() {
    run(|activity| async {
        let mut story = Story::begin(activity).await?;
        story.join("p").await?;
        story.say("h", "by the old key").await?;
        story.cluster.quiesce().await?;
        story.cluster.stop("h").await;
        story.cluster.rotate_key("h", "2");
        story.cluster.boot("h").await?;
        story.cluster.advance(10 * SECOND).await;
        story.say("p", "still there?").await?;
        story.say("h", "by the new key").await?;
        story.join("q").await?;
        story.cluster.quiesce().await?;
        for name in ["p", "q"] {
            story.ensure_follows(name).await?;
        }
        story
            .ensure_messages("p", &["by the old key", "still there?", "by the new key"])
            .await
    });
}

#[test]
fn events_whose_signer_has_no_keys_to_offer_wait_and_keep_their_order() {
    run(|activity| async {
        let story = Story::begin(activity).await?;
        let (h, p, q) = (server("h"), server("p"), server("q"));
        story.join("q").await?;
        story.say("h", "zero").await?;
        // q cannot ask p, nor h on p's behalf.
        story.cluster.wire.set_cut(&q, &p, true);
        story.cluster.wire.close(&q, &h, "/_matrix/key/v2/query");
        story.join("p").await?;
        story.say("p", "one").await?;
        story.say("h", "two").await?;
        story.say("p", "three").await?;
        story.cluster.advance(30 * SECOND).await;
        story.ensure_messages("q", &["zero"]).await?;
        let parked = story.cluster.store("q").parked(&story.room).await?;
        ensure!(!parked.is_empty(), "nothing waits");
        // The hub is not kept waiting.
        let followers = story.cluster.store("h").followers(&story.room).await?;
        ensure!(
            followers.iter().all(|follower| follower.dirty_since.is_none()),
            "{followers:?}"
        );

        story.cluster.wire.open(&q, &h);
        story.cluster.quiesce().await?;
        story.ensure_messages("q", &["zero", "one", "two", "three"]).await?;
        story.ensure_follows("q").await
    });
}

#[test]
fn event_whose_key_never_comes_leaves_a_hole_and_the_room_goes_on() {
    run(|activity| async {
        let story = Story::begin(activity).await?;
        let (h, p, q) = (server("h"), server("p"), server("q"));
        story.join("q").await?;
        story.cluster.wire.set_cut(&q, &p, true);
        story.cluster.wire.close(&q, &h, "/_matrix/key/v2/query");
        story.join("p").await?;
        story.say("h", "one").await?;
        for _ in 0..30 {
            story.cluster.advance(Duration::from_secs(3600)).await;
        }
        story.say("h", "two").await?;
        story.cluster.quiesce().await?;
        story.ensure_messages("q", &["one", "two"]).await?;
        let (hub, log) = (
            story.cluster.ids("h", &story.room).await?,
            story.cluster.ids("q", &story.room).await?,
        );
        ensure!(hub.ends_with(&log), "the hole has another ID");
        let holes = story.cluster.log("q", &story.room).await?;
        ensure!(
            holes.iter().filter(|entry| entry.pdu().is_none()).count() == 1,
            "not one hole"
        );
        Ok(())
    });
}

/// Everybody in the room is in p's view of it.
async fn ensure_complete(story: &Story) -> anyhow::Result<()> {
    let seen = story
        .cluster
        .service("p")
        .members(&user("ann", "p"), &story.room)
        .await?;
    let true_ones = story
        .cluster
        .service("h")
        .members(&user("ann", "h"), &story.room)
        .await?;
    ensure!(seen == true_ones, "p sees {seen:?} instead of {true_ones:?}");
    Ok(())
}

#[test]
fn join_asks_the_hub_for_keys_that_somebody_else_asked_for_in_vain() {
    run(|activity| async {
        let mut story = Story::begin(activity).await?;
        story.join("q").await?;
        // p begins to ask q for its keys because q speaks to it, and q dies meanwhile.
        story
            .cluster
            .wire
            .add_fault(&server("p"), &server("q"), Fault::Delay(1_000));
        let message = ToDeviceMessage {
            target: user("ann", "p"),
            target_device: nabe_types::DeviceId::parse("PHONE")?,
            message_type: "m.test".to_owned(),
            message: Object::new(),
        };
        story
            .cluster
            .service("q")
            .to_device(&user("ann", "q"), None, vec![message], None)
            .await?;
        story.cluster.let_run().await;
        let join = story.start_join("p");
        story.cluster.let_run().await;
        ensure!(!join.is_finished(), "joined without waiting for the keys");
        story.cluster.crash("q").await;
        story.cluster.advance(2 * SECOND).await;
        story.cluster.finish(join).await??;
        ensure_complete(&story).await
    });
}

#[test]
fn join_fails_while_the_state_of_the_room_cannot_be_verified() {
    run(|activity| async {
        let story = Story::begin(activity).await?;
        let (h, p, q) = (server("h"), server("p"), server("q"));
        story.join("q").await?;
        story.cluster.wire.set_cut(&p, &q, true);
        story.cluster.wire.close(&p, &h, "/_matrix/key/v2/query");
        let joined = story.cluster.finish(story.start_join("p")).await?;
        // A state with something missing would never again be the hub's.
        ensure!(joined.is_err(), "joined without the keys of a member's server");
        story.cluster.wire.open(&p, &h);
        story.cluster.advance(2 * SECOND).await;
        story.join("p").await?;
        ensure_complete(&story).await?;
        story.say("p", "at last").await?;
        story.cluster.quiesce().await?;
        story.ensure_follows("p").await
    });
}

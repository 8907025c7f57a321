//! Signing keys that change, and signing keys that cannot be had (LM #int-transport-get-server-keys).

use std::time::Duration;

use anyhow::ensure;
use nabe_store::Store as _;
use nabe_tests::cluster::run;
use nabe_tests::server;

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

//! Getting in (LM #int-transport-make-and-send).

use anyhow::ensure;
use nabe_tests::cluster::run;
use nabe_tests::{Fault, server, user};

use super::{SECOND, Story};

#[test]
fn events_that_overtake_the_answer_to_a_join_are_kept_for_after_it() {
    run(|activity| async {
        let story = Story::begin(activity).await?;
        let (h, p) = (server("h"), server("p"));
        story.cluster.wire.add_fault(&p, &h, Fault::Delay(0));
        story.cluster.wire.add_fault(&p, &h, Fault::DelayAnswer(5_000));
        let join = story.start_join("p");
        story.cluster.let_run().await;
        story.say("h", "first").await?;
        story.say("h", "second").await?;
        story.cluster.let_run().await;
        let early: Vec<_> = story.cluster.wire.seen("/send/");
        ensure!(
            early.iter().any(|seen| seen.to == p && seen.status == Some(200)),
            "nothing overtook the join"
        );
        ensure!(!join.is_finished(), "the join's answer was not held up");
        story.cluster.advance(5 * SECOND).await;
        story.cluster.finish(join).await??;
        story.cluster.quiesce().await?;
        story.ensure_messages("p", &["first", "second"]).await?;
        story.ensure_follows("p").await
    });
}

#[test]
fn lost_answer_to_a_join_is_made_up_for_by_joining_again() {
    run(|activity| async {
        let story = Story::begin(activity).await?;
        let (h, p) = (server("h"), server("p"));
        story.cluster.wire.add_fault(&p, &h, Fault::Delay(0));
        story.cluster.wire.add_fault(&p, &h, Fault::LoseAnswer);
        let join = story.start_join("p");
        ensure!(story.cluster.finish(join).await?.is_err(), "joined without an answer");
        // The hub believes in p, and p does not know the room.
        story.say("h", "hello p").await?;
        story.cluster.quiesce().await?;
        ensure!(
            story.cluster.log("p", &story.room).await?.is_empty(),
            "p took in a room it did not join"
        );

        story.join("p").await?;
        story.say("h", "hello again").await?;
        story.say("p", "here I am").await?;
        story.cluster.quiesce().await?;
        story.ensure_messages("p", &["hello again", "here I am"]).await?;
        story
            .ensure_messages("h", &["hello p", "hello again", "here I am"])
            .await?;
        story.ensure_follows("p").await
    });
}

#[test]
fn hub_that_dies_after_taking_a_join_is_joined_again() {
    run(|activity| async {
        let mut story = Story::begin(activity).await?;
        // The key of p is the first commit, the join the second.
        story.cluster.crash_at_commit(
            "h",
            nabe_tests::disk::Fuse {
                commits: 1,
                written: true,
            },
        );
        let join = story.start_join("p");
        story.cluster.let_run().await;
        ensure!(!story.cluster.is_up("h"), "the hub survived");
        ensure!(story.cluster.finish(join).await?.is_err(), "joined without an answer");
        story.cluster.boot("h").await?;
        story.join("p").await?;
        story.say("p", "here I am").await?;
        story.cluster.quiesce().await?;
        story.ensure_follows("p").await
    });
}

#[test]
fn two_users_of_a_server_who_join_at_once_both_get_in() {
    run(|activity| async {
        let story = Story::begin(activity).await?;
        let (h, p) = (server("h"), server("p"));
        // The later one's answer arrives first.
        for _ in 0..2 {
            story.cluster.wire.add_fault(&p, &h, Fault::Delay(0));
        }
        story.cluster.wire.add_fault(&p, &h, Fault::DelayAnswer(2_000));
        let (first, second) = (story.start_join("p"), story.start_join_of(&user("bob", "p"), "p"));
        for _ in 0..20 {
            story.cluster.advance(SECOND / 2).await;
        }
        ensure!(first.is_finished() && second.is_finished(), "a join hangs");
        let _ = (first.await?, second.await?);
        story.say("h", "welcome").await?;
        story.say("p", "thanks").await?;
        story.cluster.quiesce().await?;
        story.ensure_follows("p").await?;
        for who in [user("ann", "p"), user("bob", "p")] {
            let rooms = story.cluster.service("p").rooms(&who).await?;
            ensure!(rooms.len() == 1, "{who} is not in the room");
        }
        Ok(())
    });
}

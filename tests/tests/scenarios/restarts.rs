//! Servers that die in the middle of something.

use anyhow::ensure;
use nabe_store::Store as _;
use nabe_tests::activity::Activity;
use nabe_tests::cluster::run;
use nabe_tests::disk::Fuse;
use nabe_tests::{Options, server};

use super::{SECOND, Story};

/// The hub commits an LPDU and dies before it can answer: the transaction comes again and changes nothing.
async fn dies_before_answering(activity: Activity, options: Options) -> anyhow::Result<()> {
    let mut story = Story::begin_over(activity, options).await?;
    story.join("p").await?;
    story.say("p", "first").await?;
    story.cluster.wire.forget_seen();
    story.cluster.crash_at_commit(
        "h",
        Fuse {
            commits: 0,
            written: true,
        },
    );
    let say = story.start_say("p", "second");
    story.cluster.let_run().await;
    ensure!(!story.cluster.is_up("h"), "the hub survived");
    story.cluster.boot("h").await?;
    story.ensure_messages("h", &["first", "second"]).await?;
    for _ in 0..6 {
        story.cluster.advance(SECOND).await;
    }
    say.await??;
    story.cluster.quiesce().await?;
    story.ensure_messages("h", &["first", "second"]).await?;
    story.ensure_follows("p").await?;
    let sent: Vec<_> = story
        .cluster
        .wire
        .seen("/send/")
        .into_iter()
        .filter(|seen| seen.to == server("h"))
        .collect();
    ensure!(sent.len() >= 2, "the transaction was not repeated");
    ensure!(
        sent.iter()
            .all(|seen| seen.line == sent[0].line && seen.body == sent[0].body),
        "not the same request"
    );
    Ok(())
}

/// The hub dies with a request to a participant in flight: it comes again, the same byte for byte.
async fn dies_while_sending(activity: Activity, options: Options) -> anyhow::Result<()> {
    let mut story = Story::begin_over(activity, options).await?;
    story.join("p").await?;
    story.say("h", "zero").await?;
    story.cluster.quiesce().await?;
    story.cluster.wire.forget_seen();
    // Append, freeze, and then the confirmation is not written.
    story.cluster.crash_at_commit(
        "h",
        Fuse {
            commits: 2,
            written: false,
        },
    );
    let say = story.start_say("h", "one");
    story.cluster.let_run().await;
    story.cluster.finish(say).await??;
    ensure!(!story.cluster.is_up("h"), "the hub survived");
    story.ensure_messages("p", &["zero", "one"]).await?;
    story.cluster.boot("h").await?;
    ensure!(
        story.cluster.store("h").frozen(&server("p")).await?.is_some(),
        "nothing was on record"
    );
    story.say("h", "two").await?;
    story.cluster.quiesce().await?;
    story.ensure_messages("p", &["zero", "one", "two"]).await?;
    story.ensure_follows("p").await?;
    let sent: Vec<_> = story
        .cluster
        .wire
        .seen("/send/")
        .into_iter()
        .filter(|seen| seen.to == server("p"))
        .collect();
    ensure!(sent.len() == 3, "{} requests", sent.len());
    ensure!(
        sent[0].line == sent[1].line && sent[0].body == sent[1].body,
        "not the same request"
    );
    ensure!(sent[1].line != sent[2].line, "the next one has the same ID");
    Ok(())
}

#[test]
fn hub_that_dies_before_answering_takes_the_repeated_transaction_once() {
    run(|activity| dies_before_answering(activity, Options::default()));
    run(|activity| dies_before_answering(activity, Options { sqlite: true }));
}

#[test]
fn hub_that_dies_while_sending_repeats_the_same_request() {
    run(|activity| dies_while_sending(activity, Options::default()));
    run(|activity| dies_while_sending(activity, Options { sqlite: true }));
}

#[test]
fn message_whose_sender_died_with_it_on_record_is_sent_once_when_asked_again() {
    for written in [false, true] {
        run(|activity| async move {
            let mut story = Story::begin(activity).await?;
            story.join("p").await?;
            story.cluster.crash_at_commit("p", Fuse { commits: 0, written });
            let say = story.start_say("p", "once");
            story.cluster.let_run().await;
            ensure!(!say.is_finished() && !story.cluster.is_up("p"), "p survived");
            say.abort();
            story.cluster.boot("p").await?;
            story.cluster.let_run().await;
            story
                .ensure_messages("h", if written { &["once"] } else { &[] })
                .await?;
            story.say("p", "once").await?;
            story.cluster.quiesce().await?;
            story.ensure_messages("h", &["once"]).await?;
            story.ensure_follows("p").await
        });
    }
}

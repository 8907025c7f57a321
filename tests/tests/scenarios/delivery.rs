//! A destination that is away (LM #int-transport-send-events).

use std::time::Duration;

use anyhow::ensure;
use nabe_store::Store as _;
use nabe_tests::activity::Activity;
use nabe_tests::cluster::run;
use nabe_tests::{Options, server, user};

use super::{SECOND, Story};

async fn away_for_days(activity: Activity, options: Options) -> anyhow::Result<()> {
    let mut story = Story::begin_over(activity, options).await?;
    story.join("p").await?;
    story.cluster.crash("p").await;
    story.cluster.wire.forget_seen();

    let mut expected = Vec::new();
    for day in 0..4 {
        for number in 0..30 {
            let text = format!("day {day}, {number}");
            story.say("h", &text).await?;
            expected.push(text);
        }
        for _ in 0..24 {
            story.cluster.advance(Duration::from_secs(3600)).await;
        }
    }

    // However much is owed: one interval, one request on record, nothing in the outbox, and an attempt an hour.
    let store = story.cluster.store("h");
    let p = server("p");
    ensure!(
        store.outbox_len(&p).await? == 0,
        "log entries were copied into the outbox"
    );
    ensure!(store.followers(&story.room).await?.len() == 1, "more than one interval");
    ensure!(
        store.destinations_with_work().await?.len() == 1,
        "more than one destination"
    );
    let attempts = story.cluster.wire.seen("/send/").len();
    ensure!((50..=130).contains(&attempts), "{attempts} attempts in four days");
    let status = store.destination(&p).await?.expect("p is owed something");
    ensure!(status.failures as usize >= 50, "{} failures", status.failures);

    story.cluster.boot("p").await?;
    story.cluster.quiesce().await?;
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    story.ensure_messages("p", &expected).await?;
    story.ensure_follows("p").await?;
    ensure!(store.frozen(&p).await?.is_none(), "a request is still on record");
    // 120 events at most 50 at a time, each once, in order.
    let got_through: Vec<_> = story
        .cluster
        .wire
        .seen("/send/")
        .into_iter()
        .filter(|seen| seen.status == Some(200))
        .collect();
    ensure!(got_through.len() <= 4, "{} requests for 120 events", got_through.len());
    Ok(())
}

#[test]
fn destination_down_for_days_costs_little_and_catches_up_in_order() {
    run(|activity| away_for_days(activity, Options::default()));
}

#[test]
fn destination_down_for_days_costs_little_in_a_database() {
    run(|activity| away_for_days(activity, Options { sqlite: true }));
}

#[test]
fn destination_that_returns_is_tried_as_soon_as_it_is_heard_from() {
    run(|activity| async {
        let story = Story::begin(activity).await?;
        story.join("p").await?;
        story.cluster.wire.set_cut(&server("h"), &server("p"), true);
        story.say("h", "unheard").await?;
        for _ in 0..12 {
            story.cluster.advance(Duration::from_secs(1200)).await;
        }
        story.cluster.wire.set_cut(&server("h"), &server("p"), false);
        story.ensure_messages("p", &[]).await?;
        // The next attempt is up to an hour away, but p speaks.
        story.say("p", "hello?").await?;
        story.ensure_messages("p", &["unheard", "hello?"]).await?;
        story.cluster.quiesce().await
    });
}

#[test]
fn kicked_and_readmitted_server_misses_what_happened_in_between() {
    run(|activity| async {
        let story = Story::begin(activity).await?;
        let (ann, theirs) = (user("ann", "h"), user("ann", "p"));
        story.join("p").await?;
        story.say("h", "before").await?;
        // The kick is delivered late, after more was said.
        story.cluster.wire.set_cut(&server("h"), &server("p"), true);
        story
            .cluster
            .service("h")
            .kick(&ann, &story.room, &theirs, None)
            .await?;
        story.say("h", "in between").await?;
        story.cluster.wire.set_cut(&server("h"), &server("p"), false);
        story.cluster.quiesce().await?;
        story.ensure_messages("p", &["before"]).await?;

        story.join("p").await?;
        story.say("p", "after").await?;
        story.cluster.quiesce().await?;
        story.ensure_messages("p", &["before", "after"]).await?;
        story.ensure_messages("h", &["before", "in between", "after"]).await?;
        let followers = story.cluster.store("h").followers(&story.room).await?;
        ensure!(
            followers.len() == 2 && followers[0].until.is_some() && followers[1].until.is_none(),
            "{followers:?}"
        );
        let sent: Vec<_> = story
            .cluster
            .wire
            .seen("/send/")
            .into_iter()
            .filter(|seen| seen.to == server("p"))
            .collect();
        let leaked = sent
            .iter()
            .any(|seen| String::from_utf8_lossy(&seen.body).contains("in between"));
        ensure!(!leaked, "what was said in between was sent");
        Ok(())
    });
}

#[test]
fn lpdu_waits_for_a_hub_that_is_down_and_is_answered_as_queued() {
    run(|activity| async {
        let mut story = Story::begin(activity).await?;
        story.join("p").await?;
        story.cluster.crash("h").await;
        let say = story.start_say("p", "is anybody there?");
        story.cluster.let_run().await;
        ensure!(!say.is_finished(), "answered before the echo could come");
        story.cluster.advance(6 * SECOND).await;
        let sent = say.await??;
        ensure!(sent.event_id.is_none() && sent.lpdu_id.is_some(), "{sent:?}");
        story.cluster.advance(Duration::from_secs(7200)).await;
        story.cluster.boot("h").await?;
        story.cluster.quiesce().await?;
        story.ensure_messages("h", &["is anybody there?"]).await?;
        story.ensure_follows("p").await?;
        let again = story.say("p", "is anybody there?").await?;
        ensure!(again.lpdu_id == sent.lpdu_id && again.event_id.is_some(), "{again:?}");
        story.ensure_messages("h", &["is anybody there?"]).await
    });
}

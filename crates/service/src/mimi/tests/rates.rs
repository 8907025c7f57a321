//! Providers that ask too often, and what they lose by it: nothing but time.

use std::time::Duration;

use nabe_wire::directory::Endpoint;
use nabe_wire::notify::FanoutBatch;

use super::*;
use crate::mimi::testing::{Answers, status};
use crate::mimi::{MimiError, RateSettings};
use crate::settings::RateLimit;

const SLOW: RateLimit = RateLimit {
    per_second: 0.1,
    burst: 2.0,
};

impl Room {
    /// The provider has these rates from now on.
    fn limit(&mut self, name: &str, rates: RateSettings) {
        self.providers.rates = rates;
        self.providers.start(name);
    }
}

/// That it was one too many, and when it would not be.
fn too_many<T: std::fmt::Debug>(answer: Result<T, MimiError>) -> Duration {
    match answer {
        Err(MimiError::LimitExceeded { retry_after }) => retry_after,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_hub_that_notifies_too_often_is_told_when_to_come_back_and_comes_with_the_same_bytes() {
    let mut room = Room::of_three().await;
    let notify = SLOW;
    room.limit(
        "b",
        RateSettings {
            notify,
            ..RateSettings::default()
        },
    );
    let sent = |room: &Room| room.providers.made("b", Endpoint::Notify);
    let before = sent(&room).len();
    for n in 0..3 {
        room.say("alice", &n.to_string()).await;
        eventually("it is sent", || async { sent(&room).len() == before + n + 1 }).await;
    }
    room.say("alice", "3").await;
    // The third was one too many, and waits as long as it was told to.
    room.providers.advance(Duration::from_secs(9));
    crate::client::testing::let_run().await;
    assert_eq!(sent(&room).len(), before + 3);
    room.all_catch_up_after(Duration::from_secs(1), "b").await;
    room.all_catch_up_after(Duration::from_secs(10), "b").await;
    let bodies: Vec<_> = sent(&room).into_iter().skip(before).map(|made| made.body).collect();
    assert_eq!(bodies[2], bodies[3]);
    room.all_catch_up().await;
    assert_eq!(room.client("bob").heard, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_hub_that_has_us_keep_too_much_is_told_when_to_come_back() {
    let mut room = Room::of_three().await;
    let notified_kib = RateLimit {
        per_second: 0.1,
        burst: 4.0,
    };
    room.limit(
        "b",
        RateSettings {
            notified_kib,
            ..RateSettings::default()
        },
    );
    let before = room.providers.made("b", Endpoint::Notify).len();
    let long = |n: usize| format!("{n}{}", "x".repeat(2500));
    for n in 0..2 {
        room.say("alice", &long(n)).await;
        eventually("it is sent", || async {
            room.providers.made("b", Endpoint::Notify).len() > before + n
        })
        .await;
    }
    room.catch_up("bob").await;
    assert_eq!(room.client("bob").heard, [long(0)]);
    room.all_catch_up_after(Duration::from_secs(60), "b").await;
    room.all_catch_up().await;
    assert_eq!(room.client("bob").heard, [long(0), long(1)]);
}

impl Room {
    /// Time passes, and the provider is sent something again.
    async fn all_catch_up_after(&mut self, pause: Duration, to: &str) {
        let before = self.providers.made(to, Endpoint::Notify).len();
        self.providers.advance(pause);
        eventually("it is sent again", || async {
            self.providers.made(to, Endpoint::Notify).len() > before
        })
        .await;
    }
}

#[tokio::test]
async fn a_provider_that_sends_too_many_messages_is_told_when_to_come_back() {
    let mut room = Room::of_three().await;
    let submit = SLOW;
    room.limit(
        "a",
        RateSettings {
            submit,
            ..RateSettings::default()
        },
    );
    room.say("cathy", "one").await;
    room.say("cathy", "two").await;
    let third = room.message("cathy", "three");
    let mimi = room.providers.mimi("c");
    let refused = mimi.forward_submit(&user_of("cathy"), &room.uri, &third).await;
    assert_eq!(too_many(refused), Duration::from_secs(10));
    let open = room.providers.store("c").local_order(&room.uri).await.unwrap().open;
    assert_eq!(open, [], "it was not taken, and the client knows");
    // Others are not held up by it, least of all the hub's own users.
    room.say("bob", "four").await;
    for n in 0..5 {
        room.say("alice", &n.to_string()).await;
    }
    room.providers.advance(Duration::from_secs(10));
    let answer = room.submit("cathy", &third).await;
    assert!(
        matches!(answer.body.mls10(), Some(SubmitVerdict::Accepted(_))),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_provider_that_sends_too_many_updates_is_told_when_to_come_back() {
    let mut room = Room::of_three().await;
    let update = SLOW;
    room.limit(
        "a",
        RateSettings {
            update,
            ..RateSettings::default()
        },
    );
    for _ in 0..2 {
        let bundle = room.member("bob").update();
        room.commit("bob", &bundle).await;
    }
    let third = Bytes::from(room.member("bob").update().to_request());
    let mimi = room.providers.mimi("b");
    let send = async || mimi.forward_update(&user_of("bob"), &room.uri, &third).await;
    assert_eq!(too_many(send().await), Duration::from_secs(10));
    room.providers.advance(Duration::from_secs(10));
    let answer = send().await.unwrap();
    assert!(matches!(answer.verdict, UpdateVerdict::Success { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_repetition_that_comes_too_soon_leaves_the_request_on_record() {
    let mut room = Room::of_three().await;
    room.providers
        .answers("a", Endpoint::SubmitMessage, Some(Answers::Lost));
    let message = room.message("bob", "said");
    let mimi = room.providers.mimi("b");
    let lost = mimi.forward_submit(&user_of("bob"), &room.uri, &message).await;
    assert!(lost.is_err(), "{lost:?}");
    room.providers.answers("a", Endpoint::SubmitMessage, None);
    room.providers.intercept(|_, request| {
        let is_it = request.endpoint == Endpoint::SubmitMessage;
        is_it.then(|| status(429, Some(Duration::from_secs(60))))
    });
    let again = mimi.forward_submit(&user_of("bob"), &room.uri, &message).await;
    assert_eq!(too_many(again), Duration::from_secs(60));
    let made = |room: &Room| room.providers.made("a", Endpoint::SubmitMessage).len();
    let before = made(&room);
    room.providers.intercept(|_, _| None);
    room.providers.advance(Duration::from_secs(59));
    crate::client::testing::let_run().await;
    assert_eq!(made(&room), before, "not before the time that the hub named");
    room.providers.advance(Duration::from_secs(1));
    eventually("the verdict is known", || async {
        let order = room.providers.store("b").local_order(&room.uri).await.unwrap();
        order.open.is_empty()
    })
    .await;
    room.is_delivered().await;
    room.catch_up("cathy").await;
    assert_eq!(room.client("cathy").heard, ["said"]);
}

#[tokio::test]
async fn what_a_hub_repeats_is_taken_again_however_often_it_asks() {
    let mut room = Room::of_three().await;
    let notify = SLOW;
    room.limit(
        "b",
        RateSettings {
            notify,
            ..RateSettings::default()
        },
    );
    let known = room.inbox("bob").await.pop().unwrap();
    let batch = FanoutBatch::new(vec![known]).unwrap();
    let body = batch.to_bytes();
    let mimi = room.providers.mimi("b");
    for _ in 0..5 {
        mimi.notify(&server("a"), &room.uri, &batch, &body).await.unwrap();
    }
}

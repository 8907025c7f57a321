//! Followers that fail, and what they are sent then.

use std::time::Duration;

use nabe_wire::directory::Endpoint;

use super::*;
use crate::mimi::testing::{Answers, BACKENDS, status};

/// Bodies that a follower was sent.
fn sent(room: &Room, to: &str) -> Vec<Bytes> {
    let made = room.providers.made(to, Endpoint::Notify);
    made.into_iter().map(|made| made.body).collect()
}

fn texts(inbox: &[FanoutMessage]) -> usize {
    let is_text = |message: &&FanoutMessage| matches!(message.with, FanoutParts::Application { .. });
    inbox.iter().filter(is_text).count()
}

#[tokio::test]
async fn a_follower_that_asks_for_time_gets_the_same_bytes_again_and_the_rest_after_it() {
    let mut room = Room::of_three().await;
    let before = sent(&room, "b").len();
    let busy = Duration::from_secs(30);
    room.providers.intercept(move |to, request| {
        let is_it = *to == server("b") && request.endpoint == Endpoint::Notify;
        is_it.then(|| status(503, Some(busy)))
    });
    room.say("cathy", "one").await;
    eventually("the first is sent", || async { sent(&room, "b").len() == before + 1 }).await;
    room.say("cathy", "two").await;
    room.say("alice", "three").await;
    // Not before the time that it named, though the first pause would be over.
    room.providers.advance(Duration::from_secs(29));
    crate::client::testing::let_run().await;
    assert_eq!(sent(&room, "b").len(), before + 1);
    // Cathy's provider is not held up by it.
    room.inbox_with("cathy", |_| true).await;
    eventually("others have it", || async { texts(&room.inbox("cathy").await) == 3 }).await;
    room.providers.intercept(|_, _| None);
    room.providers.advance(Duration::from_secs(1));
    room.is_delivered().await;
    let bodies = &sent(&room, "b")[before..];
    assert_eq!(bodies.len(), 3);
    assert_eq!(bodies[0], bodies[1]);
    room.all_catch_up().await;
    assert_eq!(room.client("bob").heard, ["one", "two", "three"]);
}

#[tokio::test]
async fn what_comes_soon_after_a_request_goes_together_and_after_a_pause_at_once() {
    let mut room = Room::of_three().await;
    room.providers.gather = Duration::from_millis(50);
    room.providers.crash("a").await;
    room.is_delivered().await;
    room.providers.advance(Duration::from_secs(1));
    let before = sent(&room, "b").len();
    room.say("cathy", "one").await;
    eventually("the first is sent at once", || async {
        sent(&room, "b").len() == before + 1
    })
    .await;
    room.say("cathy", "two").await;
    room.say("cathy", "three").await;
    crate::client::testing::let_run().await;
    assert_eq!(sent(&room, "b").len(), before + 1, "the next one is not due yet");
    room.providers.advance(Duration::from_millis(50));
    room.is_delivered().await;
    assert_eq!(sent(&room, "b").len(), before + 2, "both in one request");
    room.all_catch_up().await;
    assert_eq!(room.client("bob").heard, ["one", "two", "three"]);
}

#[tokio::test]
async fn a_hub_that_crashes_between_accepting_and_sending_delivers_once() {
    for backend in BACKENDS {
        let mut room = Room::of_three_on(backend).await;
        room.providers.set_down("b", true);
        room.say("cathy", "one").await;
        eventually("it was tried", || async {
            let store = room.providers.store("a");
            store.notification(&room.uri, &server("b")).await.unwrap().is_some()
        })
        .await;
        room.say("cathy", "two").await;
        room.providers.crash("a").await;
        room.providers.set_down("b", false);
        room.providers.advance(Duration::from_secs(1));
        room.is_delivered().await;
        room.all_catch_up().await;
        assert_eq!(room.client("bob").heard, ["one", "two"], "{backend:?}");
        assert_eq!(texts(&room.inbox("bob").await), 2, "{backend:?}");
    }
}

/// Whichever of them crashes: the follower has it, and nobody heard of that.
#[tokio::test]
async fn a_hub_that_crashes_when_the_answer_was_on_its_way_sends_the_same_bytes_again() {
    for (backend, crashes) in BACKENDS
        .into_iter()
        .flat_map(|backend| [(backend, "a"), (backend, "b")])
    {
        let mut room = Room::of_three_on(backend).await;
        let before = sent(&room, "b").len();
        room.providers.answers("b", Endpoint::Notify, Some(Answers::Lost));
        room.say("cathy", "one").await;
        eventually("the follower has it", || async { texts(&room.inbox("bob").await) == 1 }).await;
        room.say("cathy", "two").await;
        room.providers.crash(crashes).await;
        room.providers.answers("b", Endpoint::Notify, None);
        room.providers.advance(Duration::from_secs(1));
        room.is_delivered().await;
        let bodies = &sent(&room, "b")[before..];
        assert_eq!(bodies[0], bodies[1], "{backend:?}, {crashes} crashes");
        room.all_catch_up().await;
        assert_eq!(
            room.client("bob").heard,
            ["one", "two"],
            "{backend:?}, {crashes} crashes"
        );
        assert_eq!(texts(&room.inbox("bob").await), 2, "{backend:?}, {crashes} crashes");
    }
}

#[tokio::test]
async fn a_follower_that_was_down_for_an_hour_and_ten_thousand_messages_catches_up_in_order_with_few_requests() {
    const COUNT: usize = 10_000;
    const EVERY: Duration = Duration::from_millis(3_600_000 / 10_000);
    let mut room = Room::of_three().await;
    room.providers.set_down("b", true);
    // The hub cannot read them, so it is all the same to it what is in them.
    let sealed = room.member("cathy").encrypt(b"hello", None);
    for n in 0..COUNT {
        let mut message = sealed.clone();
        message.ciphertext = n.to_be_bytes().as_slice().into();
        let body = submission(message, CATHY);
        let answer = room.submit("cathy", &body).await;
        assert!(matches!(answer.body.mls10(), Some(SubmitVerdict::Accepted(_))));
        room.providers.advance(EVERY);
    }
    let before = sent(&room, "b").len();
    // With pauses of one second, two, four and so on up to five minutes, each a fifth shorter at most.
    assert!((10..40).contains(&before), "it is tried now and then: {before}");
    room.providers.set_down("b", false);
    room.providers.advance(Duration::from_secs(300));
    room.is_delivered().await;
    let requests = sent(&room, "b")[before..].to_vec();
    assert!(requests.len() <= COUNT / 200, "{}", requests.len());
    let largest = requests.iter().map(Bytes::len).max().unwrap();
    assert!(largest <= 1024 * 1024, "{largest}");
    let numbers = room
        .inbox("bob")
        .await
        .into_iter()
        .filter_map(|message| match message.message.into_value().body {
            MlsMessageBody::Private(message) => Some(usize::from_be_bytes(message.ciphertext[..].try_into().unwrap())),
            _ => None,
        });
    assert!(numbers.eq(0..COUNT));
}

#[tokio::test]
async fn pauses_grow_up_to_five_minutes() {
    let mut room = Room::of_three().await;
    room.providers.set_down("b", true);
    let before = sent(&room, "b").len();
    room.say("cathy", "one").await;
    for attempts in 1..=12_usize {
        eventually("it was tried again", || async {
            let store = room.providers.store("a");
            let work = store.notify_work_of(&room.uri, &server("b")).await.unwrap().unwrap();
            work.failures as usize == attempts
        })
        .await;
        let store = room.providers.store("a");
        let work = store.notify_work_of(&room.uri, &server("b")).await.unwrap().unwrap();
        let now = crate::ports::Clock::now(&room.providers.clock);
        let pause = work.next_attempt.saturating_since(now);
        let full = Duration::from_secs(1 << (attempts - 1).min(9)).min(Duration::from_secs(300));
        assert!(pause <= full && pause >= full.mul_f64(0.8), "{attempts}: {pause:?}");
        room.providers.advance(pause);
    }
    assert!(sent(&room, "b").len() - before >= 12);
}

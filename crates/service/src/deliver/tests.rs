//! Delivery over a wire that fails in every way: nothing lost, nothing doubled, the same bytes until they are confirmed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nabe_core::{Input, Via};
use nabe_event::{EventBuilder, RoomVersionRules};
use nabe_store::{Between, DirectItem, Order, Store};
use nabe_types::{EventId, LogPosition, RoomId, UserId};
use proptest::prelude::*;

use super::*;
use crate::client::testing::{World, answer, eventually, let_run, message, public_room, server, signer, user};

/// A hub `a.example` and a room that `@bob:b.example` has joined, where `b` is whatever the test makes of it.
async fn followed_room(world: &World) -> RoomId {
    let a = world.service("a");
    let room = a
        .create_room(&user("alice", "a"), public_room(), None)
        .await
        .unwrap()
        .room_id;
    join(world, &room, &user("bob", "b"), "b").await;
    room
}

async fn join(world: &World, room: &RoomId, who: &UserId, name: &str) {
    let content = object! { "membership" => "join" };
    let event = EventBuilder::new(room.clone(), "m.room.member", who.clone(), world.clock_now(), content)
        .state_key(who.as_str())
        .build_lpdu(&signer(name), &server("a"), &RoomVersionRules::I1)
        .unwrap();
    let input = Input::Lpdu {
        event,
        from: server(name),
        via: Via::Join,
    };
    world.service("a").transact(room, input).await.unwrap();
}

async fn say(world: &World, room: &RoomId, count: usize) {
    for n in 0..count {
        world
            .service("a")
            .send_event(&user("alice", "a"), room, message(&format!("{n}")), None)
            .await
            .unwrap();
    }
}

fn ok() -> Result<PeerResponse, PeerError> {
    answer(200, object! { "failed_pdus" => object! {} })
}

fn pdus_in(request: &PeerRequest) -> Vec<EventId> {
    let body = Object::parse(request.body.as_ref().unwrap()).unwrap();
    let pdus = body.get("pdus").and_then(Json::as_array).unwrap();
    pdus.iter()
        .map(|pdu| nabe_event::event_id_of(pdu.as_object().unwrap()))
        .collect()
}

/// The IDs a follower is owed: from `from` on.
async fn owed(world: &World, room: &RoomId, from: i64) -> Vec<EventId> {
    let between = Between::after(LogPosition(from - 1));
    let entries = world
        .store("a")
        .entries(room, between, usize::MAX, Order::Ascending)
        .await
        .unwrap();
    entries.iter().map(|entry| entry.event_id().clone()).collect()
}

async fn is_delivered(world: &World, room: &RoomId) -> bool {
    let head = world.store("a").head(room).await.unwrap().unwrap();
    let followers = world.store("a").followers(room).await.unwrap();
    followers
        .iter()
        .all(|follower| follower.delivered == head && follower.dirty_since.is_none())
}

/// Time passes until deliveries to `b` have failed so often.
async fn fail(world: &World, times: u32) {
    for round in 1..=times {
        eventually("it failed again", || async { failures(world, "b").await == round }).await;
        if round < times {
            world.clock.advance(Duration::from_secs(60));
        }
    }
}

async fn failures(world: &World, name: &str) -> u32 {
    world
        .store("a")
        .destination(&server(name))
        .await
        .unwrap()
        .map_or(0, |status| status.failures)
}

#[tokio::test]
async fn what_is_confirmed_moves_the_cursor_and_leaves_nothing_on_record() {
    let world = World::new(&["a"]);
    world.intercept(|_, _, _| Some(ok()));
    let room = followed_room(&world).await;
    say(&world, &room, 120).await;
    eventually("all is delivered", || is_delivered(&world, &room)).await;
    assert_eq!(world.store("a").frozen(&server("b")).await.unwrap(), None);
    assert!(world.store("a").destinations_with_work().await.unwrap().is_empty());
    let requests = world.made("/send/");
    let sent: Vec<_> = requests.iter().flat_map(|made| pdus_in(&made.request)).collect();
    assert_eq!(
        sent,
        owed(&world, &room, 5).await,
        "in order, each once, from b's join on"
    );
    assert!(requests.iter().all(|made| pdus_in(&made.request).len() <= 50));
}

#[tokio::test]
async fn the_same_bytes_are_repeated_until_they_are_confirmed_even_over_a_crash() {
    let mut world = World::new(&["a"]);
    world.set_down("b", true);
    let room = followed_room(&world).await;
    eventually("the first attempt failed", || async {
        failures(&world, "b").await == 1
    })
    .await;
    say(&world, &room, 3).await;
    for round in 2..5 {
        world.clock.advance(Duration::from_secs(3600));
        eventually("another attempt failed", || async {
            failures(&world, "b").await == round
        })
        .await;
    }
    world.crash("a");
    world.clock.advance(Duration::from_secs(3600));
    eventually("the new server tried", || async { failures(&world, "b").await == 5 }).await;
    let requests = world.made("/send/");
    assert!(requests.len() >= 5);
    assert!(
        requests.iter().all(|made| {
            let (request, first) = (&made.request, &requests[0].request);
            (&request.stable, &request.body) == (&first.stable, &first.body)
        }),
        "what came later waits for its own transaction"
    );
    world.intercept(|_, _, _| Some(ok()));
    world.clock.advance(Duration::from_secs(3600));
    eventually("all is delivered", || is_delivered(&world, &room)).await;
    let requests = world.made("/send/");
    let last_two: Vec<_> = requests[requests.len() - 2..]
        .iter()
        .flat_map(|made| pdus_in(&made.request))
        .collect();
    assert_eq!(last_two, owed(&world, &room, 5).await);
}

#[tokio::test]
async fn a_destination_that_was_down_for_days_catches_up() {
    let world = World::new(&["a"]);
    world.set_down("b", true);
    let room = followed_room(&world).await;
    for _ in 0..3 {
        say(&world, &room, 40).await;
        world.clock.advance(Duration::from_secs(86_400));
        let_run().await;
    }
    let attempts = world.made("/send/").len();
    assert!(attempts <= 8, "{attempts} attempts: it is not tried for each event");
    world.intercept(|_, _, _| Some(ok()));
    world.clock.advance(Duration::from_secs(3600));
    eventually("all is delivered", || is_delivered(&world, &room)).await;
}

#[tokio::test]
async fn a_request_from_the_destination_ends_its_pause() {
    let world = World::new(&["a"]);
    world.set_down("b", true);
    let room = followed_room(&world).await;
    fail(&world, 6).await;
    world.intercept(|_, _, _| Some(ok()));
    world.clock.advance(Duration::from_secs(2));
    let_run().await;
    assert!(!is_delivered(&world, &room).await, "it still sleeps");
    world.service("a").heard_from(&server("b"));
    eventually("all is delivered", || is_delivered(&world, &room)).await;
}

#[tokio::test]
async fn a_request_from_the_destination_does_not_make_its_failures_forgotten() {
    let world = World::new(&["a"]);
    world.set_down("b", true);
    let _room = followed_room(&world).await;
    fail(&world, 4).await;
    world.clock.advance(Duration::from_secs(2));
    world.service("a").heard_from(&server("b"));
    let made = world.made("/send/").len();
    eventually("it was tried", || async { world.made("/send/").len() > made }).await;
    eventually("it counts on", || async { failures(&world, "b").await == 5 }).await;
}

#[tokio::test]
async fn destinations_that_fail_leave_the_others_their_slots() {
    let mut world = World::new(&[]);
    world.start_with("a", |settings| settings.delivery.concurrency = 1);
    world.set_down("b", true);
    let room = followed_room(&world).await;
    eventually("the first attempt failed", || async {
        failures(&world, "b").await == 1
    })
    .await;
    // From now on it takes requests and never answers.
    world.set_down("b", false);
    world.silence("b");
    world.clock.advance(Duration::from_secs(60));
    eventually("it holds a request", || async { world.made("/send/").len() == 2 }).await;
    let timeouts: Vec<_> = world
        .made("/send/")
        .iter()
        .map(|made| made.request.timeout.as_secs())
        .collect();
    assert_eq!(timeouts, [60, 10]);
    world.intercept(|_, to, _| (*to == server("c")).then(ok));
    join(&world, &room, &user("carol", "c"), "c").await;
    eventually("the others are delivered to", || async {
        let followers = world.store("a").followers(&room).await.unwrap();
        followers
            .iter()
            .any(|follower| follower.server == server("c") && follower.dirty_since.is_none())
    })
    .await;
}

#[tokio::test]
async fn retry_after_is_honored_whatever_else_happens() {
    let world = World::new(&["a"]);
    world.intercept(|_, _, _| {
        let body = object! { "errcode" => "M_LIMIT_EXCEEDED" }.to_canonical().into();
        Some(Ok(PeerResponse {
            status: 429,
            body,
            retry_after: Some(Duration::from_secs(7200)),
        }))
    });
    let room = followed_room(&world).await;
    eventually("it was put off", || async { failures(&world, "b").await == 1 }).await;
    world.intercept(|_, _, _| Some(ok()));
    world.clock.advance(Duration::from_secs(7199));
    world.service("a").heard_from(&server("b"));
    say(&world, &room, 1).await;
    let_run().await;
    assert_eq!(world.made("/send/").len(), 1);
    world.clock.advance(Duration::from_secs(1));
    eventually("all is delivered", || is_delivered(&world, &room)).await;
}

#[tokio::test]
async fn a_request_that_stays_too_large_is_halved_until_it_fits() {
    let world = World::new(&["a"]);
    world.set_down("b", true);
    let room = followed_room(&world).await;
    eventually("the join failed to leave", || async {
        failures(&world, "b").await == 1
    })
    .await;
    say(&world, &room, 20).await;
    world.intercept(|_, _, request| {
        Some(if pdus_in(request).len() > 5 {
            answer(413, object! { "errcode" => "M_TOO_LARGE" })
        } else {
            ok()
        })
    });
    eventually("all is delivered", || async {
        world.clock.advance(Duration::from_secs(3600));
        let_run().await;
        is_delivered(&world, &room).await
    })
    .await;
    let mut sent: Vec<EventId> = Vec::new();
    for made in world.made("/send/") {
        let ids = pdus_in(&made.request);
        if ids.len() <= 5 && !sent.ends_with(&ids) {
            sent.extend(ids);
        }
    }
    assert_eq!(sent, owed(&world, &room, 5).await);
}

#[tokio::test]
async fn a_destination_that_policy_excludes_is_not_contacted_and_loses_nothing() {
    let mut world = World::new(&["a"]);
    world.set_down("b", true);
    let room = followed_room(&world).await;
    eventually("the first attempt failed", || async {
        failures(&world, "b").await == 1
    })
    .await;
    let before = world.made("/send/").len();
    world.service("a").shutdown().await;
    let deny = |settings: &mut crate::Settings| {
        settings
            .policy
            .deny
            .push(nabe_types::ServerPattern::parse("b.example").unwrap());
    };
    world.start_with("a", deny);
    world.clock.advance(Duration::from_secs(3600));
    say(&world, &room, 2).await;
    let_run().await;
    assert_eq!(world.made("/send/").len(), before);
    world.intercept(|_, _, _| Some(ok()));
    world.service("a").shutdown().await;
    world.start("a");
    world.clock.advance(Duration::from_secs(3600));
    eventually("all is delivered", || is_delivered(&world, &room)).await;
}

#[tokio::test]
async fn an_answer_that_is_no_object_does_not_confirm() {
    let world = World::new(&["a"]);
    world.intercept(|_, _, _| {
        Some(Ok(PeerResponse {
            status: 200,
            body: Bytes::from_static(b"<html>"),
            retry_after: None,
        }))
    });
    let room = followed_room(&world).await;
    eventually("it counts as a failure", || async { failures(&world, "b").await == 1 }).await;
    assert!(!is_delivered(&world, &room).await);
}

#[tokio::test]
async fn a_request_on_record_that_cannot_be_rebuilt_is_sent_afresh() {
    let world = World::new(&["a"]);
    world.set_down("b", true);
    let room = followed_room(&world).await;
    eventually("the first attempt failed", || async {
        failures(&world, "b").await == 1
    })
    .await;
    let frozen = world.store("a").frozen(&server("b")).await.unwrap().unwrap();
    let spoiled = nabe_store::OutboundRequest {
        body_sha256: [0; 32],
        ..frozen.clone()
    };
    let writes = vec![
        thaw(&server("b"), frozen.txn_id.clone()),
        Write::Freeze { request: spoiled },
    ];
    world.service("a").commit(Batch(writes)).await.unwrap();
    world.intercept(|_, _, _| Some(ok()));
    world.clock.advance(Duration::from_secs(3600));
    eventually("all is delivered", || is_delivered(&world, &room)).await;
    let last = world.made("/send/").pop().unwrap();
    assert!(!last.request.stable.ends_with(&frozen.txn_id));
    assert_eq!(pdus_in(&last.request), owed(&world, &room, 5).await);
}

#[tokio::test]
async fn edus_and_events_share_a_transaction_within_their_limits() {
    let world = World::new(&["a"]);
    world.set_down("b", true);
    let room = followed_room(&world).await;
    eventually("the first attempt failed", || async {
        failures(&world, "b").await == 1
    })
    .await;
    say(&world, &room, 10).await;
    let edus = (0..130).map(|n| Write::Enqueue {
        destination: server("b"),
        item: DirectItem::Edu(object! { "type" => "x", "n" => n }.to_canonical().into()),
        limit: 1000,
        now: world.clock_now(),
    });
    world.service("a").commit(edus.collect()).await.unwrap();
    world.intercept(|_, _, _| Some(ok()));
    world.clock.advance(Duration::from_secs(3600));
    eventually("all is delivered", || async {
        is_delivered(&world, &room).await && world.store("a").outbox_len(&server("b")).await.unwrap() == 0
    })
    .await;
    let mut numbers = Vec::new();
    for made in world.made("/send/").into_iter().skip(1) {
        let body = Object::parse(made.request.body.as_ref().unwrap()).unwrap();
        let edus = body.get("edus").and_then(Json::as_array).unwrap_or_default();
        assert!(edus.len() <= 100);
        numbers.extend(edus.iter().filter_map(|edu| edu.as_object()?.get("n")?.as_i64()));
    }
    numbers.dedup();
    assert_eq!(numbers, (0..130).collect::<Vec<_>>());
}

async fn enqueue(world: &World, destination: &str, items: impl IntoIterator<Item = DirectItem>) {
    let writes = items.into_iter().map(|item| Write::Enqueue {
        destination: server(destination),
        item,
        limit: 1000,
        now: world.clock_now(),
    });
    world.service("a").commit(writes.collect()).await.unwrap();
}

fn edu(size: usize) -> DirectItem {
    DirectItem::Edu(object! { "type" => "x".repeat(size) }.to_canonical().into())
}

fn lpdu(n: u8) -> DirectItem {
    DirectItem::Lpdu {
        room: RoomId::parse("!elsewhere:b.example").unwrap(),
        lpdu_id: EventId::from_hash([n; 32]),
        bytes: object! { "n" => i64::from(n) }.to_canonical().into(),
        sender: user("alice", "a"),
    }
}

/// What the next request to this server would be.
async fn next_request(world: &World, destination: &str, caps: Caps) -> Prepared {
    let (destination, now) = (server(destination), world.clock_now());
    let prepared = body::collect(world.store("a"), &destination, caps, "next".to_owned(), now).await;
    prepared.unwrap().unwrap()
}

#[tokio::test]
async fn a_request_that_comes_out_otherwise_than_on_record_is_not_repeated() {
    let world = World::new(&["a"]);
    world.set_down("b", true);
    let room = followed_room(&world).await;
    say(&world, &room, 2).await;
    enqueue(&world, "b", [edu(1), edu(2)]).await;
    let prepared = next_request(&world, "b", Caps::FULL).await;
    let rebuild = |request| async { body::rebuild(world.store("a"), request).await.unwrap() };
    let again = rebuild(prepared.request.clone()).await.unwrap();
    assert_eq!(again.body, prepared.body);
    let mut lacks_edu = prepared.request.clone();
    lacks_edu.direct.pop().unwrap();
    assert!(rebuild(lacks_edu).await.is_none());
    let mut lacks_event = prepared.request;
    let range = lacks_event.ranges.last_mut().unwrap();
    range.through = range.through.previous();
    assert!(rebuild(lacks_event).await.is_none());
}

#[tokio::test]
async fn own_events_leave_the_log_half_of_a_request() {
    let world = World::new(&["a"]);
    world.set_down("b", true);
    world.set_down("c", true);
    let room = followed_room(&world).await;
    say(&world, &room, 60).await;
    for destination in ["b", "c"] {
        enqueue(&world, destination, (0..60).map(lpdu)).await;
    }
    for (pdus, lpdus) in [(50, 25), (5, 3), (1, 1)] {
        let caps = Caps { pdus, ..Caps::FULL };
        let shared = next_request(&world, "b", caps).await;
        assert_eq!((shared.pdus, shared.lpdus.len()), (pdus, lpdus));
        assert_eq!(shared.request.ranges.is_empty(), pdus == lpdus);
        // Where there is no log, nothing is kept free for it.
        let alone = next_request(&world, "c", caps).await;
        assert_eq!((alone.pdus, alone.lpdus.len()), (pdus, pdus));
    }
}

#[tokio::test]
async fn a_request_stays_below_three_mebibytes_unless_one_item_alone_is_larger() {
    let world = World::new(&["a"]);
    world.set_down("b", true);
    world.set_down("c", true);
    let _room = followed_room(&world).await;
    let limit = 3 * 1024 * 1024;
    enqueue(&world, "b", (0..100).map(|_| edu(65_000))).await;
    let prepared = next_request(&world, "b", Caps::FULL).await;
    assert!((limit - 65_100..=limit).contains(&prepared.body.len()));
    assert_eq!(prepared.edus, prepared.request.direct.len());
    assert!(prepared.request.ranges.is_empty(), "the log waits, too");
    enqueue(&world, "c", [edu(limit), edu(1)]).await;
    let prepared = next_request(&world, "c", Caps::FULL).await;
    assert_eq!((prepared.edus, prepared.pdus), (1, 0));
}

#[test]
fn pauses_double_up_to_the_cap_and_jitter_only_shortens_them() {
    let settings = DeliverySettings::default();
    let full: Vec<_> = (1..=14)
        .map(|failures| delay(&settings, failures, 0).as_secs())
        .collect();
    assert_eq!(full, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]);
    for failures in [1, 5, 100, u32::MAX] {
        let (longest, shortest) = (delay(&settings, failures, 0), delay(&settings, failures, u32::MAX));
        assert!(shortest < longest && shortest >= longest.mul_f64(1.0 - settings.jitter - 1e-9));
    }
}

#[test]
fn failed_pdus_are_read_tolerantly_and_bounded() {
    let id = EventId::from_hash([1; 32]);
    let failed = object! {
        id.as_str() => object! { "error" => "x".repeat(10_000) },
        "not an ID" => object! { "error" => "y" },
    };
    let read = judge(answer(200, object! { "failed_pdus" => failed })).ok().unwrap();
    assert_eq!(
        read,
        FailedPdus::from([(id, "x".repeat(crate::failed_pdu::MAX_ERROR_CHARS).as_str().into())])
    );
    assert_eq!(
        judge(answer(200, Object::new())).ok().unwrap(),
        FailedPdus::new(),
        "as one implementation answers"
    );
}

/// What happens to one request on its way.
#[derive(Clone, Copy, Debug)]
enum Luck {
    Through,
    LostBefore,
    LostAfter,
    Status(u16),
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![
        3 => Just(Luck::Through),
        2 => Just(Luck::LostBefore),
        2 => Just(Luck::LostAfter),
        1 => prop_oneof![Just(500_u16), Just(502), Just(429), Just(404)].prop_map(Luck::Status),
    ]
}

/// A receiver as the draft wants it: a transaction ID is processed once.
#[derive(Default)]
struct Receiver {
    transactions: BTreeMap<String, Bytes>,
    events: Vec<EventId>,
}

impl Receiver {
    fn take(&mut self, request: &PeerRequest) {
        let body = request.body.clone().unwrap();
        if let Some(before) = self.transactions.insert(request.stable.clone(), body.clone()) {
            assert_eq!(before, body, "a transaction ID was used for two bodies");
            return;
        }
        self.events.extend(pdus_in(request));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_doubled_whatever_fails(
        lucks in proptest::collection::vec(luck(), 0..12),
        bursts in proptest::collection::vec(1..70_usize, 1..5),
        crash_after in proptest::option::of(0..4_usize),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(fail_at_random(lucks, bursts, crash_after));
    }
}

async fn fail_at_random(lucks: Vec<Luck>, bursts: Vec<usize>, crash_after: Option<usize>) {
    let mut world = World::new(&["a"]);
    let (receiver, turn) = (Arc::new(Mutex::new(Receiver::default())), AtomicUsize::new(0));
    let receiving = Arc::clone(&receiver);
    world.intercept(move |_, _, request| {
        let luck = lucks
            .get(turn.fetch_add(1, Ordering::Relaxed))
            .copied()
            .unwrap_or(Luck::Through);
        Some(match luck {
            Luck::Through => {
                receiving.lock().unwrap().take(request);
                ok()
            }
            Luck::LostBefore => Err(PeerError::Unreachable),
            Luck::LostAfter => {
                receiving.lock().unwrap().take(request);
                Err(PeerError::Timeout)
            }
            Luck::Status(status) => answer(status, object! { "errcode" => "M_UNKNOWN" }),
        })
    });
    let room = followed_room(&world).await;
    for (index, burst) in bursts.into_iter().enumerate() {
        say(&world, &room, burst).await;
        if crash_after == Some(index) {
            world.crash("a");
        }
        world.clock.advance(Duration::from_secs(5));
        let_run().await;
    }
    eventually("all is delivered", || async {
        world.clock.advance(Duration::from_secs(3600));
        let_run().await;
        is_delivered(&world, &room).await
    })
    .await;
    let owed = owed(&world, &room, 5).await;
    assert_eq!(receiver.lock().unwrap().events, owed);
}

//! A follower's log is in the hub's order, whatever happens between the two, and loses nothing; on either backend.

use std::time::Duration;

use nabe_types::LogPosition;
use nabe_wire::directory::Endpoint;
use nabe_wire::group_info::GroupInfoRequest;
use tokio::task::JoinHandle;

use super::*;
use crate::client::testing::let_run;
use crate::mimi::order::MAX_WAIT;
use crate::mimi::testing::{Answers, BACKENDS, status};

const BEN: &str = "mimi://b.example/u/ben";

/// Alice, with Bob and Ben of one provider, and Cathy of another, who have read everything.
async fn room_of_four(backend: Backend) -> Room {
    let mut room = Room::on(backend, |_| {}).await;
    room.add("alice", "bob", "mimi://b.example/d/bob/B", BOB).await;
    room.add("bob", "ben", "mimi://b.example/d/ben/B", BEN).await;
    room.add("bob", "cathy", "mimi://c.example/d/cathy/C", CATHY).await;
    room.all_catch_up().await;
    room
}

/// Somebody's client hands an update to its provider, without waiting for the answer.
fn begin_update(room: &Room, name: &str, body: Vec<u8>) -> JoinHandle<UpdateRoomResponse> {
    let (user, uri, mimi) = (user_of(name), room.uri.clone(), room.providers.mimi(provider_of(name)));
    tokio::spawn(async move { mimi.forward_update(&user, &uri, &body.into()).await.unwrap() })
}

/// The same, until the hub has taken it; its answer does not come.
async fn begin_commit(room: &mut Room, name: &str, bundle: &TestBundle) -> JoinHandle<UpdateRoomResponse> {
    let head = hub_head(room).await;
    room.client(name).own.insert(bundle.commit.as_bytes().to_vec());
    let begun = begin_update(room, name, bundle.to_request());
    eventually("the hub has taken it", || async { hub_head(room).await > head }).await;
    begun
}

async fn hub_head(room: &Room) -> LogPosition {
    room.providers.store("a").mimi_head(&room.uri).await.unwrap().unwrap()
}

async fn settled(begun: JoinHandle<UpdateRoomResponse>) {
    let answer = begun.await.unwrap();
    assert!(matches!(answer.verdict, UpdateVerdict::Success { .. }), "{answer:?}");
}

/// The epochs of the commits in a provider's log.
async fn commits(room: &Room, name: &str) -> Vec<u64> {
    let inbox = room.inbox(name).await;
    let commits = inbox.iter().filter(|it| matches!(it.with, FanoutParts::Commit { .. }));
    commits
        .map(|commit| match &commit.message.body {
            MlsMessageBody::Public(commit) => commit.content.epoch,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn is_ascending(epochs: &[u64]) -> bool {
    epochs.windows(2).all(|pair| pair[0] < pair[1])
}

/// Everybody reads everything, and all are in the same epoch.
async fn all_are_one(room: &mut Room) {
    room.is_delivered().await;
    room.all_catch_up().await;
    let authenticators: Vec<_> = room
        .clients
        .values()
        .map(|it| it.member.epoch_authenticator())
        .collect();
    assert!(authenticators.windows(2).all(|pair| pair[0] == pair[1]));
}

async fn open_forwards(room: &Room) -> usize {
    room.providers
        .store("b")
        .local_order(&room.uri)
        .await
        .unwrap()
        .open
        .len()
}

/// Attempts, each after a pause, until it is so.
async fn in_time(room: &Room, what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        room.providers.advance(Duration::from_secs(1));
        // A disk takes its time, whatever the clock says.
        for _ in 0..10 {
            let_run().await;
            is_so().await;
        }
    }
    panic!("waited in vain: {what}");
}

#[tokio::test]
async fn what_the_hub_sends_waits_for_a_verdict_that_is_on_its_way() {
    for backend in BACKENDS {
        let mut room = room_of_four(backend).await;
        let gate = room.providers.hold_answers("a", Endpoint::Update);
        let bobs = room.member("bob").update();
        let begun = begin_commit(&mut room, "bob", &bobs).await;
        // Alice has it, and goes on.
        room.catch_up("alice").await;
        let alices = room.member("alice").update();
        let before = room.providers.made("b", Endpoint::Notify).len();
        room.commit("alice", &alices).await;
        room.say("alice", "after both").await;
        eventually("the follower is told", || async {
            room.providers.made("b", Endpoint::Notify).len() > before
        })
        .await;
        let_run().await;
        assert_eq!(room.client("ben").heard, Vec::<String>::new());
        let known = commits(&room, "ben").await;
        gate.add_permits(1);
        settled(begun).await;
        room.member("bob").merge();
        all_are_one(&mut room).await;
        assert_eq!(room.client("ben").heard, ["after both"]);
        let all = commits(&room, "ben").await;
        assert!(is_ascending(&all) && all.len() == known.len() + 2, "{known:?} {all:?}");
    }
}

#[tokio::test]
async fn a_proposal_comes_before_the_commit_that_contains_it() {
    for backend in BACKENDS {
        let mut room = room_of_four(backend).await;
        let gate = room.providers.hold_answers("a", Endpoint::Update);
        let proposal = room.member("bob").propose_update();
        room.client("bob").own.insert(proposal.as_bytes().to_vec());
        let head = hub_head(&room).await;
        let begun = begin_update(&room, "bob", proposals(&[proposal]));
        eventually("the hub has taken it", || async { hub_head(&room).await > head }).await;
        room.catch_up("alice").await;
        let alices = room.member("alice").update();
        let before = room.providers.made("b", Endpoint::Notify).len();
        room.commit("alice", &alices).await;
        eventually("the follower is told", || async {
            room.providers.made("b", Endpoint::Notify).len() > before
        })
        .await;
        let_run().await;
        gate.add_permits(1);
        settled(begun).await;
        all_are_one(&mut room).await;
    }
}

#[tokio::test]
async fn a_commit_waits_for_the_one_before_it_that_the_hub_has_yet_to_send() {
    for backend in BACKENDS {
        let mut room = room_of_four(backend).await;
        room.providers.intercept(|to, request| {
            let is_it = *to == server("b") && request.endpoint == Endpoint::Notify;
            is_it.then(|| status(503, Some(Duration::from_secs(1))))
        });
        let alices = room.member("alice").update();
        room.commit("alice", &alices).await;
        // Ben's tablet asks the hub itself, and goes on.
        let device = MimiDevice::new("mimi://b.example/d/ben/T");
        let (query, private_key) = group_info_query(&device);
        let request = Bytes::from(GroupInfoRequest::from(query).to_bytes());
        let mimi = room.providers.mimi("b");
        let answer = mimi
            .forward_group_info(&user_of("ben"), &room.uri, &request)
            .await
            .unwrap();
        let opened = open_group_info(answer, &private_key);
        let info = opened.group_info.as_bytes();
        let (member, bundle) = device.join_externally_with(info, &opened.ratchet_tree_option, &[], &[]);
        let known = commits(&room, "ben").await;
        room.clients.insert("ben 2", Client::new(member, 0));
        room.commit("ben 2", &bundle).await;
        assert_eq!(commits(&room, "ben").await, known);
        // It waits through a restart.
        room.providers.crash("b").await;
        let read = room.inbox("ben").await.len();
        room.providers.intercept(|_, _| None);
        room.providers.advance(Duration::from_secs(2));
        room.is_delivered().await;
        let all = commits(&room, "ben").await;
        assert!(is_ascending(&all) && all.len() == known.len() + 2, "{known:?} {all:?}");
        room.client("ben 2").read = read + 2;
        all_are_one(&mut room).await;
    }
}

#[tokio::test]
async fn whoever_joins_misses_nothing_that_comes_before_the_verdict() {
    for backend in BACKENDS {
        let mut room = Room::on(backend, |_| {}).await;
        room.add("alice", "bob", "mimi://b.example/d/bob/B", BOB).await;
        let comes = room.member("alice").commit(Change {
            updates: vec![add_participants(&[(BEN, templates::ORDINARY_USER)])],
            ..Change::default()
        });
        room.commit("alice", &comes).await;
        room.all_catch_up().await;
        // What is pending is void by the external commit, and is proposed again by the hub.
        let rename = room.member("alice").propose_component(&rename("Renamed"));
        room.client("alice").own.insert(rename.as_bytes().to_vec());
        room.update("alice", &proposals(&[rename])).await;
        room.all_catch_up().await;
        let gate = room.providers.hold_answers("a", Endpoint::Update);
        let device = MimiDevice::new("mimi://b.example/d/ben/B");
        let (query, private_key) = group_info_query(&device);
        let request = Bytes::from(GroupInfoRequest::from(query).to_bytes());
        let mimi = room.providers.mimi("b");
        let answer = mimi
            .forward_group_info(&user_of("ben"), &room.uri, &request)
            .await
            .unwrap();
        let opened = open_group_info(answer, &private_key);
        let info = opened.group_info.as_bytes();
        let (member, bundle) = device.join_externally_with(info, &opened.ratchet_tree_option, &[], &[]);
        let read = room.inbox("ben").await.len();
        room.clients.insert("ben", Client::new(member, read));
        let begun = begin_commit(&mut room, "ben", &bundle).await;
        let ben = MimiUri::parse(BEN).unwrap();
        let readable = room.providers.store("b").readable_room(&ben, &room.uri).await.unwrap();
        assert_eq!(readable, None, "not before the hub has let him in");
        room.catch_up("alice").await;
        // With what the hub proposed again.
        let bundle = room.member("alice").update();
        room.commit("alice", &bundle).await;
        room.say("alice", "hello Ben").await;
        let_run().await;
        gate.add_permits(1);
        settled(begun).await;
        room.member("ben").merge();
        all_are_one(&mut room).await;
        assert_eq!(room.client("ben").heard, ["hello Ben"]);
        let readable = room.providers.store("b").readable_room(&ben, &room.uri).await.unwrap();
        let readable = readable.unwrap();
        assert_eq!((readable.from, readable.until), (LogPosition(read as i64 + 1), None));
        let bundle = room.member("bob").update();
        room.answers_again();
        room.commit("bob", &bundle).await;
        all_are_one(&mut room).await;
    }
}

impl Room {
    fn answers_again(&self) {
        self.providers.answers("a", Endpoint::Update, None);
    }
}

#[tokio::test]
async fn whoever_is_refused_reads_nothing() {
    let mut room = room_of_four(Backend::Sqlite).await;
    let device = MimiDevice::new("mimi://d.example/d/dave/D");
    let (info, tree) = {
        let mimi = room.providers.mimi("a");
        let open = mimi.open(&room.uri).await.unwrap().unwrap();
        (open.room().group().group_info(), open.room().group().ratchet_tree())
    };
    let (_, bundle) = device.join_externally_with(info.as_bytes(), &tree, &[], &[]);
    let refused = room.update("dave", &bundle.to_request()).await;
    assert!(!matches!(refused.verdict, UpdateVerdict::Success { .. }));
    let rooms = room.providers.store("d").rooms_readable_by(&user_of("dave")).await;
    assert_eq!(rooms.unwrap(), []);
    let order = room.providers.store("d").local_order(&room.uri).await.unwrap();
    assert_eq!(order, nabe_store::LocalOrder::default());
}

#[tokio::test]
async fn what_was_accepted_when_the_follower_crashed_is_in_its_log_after_the_restart() {
    for backend in BACKENDS {
        let mut room = room_of_four(backend).await;
        let gate = room.providers.hold_answers("a", Endpoint::Update);
        let bundle = room.member("bob").update();
        let begun = begin_commit(&mut room, "bob", &bundle).await;
        // The answer goes nowhere. Bob's phone is off; nobody asks again but the provider.
        room.providers.crash("b").await;
        begun.abort();
        room.answers_again();
        drop(gate);
        eventually("the verdict is known", || async { open_forwards(&room).await == 0 }).await;
        room.member("bob").merge();
        let message = room.message("bob", "said");
        room.providers
            .answers("a", Endpoint::SubmitMessage, Some(Answers::Lost));
        let mimi = room.providers.mimi("b");
        let lost = mimi.forward_submit(&user_of("bob"), &room.uri, &message).await;
        assert!(lost.is_err(), "{lost:?}");
        room.providers.crash("b").await;
        room.providers.answers("a", Endpoint::SubmitMessage, None);
        in_time(&room, "the verdict is known", async || open_forwards(&room).await == 0).await;
        all_are_one(&mut room).await;
        assert_eq!(room.client("ben").heard, ["said"]);
        // Bob's phone asks again, and hears the same without the hub.
        room.providers.set_down("a", true);
        let again = room.update("bob", &bundle.to_request()).await;
        assert!(matches!(again.verdict, UpdateVerdict::Success { .. }), "{again:?}");
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_at_the_follower_stops_nothing() {
    let mut room = room_of_four(Backend::Memory).await;
    let gate = room.providers.hold_answers("a", Endpoint::Update);
    let bundle = room.member("bob").update();
    let begun = begin_commit(&mut room, "bob", &bundle).await;
    begun.abort();
    gate.add_permits(1);
    eventually("the verdict is known", || async { open_forwards(&room).await == 0 }).await;
    room.member("bob").merge();
    all_are_one(&mut room).await;
}

#[tokio::test]
async fn an_answer_that_is_lost_again_and_again_holds_nothing_up_for_ever() {
    for backend in BACKENDS {
        let mut room = room_of_four(backend).await;
        room.providers.answers("a", Endpoint::Update, Some(Answers::Lost));
        let bundle = room.member("bob").update();
        let mimi = room.providers.mimi("b");
        let body = Bytes::from(bundle.to_request());
        assert!(mimi.forward_update(&user_of("bob"), &room.uri, &body).await.is_err());
        room.is_delivered().await;
        room.catch_up("alice").await;
        let before = room.inbox("ben").await.len();
        room.say("alice", "hello").await;
        let since = crate::ports::Clock::now(&room.providers.clock);
        in_time(&room, "the message comes", async || {
            room.inbox("ben").await.len() > before
        })
        .await;
        // The hub's own pauses are longer and longer by then.
        let took = crate::ports::Clock::now(&room.providers.clock).saturating_since(since);
        assert!(took >= MAX_WAIT && took < MAX_WAIT * 4, "{took:?}");
        // Asked again after a day, the hub would take it for another request.
        room.providers.advance(Duration::from_hours(23));
        in_time(&room, "it is given up", async || open_forwards(&room).await == 0).await;
    }
}

#[tokio::test]
async fn a_hub_that_gives_no_verdict_is_asked_again_after_pauses_however_often_it_is_heard() {
    // In memory nothing waits for a disk, so that the clock can be watched.
    let mut room = room_of_four(Backend::Memory).await;
    room.providers.answers("a", Endpoint::Update, Some(Answers::Lost));
    let bundle = room.member("bob").update();
    let mimi = room.providers.mimi("b");
    let body = Bytes::from(bundle.to_request());
    room.client("bob").own.insert(bundle.commit.as_bytes().to_vec());
    assert!(mimi.forward_update(&user_of("bob"), &room.uri, &body).await.is_err());
    room.member("bob").merge();
    room.answers_again();
    room.is_delivered().await;
    room.catch_up("alice").await;
    // What it is asked now, it answers at once, and with nothing.
    room.providers
        .intercept(|_, request| (request.endpoint == Endpoint::Update).then(|| status(500, None)));
    let asked = || room.providers.made("a", Endpoint::Update).len();
    let before = asked();
    let heard = || room.providers.made("b", Endpoint::Notify).len();
    let notified = heard();
    let bundle = room.clients.get_mut("alice").unwrap().member.update();
    let user = user_of("alice");
    let body = Bytes::from(bundle.to_request());
    let taken = room.providers.mimi("a").forward_update(&user, &room.uri, &body).await;
    assert!(matches!(taken.unwrap().verdict, UpdateVerdict::Success { .. }));
    eventually("it is heard", || async { heard() > notified && asked() > before }).await;
    for second in 0..30 {
        let_run().await;
        room.inbox("ben").await;
        room.providers.advance(Duration::from_secs(1));
        // By its own pauses, and as often because it is heard: after 1, 2, 4, 8 and 16 seconds.
        let most = 2 * (2 + usize::BITS - usize::leading_zeros(second)) as usize;
        assert!(asked() - before <= most, "{} after {second} s", asked() - before);
    }
    in_time(&room, "it is heard again and again", async || heard() > notified + 2).await;
    room.providers.intercept(|_, _| None);
    room.client("alice").own.insert(bundle.commit.as_bytes().to_vec());
    room.member("alice").merge();
    in_time(&room, "the verdict is known", async || open_forwards(&room).await == 0).await;
    in_time(&room, "all is delivered", async || is_all_delivered(&room).await).await;
    all_are_one(&mut room).await;
}

async fn is_all_delivered(room: &Room) -> bool {
    let followers = room.providers.store("a").mimi_followers(&room.uri).await.unwrap();
    followers.iter().all(|it| it.dirty_since.is_none())
}

#[tokio::test]
async fn what_cannot_have_been_taken_is_not_sent_again() {
    let mut room = room_of_four(Backend::Memory).await;
    for answer in [Err(crate::ports::PeerError::Tls.into()), status(413, None)] {
        let answer = std::sync::Mutex::new(Some(answer));
        room.providers.intercept(move |_, request| {
            let is_it = request.endpoint == Endpoint::SubmitMessage;
            is_it.then(|| answer.lock().unwrap().take().unwrap())
        });
        let message = room.message("bob", "never");
        let mimi = room.providers.mimi("b");
        assert!(mimi.forward_submit(&user_of("bob"), &room.uri, &message).await.is_err());
        assert_eq!(open_forwards(&room).await, 0);
    }
}

/// A hub that sends back what came from the provider, in whatever way.
#[tokio::test]
async fn what_comes_back_is_not_delivered_twice() {
    for backend in BACKENDS {
        let mut room = room_of_four(backend).await;
        let bundle = room.member("bob").update();
        let gate = room.providers.hold_answers("a", Endpoint::Update);
        let begun = begin_commit(&mut room, "bob", &bundle).await;
        let echo = |with| FanoutMessage {
            timestamp: 5,
            message: bundle.commit.clone(),
            with,
        };
        let notify = async |messages: Vec<FanoutMessage>| {
            let batch = nabe_wire::notify::FanoutBatch::new(messages).unwrap();
            let body = batch.to_bytes();
            let mimi = room.providers.mimi("b");
            mimi.notify(&server("a"), &room.uri, &batch, &body).await.unwrap();
        };
        let commit = || FanoutParts::Commit {
            external_proposals: Vec::new(),
        };
        let before = room.inbox("ben").await.len();
        // Before the verdict, and with something after it.
        let text = {
            let mut text = room.inbox("ben").await[0].clone();
            text.timestamp = 6;
            text
        };
        notify(vec![echo(commit()), text.clone()]).await;
        gate.add_permits(1);
        settled(begun).await;
        assert_eq!(room.inbox("ben").await.len(), before + 1, "the text is the old Welcome");
        // Afterwards: alone, and with what the hub proposes.
        notify(vec![echo(commit())]).await;
        assert_eq!(room.inbox("ben").await.len(), before + 1);
        let again = room.providers.key("a").propose(
            0,
            room.providers
                .mimi("a")
                .open(&room.uri)
                .await
                .unwrap()
                .unwrap()
                .room()
                .group(),
            nabe_wire::mls::Proposal::AppDataUpdate(rename("Renamed")),
            &[],
        );
        let stapled = FanoutParts::Commit {
            external_proposals: vec![again.clone()],
        };
        notify(vec![echo(stapled)]).await;
        let inbox = room.inbox("ben").await;
        assert_eq!(inbox.len(), before + 2);
        assert_eq!(inbox[before + 1].message, again);
        assert!(matches!(inbox[before + 1].with, FanoutParts::Proposal { .. }));
    }
}
